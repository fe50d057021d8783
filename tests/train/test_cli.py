"""``flask train`` from the command line."""

import json
import subprocess
import sys

import pytest

from apps.vision.train.shipped import SHIPPED
from apps.vision.zoo.classifiers import LARGER, get_classifier
from tests.train import pictures

QUICK = ["--set", "accelerator=cpu", "--set", "network=lenet5", "--set", "size=28", "--epochs", "1"]


@pytest.fixture
def train(make_app):
    app = make_app()

    def train(*arguments: object):
        return app.test_cli_runner().invoke(args=["train", *(str(each) for each in arguments)])

    return train


def test_list_shows_the_recipe_of_every_classifier_that_is_trained_here(train):
    lines = train("list").output.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(SHIPPED)


@pytest.mark.parametrize("name", list(SHIPPED))
def test_a_recipe_makes_what_its_classifier_is_loaded_into(name):
    recipe = SHIPPED[name].recipe
    assert name.partition(".")[0] == recipe.network
    given = LARGER[name][2] if name in LARGER else get_classifier(name).input
    assert (given.channels, given.size, given.resize) == (
        recipe.channels, recipe.size, recipe.resize,
    )  # fmt: skip
    assert (given.mean, given.std) == (recipe.mean, recipe.std)


def test_a_shipped_model_is_trained_from_the_folder_of_all_data(train, tmp_path):
    pictures.idx(tmp_path / "data" / "mnist")
    result = train(
        "classifier", "--name", "lenet5.mnist", "--data", tmp_path / "data", "--out",
        tmp_path / "out", "--epochs", "1", "--set", "accelerator=cpu", "--set", "held_out=0.25",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "train: 40 pictures in 10 classes" in result.stderr
    assert "accuracy on the test part" in result.output
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["name"], card["labels"][3]) == ("lenet5.mnist", "3")
    assert (tmp_path / "out" / "lenet5.mnist.safetensors").stat().st_size == card["size"]


def test_a_training_is_paused_and_resumed(train, tmp_path):
    data = pictures.folder(tmp_path / "data")
    call = ["classifier", "--data", data, "--out", tmp_path / "out", *QUICK, "--epochs", "2"]
    assert "--resume" in train(*call, "--pause-after", "0.00001").output
    assert train(*call).exit_code == 1  # the folder is taken
    result = train(*call, "--resume")
    assert "2 epochs, ended by epochs" in result.output


def test_a_training_says_which_strategy_auto_chose(train, tmp_path):
    data = pictures.folder(tmp_path / "data")
    train("classifier", "--data", data, "--out", tmp_path / "a", *QUICK)
    result = train(
        "classifier", "--data", data, "--out", tmp_path / "b", *QUICK, "--set", "strategy=auto",
        "--set", "similar=true", "--set", f"pretrained={tmp_path / 'a' / 'lenet5.safetensors'}",
    )  # fmt: skip
    assert "strategy head" in result.output.splitlines()


def test_a_recipe_file_is_what_a_training_begins_with(train, tmp_path):
    data = pictures.folder(tmp_path / "data")
    train("classifier", "--data", data, "--out", tmp_path / "a", *QUICK, "--seed", "5")
    train(
        "classifier", "--data", data, "--out", tmp_path / "b",
        "--recipe", tmp_path / "a" / "recipe.json",
    )  # fmt: skip
    first, second = (tmp_path / name / "recipe.json" for name in ("a", "b"))
    assert first.read_text() == second.read_text()


def test_search_and_crossvalidate_report_each_training(train, tmp_path):
    data = pictures.folder(tmp_path / "data")
    result = train(
        "search", "--data", data, "--out", tmp_path / "s", *QUICK, "--method", "grid",
        "--over", "lr=0.01,0.001",
    )  # fmt: skip
    assert result.output.count("trial") == 2
    assert "best: " in result.output
    result = train("crossvalidate", "--data", data, "--out", tmp_path / "c", *QUICK, "--folds", 2)
    assert result.output.count("fold ") == 2
    assert "over 2 folds" in result.output


@pytest.mark.parametrize("call", [["search", "--over", "lr=0.01"], ["crossvalidate"]])
def test_search_and_crossvalidate_check_the_data_first(train, tmp_path, call):
    data = pictures.folder(tmp_path / "data")
    (data / "train" / "circles" / "torn.png").write_bytes(b"no picture")
    call = [*call, "--data", data, "--out", tmp_path / "out", *QUICK]
    result = train(*call)
    assert result.exit_code == 1
    assert "circles/torn.png" in result.stderr
    assert "trial" not in result.output
    assert not (tmp_path / "out").exists()
    assert "The data cannot be trained on" not in train(*call, "--no-check").output


def test_check_reports_and_fails_only_where_training_would(train, tmp_path):
    path = pictures.folder(tmp_path / "data")
    good = train("check", path)
    assert (good.exit_code, "nothing is wrong" in good.output) == (0, True)
    (path / "train" / "circles" / "torn.png").write_bytes(b"no picture")
    bad = train("check", path)
    assert bad.exit_code == 1
    assert "circles/torn.png" in bad.output


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--set", "lr=fast"], "lr is fast in the recipe, but must be a number"),
        (["--set", "speed=1"], "no field “speed”"),
        (["--set", "lr"], "write it as key=value"),
        (["--name", "lenet5.mnist"], "has the classes circles, squares"),
        (["--set", "pretrained=none.safetensors"], "no file none.safetensors"),
        (["--set", "held_out=0.99"], "held_out is 0.99"),
    ],
)
def test_errors_say_what_to_change(train, tmp_path, more, told):
    data = pictures.folder(tmp_path / "data")
    result = train("classifier", "--data", data, "--out", tmp_path / "out", *more)
    assert result.exit_code == 1
    assert told in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_is_not_there_is_named(train, tmp_path):
    result = train("classifier", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert f"There is no folder {tmp_path / 'none'}" in result.output


def test_the_web_process_does_not_import_what_only_training_needs():
    code = (
        "import sys, apps.app, apps.cli; "
        "print([n for n in ('torch', 'lightning', 'torchmetrics', 'optuna') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
