"""Detectors in training: the loss falls, runs resume, and what is written can be loaded."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from apps.cli.train import Counted
from apps.errors import InvalidInput
from apps.vision.formats import coco
from apps.vision.train import runs
from apps.vision.train.detection.augment import Augmenter
from apps.vision.train.detection.make import (
    begin_with,
    begun_from,
    build_network,
    measure_file,
    sized,
    train_detector,
)
from apps.vision.train.detection.module import losses
from apps.vision.train.detection.parts import divide
from apps.vision.train.detection.pictures import PictureStore
from apps.vision.train.detection.recipe import RECIPES, DetectorRecipe
from apps.vision.zoo.architectures import LIGHT, SMALL, TINY, Origin
from tests.train.boxes import divided, rectangles, smears

SMALLEST: dict[str, Any] = {
    "name": "made",
    "accelerator": "cpu",
    "seen": (96, 64),
    "width": 96,
    "height": 64,
    "keep": 96,
    "epochs": 2,
    "batch": 2,
    "zoom": (0.9, 1.2),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = rectangles(tmp_path_factory.mktemp("boxes"), 6)
    return divided(made, "train", "train", "train", "train", "val", "test")


@pytest.mark.parametrize("builder", [SMALL, LIGHT, TINY])
def test_the_loss_falls_in_a_few_steps(builder, tmp_path):
    store = PictureStore.of(smears(tmp_path, 2), 160)
    recipe = DetectorRecipe(builder=builder, zoom=(1.0, 1.0), mirror=0.0).sized(128, 160)
    torch.manual_seed(0)
    network = build_network(recipe, 1).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    views, targets = Augmenter(store, recipe)(torch.arange(2), 0.0)
    seen = []
    for _ in range(12):
        loss = torch.stack(list(losses(network, views, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert sum(seen[-3:]) < 0.7 * sum(seen[:3])


def test_other_detectors_of_torchvision_give_losses_too(tmp_path):
    store = PictureStore.of(rectangles(tmp_path, 2), 96)
    recipe = DetectorRecipe(builder="ssdlite320_mobilenet_v3_large").sized(64, 96)
    network = build_network(recipe, 2).train()
    views, targets = Augmenter(store, recipe)(torch.arange(2), 0.0)
    parts = losses(network, views, targets)
    assert set(parts) == {"bbox_regression", "classification"}
    assert all(torch.isfinite(part) for part in parts.values())


@pytest.mark.parametrize(
    ("builder", "values", "width", "height"),
    [
        ("fasterrcnn_resnet50_fpn", {}, 1344, 800),
        ("fasterrcnn_resnet50_fpn_v2", {}, 1344, 800),
        ("fasterrcnn_mobilenet_v3_large_fpn", {}, 1344, 800),
        ("fasterrcnn_resnet50_fpn", {"seen": (640, 480)}, 640, 480),
        (SMALL, {}, 320, 256),
        (LIGHT, {}, 320, 320),
        (TINY, {}, 192, 192),
    ],
)
def test_objects_are_as_large_in_training_as_in_use(tmp_path, builder, values, width, height):
    still: dict[str, Any] = {"zoom": (1.0, 1.0), "stretch": 0.0, "mirror": 0.0}
    recipe = DetectorRecipe(builder=builder, **still, **values)
    with torch.device("meta"):
        network = build_network(recipe, 2)
    store = PictureStore.of(rectangles(tmp_path, 1), 96)
    views, [target] = Augmenter(store, sized(recipe, network))(torch.tensor([0]), 0.0)
    assert views.shape == (1, 3, height, width)
    boxes = {"boxes": store.truths[0].boxes}
    _, [seen] = network.transform.eval()([store.picture(0)], [boxes])
    sides, wanted = (b[:, 2:] - b[:, :2] for b in (target["boxes"], seen["boxes"]))
    assert torch.allclose(sides, wanted, rtol=0.02)


def test_sizes_that_are_set_are_kept():
    recipe = DetectorRecipe(width=160, keep=96).sized(800, 1333)
    assert recipe.sides == (160, 800, 96)
    assert DetectorRecipe().sized(800, 1333).sides.keep == 1333
    assert DetectorRecipe().sized(192, 192).sides.keep == 640


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A training of two epochs, its folder and its card."""
    out = tmp_path_factory.mktemp("run")
    run, card = train_detector(DetectorRecipe(**SMALLEST), data, out, said={"data": "drawn"})
    return run, card, out


def test_a_run_leaves_weights_and_a_card_that_fit_each_other(finished, data):
    run, card, out = finished
    assert (run.epochs, run.steps, run.ended) == (2, 4, "epochs")
    assert card == json.loads((out / "card.json").read_text())
    assert card["sha256"] == runs.sha256_of(out / "made.safetensors")
    assert card["size"] == (out / "made.safetensors").stat().st_size < 15e6
    assert card["split"] == {"train": 4, "val": 1, "test": 1}
    assert set(card["per_class"]) == {"flat", "tall"}
    assert card["data"] == "drawn"
    assert {row["epoch"] for row in runs.read_metrics(out)} == {0, 1}
    assert "val_ap50" in runs.read_metrics(out)[-1]
    recipe = DetectorRecipe.from_dict(card["recipe"])
    again = measure_file(out / card["file"], recipe, divide(data, recipe).test)
    assert round(again.ap50, 4) == card["ap50"]


def test_a_paused_training_goes_on_to_the_same_weights(finished, data, tmp_path):
    recipe = DetectorRecipe(**SMALLEST)
    paused, nothing = train_detector(recipe, data, tmp_path, pause_after=1e-6)
    assert (paused.ended, paused.epochs, nothing) == ("paused", 1, None)
    resumed, card = train_detector(recipe, data, tmp_path, resume=True)
    assert (resumed.ended, resumed.epochs) == ("epochs", 2)
    assert card["sha256"] == finished[1]["sha256"]


def test_the_last_checkpoint_is_of_the_last_epoch_even_if_that_was_not_validated(data, tmp_path):
    recipe = DetectorRecipe(**SMALLEST | {"epochs": 3, "validate_every": 2})
    run, _card = train_detector(recipe, data, tmp_path)
    steps = [torch.load(path, weights_only=False)["global_step"] for path in (run.best, run.last)]
    assert steps == [4, 6]
    measured = [row["epoch"] for row in runs.read_metrics(tmp_path) if "val_ap" in row]
    assert measured == [1]  # an epoch without a validation repeats no older figure


def test_weights_for_other_classes_can_be_begun_with(finished):
    _, card, out = finished
    state = runs.load_weights(out / card["file"])
    recipe = DetectorRecipe(**SMALLEST)
    network = build_network(recipe, 5)
    begin_with(network, state)
    own = network.state_dict()
    name = "backbone.body.0.0.weight" if "backbone.body.0.0.weight" in own else next(iter(own))
    assert torch.equal(own[name], state[name])
    with pytest.raises(InvalidInput, match="another network"):
        begin_with(build_network(DetectorRecipe(builder=LIGHT), 2), state)


@pytest.mark.parametrize("origin", [Origin.COCO, Origin.SCRATCH])
def test_a_file_tells_whether_its_batch_norms_are_frozen(origin):
    recipe = DetectorRecipe(builder="fasterrcnn_mobilenet_v3_large_320_fpn")
    assert begun_from(recipe.builder, build_network(recipe, 2, origin).state_dict()) is origin
    assert begun_from(LIGHT, {}) is Origin.SCRATCH
    assert begun_from(recipe.builder, None) is Origin.SCRATCH


def test_networks_that_learn_from_outlines_are_refused():
    with pytest.raises(InvalidInput, match="outlines"):
        build_network(DetectorRecipe(builder="maskrcnn_resnet50_fpn"), 2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_makes_a_network_that_may_be_embedded(name):
    recipe = RECIPES[name]
    with torch.device("meta"):
        network = build_network(recipe, 20)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count <= 14_000_000
    assert 2 * sum(value.numel() for value in network.state_dict().values()) <= 28e6
    assert DetectorRecipe.from_dict(json.loads(recipe.to_json())) == recipe


@pytest.mark.parametrize(
    "values",
    [{"zoom": (2.0, 1.0)}, {"mirror": 2}, {"width": 8}, {"rule": "own"}, {"seen": (320,)},
     {"sizes": ()}, {"brightness": 1.0}, {"test": -1}],
)  # fmt: skip
def test_values_that_no_training_can_have_are_refused(values):
    with pytest.raises(InvalidInput, match=next(iter(values))):
        DetectorRecipe(**values)


# -- the command line -----------------------------------------------------------------------


@pytest.fixture
def train(make_app):
    app = make_app()

    def train(*arguments: object):
        return app.test_cli_runner().invoke(args=["train", *(str(each) for each in arguments)])

    return train


QUICK = [
    part
    for key, value in SMALLEST.items()
    for part in (
        "--set",
        f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}",
    )
]


def test_a_folder_is_checked_trained_on_and_evaluated(train, tmp_path):
    data = divided(rectangles(tmp_path / "data", 4), "train", "train", "val", "test")
    coco.write(data, tmp_path / "data" / coco.ANNOTATIONS)
    checked = train("check", tmp_path / "data")
    assert checked.exit_code == 0, checked.output
    assert "train: 2 pictures, 4 boxes: flat 2, tall 2" in checked.output
    call = ["--data", tmp_path / "data", *QUICK]
    out = tmp_path / "out"
    done = train("detector", *call, "--out", out, "--epochs", "1", "--builder", SMALL)
    assert done.exit_code == 0, done.output
    assert "on the test part AP50" in done.output
    result = train("evaluate", *call, "--weights", out / "made.safetensors", "--json")
    card = json.loads((out / "card.json").read_text())
    assert json.loads(result.output)["per_class"] == card["per_class"]
    again = train("detector", *call, "--out", out, "--epochs", "1")
    assert again.exit_code == 1
    assert "Resume it" in again.output


def test_a_check_that_takes_long_says_how_far_it_is(train, tmp_path, monkeypatch):
    coco.write(rectangles(tmp_path, 3), tmp_path / coco.ANNOTATIONS)
    assert "of 3 pictures" not in train("check", tmp_path).stderr
    monkeypatch.setattr(Counted, "EVERY", 0.0)
    assert train("check", tmp_path).stderr.endswith("\r3 of 3 pictures\n")


def test_broken_data_is_refused_unless_it_is_repaired(train, tmp_path):
    data = divided(rectangles(tmp_path, 5), "train", "train", "val", "test")
    coco.write(data, tmp_path / coco.ANNOTATIONS)
    data.pictures[0].file.path.unlink()
    call = ["detector", "--data", tmp_path, *QUICK, "--epochs", "1"]
    refused = train(*call, "--out", tmp_path / "a")
    assert refused.exit_code == 1
    assert "missing" in refused.output
    assert "images/0.png" in refused.output
    assert not (tmp_path / "a").exists()
    assert train("check", tmp_path).exit_code == 1
    assert train(*call, "--out", tmp_path / "b", "--repair").exit_code == 0


def test_a_file_of_weights_can_be_begun_with(train, tmp_path, finished):
    data = divided(rectangles(tmp_path / "data", 4), "train", "train", "val", "test")
    coco.write(data, tmp_path / "data" / coco.ANNOTATIONS)
    weights = finished[2] / "made.safetensors"
    call = ["detector", "--data", tmp_path / "data", *QUICK, "--epochs", "1"]
    done = train(*call, "--weights", weights, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["origin"] == "scratch"  # our own networks are the same whatever they begin with
    assert card["begins_with"] == {"name": weights.name, "sha256": finished[1]["sha256"]}
    unknown = train(*call, "--weights", "no.such", "--out", tmp_path / "no")
    assert "no model “no.such”" in unknown.output


def test_weights_of_another_network_or_for_other_classes_are_told(train, tmp_path, finished):
    data = divided(rectangles(tmp_path, 1), "test")  # needs no other part
    path = tmp_path / coco.ANNOTATIONS
    coco.write(data, path)
    call = ["evaluate", "--data", tmp_path, *QUICK, "--weights", finished[2] / "made.safetensors"]
    measured = train(*call)
    assert measured.exit_code == 0, measured.output
    assert "1 pictures" in measured.output
    other = train(*call, "--builder", LIGHT)
    assert other.exit_code == 1
    assert f"These weights belong to {SMALL}, not to {LIGHT}" in other.output
    coco.write(replace(data, classes=(*data.classes, "third")), path)
    more = train(*call)
    assert more.exit_code == 1
    assert "trained for 2 classes, the list has 3" in more.output
    assert "Traceback" not in more.output
    lacking = train(*call, "--part", "train")
    assert "No picture is left for the part “train”" in lacking.output
