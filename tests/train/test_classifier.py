"""Training of classifiers: every network learns, transfer freezes what it says, folds, search."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from apps.errors import InvalidInput
from apps.vision.train import crossvalidation, make, transfer
from apps.vision.train.classifier import (
    NETWORKS,
    SIDES,
    ClassifierModule,
    Measured,
    Pictures,
    build,
    measure,
)
from apps.vision.train.crossvalidation import cross_validate, folds_of
from apps.vision.train.data import open_source
from apps.vision.train.fit import fit
from apps.vision.train.make import train_classifier
from apps.vision.train.module import make_optimizer
from apps.vision.train.search import Method, search_recipes
from apps.vision.train.transfer import Strategy
from apps.vision.zoo.store import sha256_of
from apps.vision.zoo.transfer import transferred_resnet18
from tests.train import pictures


@pytest.fixture
def source(tmp_path):
    return open_source(pictures.folder(tmp_path / "data"))


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "resnet34"])
def test_the_loss_of_every_network_falls(source, network, monkeypatch):
    recipe = pictures.recipe(
        network=network, size=SIDES.get(network, 64), dropout=0, held_out=0.1, seed=1
    )
    torch.manual_seed(0)
    module = ClassifierModule(build(recipe, 2), recipe, 2)
    optimizer = make_optimizer(module.groups(), recipe.changed({"lr": 1e-4, "optimizer": "adam"}))
    batch = Pictures(source, recipe).train.__getitems__([0, 1, 12, 13])
    monkeypatch.setattr(module, "log", lambda *_arguments, **_options: None)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[1:]) < losses[0]


def test_a_training_leaves_weights_card_and_confusion_matrix_that_fit(source, tmp_path):
    recipe = pictures.recipe(name="halves.v1", epochs=4, augment="shift", ema=0.5, mixup=0.2)
    run, card = train_classifier(recipe, source, tmp_path / "run", said={"data": "made"})
    assert card == json.loads((run.out / "card.json").read_text())
    weights = run.out / "halves.v1.safetensors"
    assert (card["file"], card["size"]) == (weights.name, weights.stat().st_size)
    assert card["sha256"] == sha256_of(weights)
    assert {t.dtype for t in load_file(weights).values()} == {torch.float16, torch.int64}
    assert card["labels"] == ["circles", "squares"]
    assert card["split"] == {"train": 18, "validation": 6, "test": 12}
    assert (card["data"], card["recipe"]["lr"]) == ("made", 1e-3)
    with (run.out / "confusion.csv").open() as file:
        rows = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    assert [sum(row) for row in rows] == [6, 6]
    right = rows[0][0] + rows[1][1]
    assert card["accuracy"] == pytest.approx(right / 12, abs=1e-3)
    assert card["per_class"]["circles"] == pytest.approx(rows[0][0] / 6, abs=1e-3)
    assert "squares" in (run.out / "confusion.svg").read_text()


def test_pictures_that_differ_are_told_apart(source, tmp_path):
    recipe = pictures.recipe(network="lenet5", size=28, epochs=15, lr=3e-3)
    _run, card = train_classifier(recipe, source, tmp_path / "run")
    assert card["accuracy"] > 0.9


def test_the_test_part_is_measured_on_the_device_of_the_training(source, tmp_path, monkeypatch):
    seen = []

    def elsewhere(module, *arguments, **options):
        run = fit(module, *arguments, **options)
        device = property(lambda _strategy: torch.device("meta"))
        monkeypatch.setattr(type(module.trainer.strategy), "root_device", device)
        return run

    def watch(network, *_arguments):
        seen.append(next(network.parameters()).device.type)
        return Measured(0.5, (0.5, 0.5), ((3, 3), (3, 3)))

    monkeypatch.setattr(make, "fit", elsewhere)
    monkeypatch.setattr(make, "measure", watch)
    train_classifier(pictures.recipe(network="lenet5", size=28, epochs=1), source, tmp_path / "run")
    assert seen == ["meta"]


def test_a_paused_training_has_no_card_yet_and_goes_on_to_one(source, tmp_path):
    recipe = pictures.recipe(network="lenet5", size=28)
    run, card = train_classifier(recipe, source, tmp_path / "run", pause_after=1e-6)
    assert (run.ended, card) == ("paused", None)
    run, card = train_classifier(recipe, source, tmp_path / "run", resume=True)
    assert (run.epochs, card["trained"]["ended"]) == (2, "epochs")


def test_a_resumed_classifier_ends_as_an_uninterrupted_one(source, tmp_path):
    recipe = pictures.recipe(
        network="lenet5", size=28, epochs=3, dropout=0.3, augment="affine,erase", ema=0.9
    )
    train_classifier(recipe, source, tmp_path / "a", pause_after=1e-6)
    train_classifier(recipe, source, tmp_path / "a", resume=True)
    train_classifier(recipe, source, tmp_path / "b")
    first, second = (load_file(tmp_path / name / "lenet5.safetensors") for name in ("a", "b"))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name])


def test_dropout_and_batch_norm_can_be_changed():
    network = build(
        pictures.recipe(network="fashion_cnn", size=28, channels=1, mean="0", std="1"), 10
    )
    kinds = [type(layer).__name__ for layer in network.modules()]
    assert kinds.count("BatchNorm2d") == 2
    bare = build(
        pictures.recipe(
            network="fashion_cnn",
            size=28,
            channels=1,
            mean="0",
            std="1",
            batch_norm=False,
            dropout=0.7,
        ),
        10,
    )
    layers = list(bare.modules())
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in layers)
    assert [layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)] == [0.7]
    assert bare(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize(
    ("count", "similar", "strategy"),
    [
        (50, True, Strategy.HEAD), (50, False, Strategy.UPPER),
        (5000, True, Strategy.TUNE), (5000, False, Strategy.ALL),
    ],
)  # fmt: skip
def test_the_strategy_follows_size_and_likeness_of_the_data(count, similar, strategy):
    assert transfer.choose(count, similar=similar) is strategy


@pytest.fixture
def pretrained(source, tmp_path):
    recipe = pictures.recipe(epochs=1)
    run, card = train_classifier(recipe, source, tmp_path / "pretrained")
    return run.out / card["file"]


@pytest.mark.parametrize("strategy", [each for each in Strategy if each is not Strategy.AUTO])
def test_frozen_layers_and_their_statistics_do_not_change(source, tmp_path, pretrained, strategy):
    recipe = pictures.recipe(pretrained=str(pretrained), strategy=strategy, lr=0.01)
    torch.manual_seed(0)
    network = build(recipe, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    began = load_file(pretrained)
    assert torch.equal(before["conv1.weight"], began["conv1.weight"].float())
    module = ClassifierModule(network, recipe, 2)
    run = fit(module, Pictures(source, recipe), recipe, tmp_path / "run")
    last = torch.load(run.last, weights_only=False)["state_dict"]
    moved = {
        name for name, value in before.items() if not torch.equal(last[f"network.{name}"], value)
    }
    assert "fc.weight" in moved
    whole = strategy in (Strategy.TUNE, Strategy.ALL)
    assert ({"conv1.weight", "bn1.running_mean"} <= moved) is whole
    assert ("layer4.1.conv2.weight" in moved) is (strategy is not Strategy.HEAD)
    if strategy is Strategy.HEAD:
        assert moved == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("few", "similar", "chosen"),
    [
        (10, True, Strategy.HEAD), (10, False, Strategy.UPPER),
        (9, True, Strategy.TUNE), (9, False, Strategy.ALL),
    ],
)  # fmt: skip
def test_auto_chooses_the_strategy_by_the_pictures_of_each_class_and_the_card_says_it(
    source, tmp_path, pretrained, monkeypatch, few, similar, chosen
):
    monkeypatch.setattr(transfer, "FEW", few)  # 9 of each class train
    runs = {}
    for strategy, name in ((Strategy.AUTO, "auto"), (chosen, "chosen")):
        recipe = pictures.recipe(
            pretrained=str(pretrained), strategy=strategy, similar=similar, lr=0.01, epochs=1
        )
        runs[name], card = train_classifier(recipe, source, tmp_path / name)
        assert card["trained"]["strategy"] == chosen
        assert card["recipe"]["strategy"] == strategy
    ours, theirs = (load_file(run.out / "resnet18.safetensors") for run in runs.values())
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_auto_has_to_be_told_whether_the_pictures_are_similar(pretrained):
    with pytest.raises(InvalidInput, match=r"similar is None .* must be true or false"):
        pictures.recipe(pretrained=str(pretrained), strategy="auto")
    assert pictures.recipe(pretrained=str(pretrained), strategy="auto", similar="true").similar


def test_a_transferred_resnet_is_what_a_training_of_the_head_makes(source, tmp_path, pretrained):
    recipe = pictures.recipe(pretrained=str(pretrained), strategy="head", epochs=1)
    run, card = train_classifier(recipe, source, tmp_path / "run")
    assert card["trained"]["strategy"] == "head"
    network = transferred_resnet18(2, load_file(pretrained))
    learns = {name for name, value in network.named_parameters() if value.requires_grad}
    made, began = load_file(run.out / card["file"]), network.state_dict()
    assert {name for name in made if not torch.equal(made[name], began[name].half())} >= learns
    assert all(
        torch.equal(made[name].float(), value.float())
        for name, value in began.items()
        if name not in learns
    )
    network.load_state_dict(made)


def test_fine_tuning_moves_pretrained_layers_slower_than_the_new_one(pretrained):
    recipe = pictures.recipe(pretrained=str(pretrained), strategy="tune")
    groups = ClassifierModule(build(recipe, 2), recipe, 2).groups()
    assert {group.get("lr", recipe.lr) for group in groups} == {1e-3, 1e-4}


@pytest.mark.parametrize("what", ["missing", "other", "damaged"])
def test_pretrained_weights_that_do_not_fit_say_so(tmp_path, pretrained, what):
    file = {"missing": tmp_path / "none", "damaged": tmp_path / "bad.safetensors"}
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    network = "lenet5" if what == "other" else "resnet18"
    recipe = pictures.recipe(
        network=network, size=28, pretrained=str(file.get(what, pretrained)), strategy="head"
    )
    with pytest.raises(InvalidInput, match=r"safetensors|none"):
        build(recipe, 2)


def test_every_example_validates_once_in_folds_that_keep_the_classes_even():
    labels = [0] * 12 + [1] * 8
    folds = folds_of(labels, 4, seed=0)
    assert sorted(place for _train, held in folds for place in held) == list(range(20))
    assert all(set(train).isdisjoint(held) for train, held in folds)
    assert [[labels[place] for place in held].count(1) for _train, held in folds] == [2, 2, 2, 2]


@pytest.mark.parametrize("count", [1, 9])
def test_folds_that_cannot_be_made_are_refused(count):
    with pytest.raises(InvalidInput, match="2 to 8 folds"):
        folds_of([0] * 12 + [1] * 8, count, seed=0)


def test_cross_validation_gives_mean_and_deviation(source, tmp_path):
    said: list[str] = []
    recipe = pictures.recipe(network="lenet5", size=28, epochs=1)
    found = cross_validate(recipe, source, tmp_path / "cv", folds=3, report=said.append)
    assert len(found.scores) == len(said) == 3
    assert found.mean == pytest.approx(sum(found.scores) / 3)
    assert json.loads((tmp_path / "cv" / "folds.json").read_text())["mean"] == found.mean
    assert (tmp_path / "cv" / "fold-2" / "metrics.csv").is_file()


def test_cross_validation_leaves_the_test_part_alone_that_a_training_measures(
    tmp_path, monkeypatch
):
    source = open_source(pictures.folder(tmp_path / "data") / "train")
    recipe = pictures.recipe(network="lenet5", size=28, epochs=1, seed=4)
    seen: list[set[int]] = []

    def watch(module, parts, *arguments):
        seen.append({*parts.train.indices, *parts.val.indices})
        return fit(module, parts, *arguments)

    monkeypatch.setattr(crossvalidation, "fit", watch)
    cross_validate(recipe, source, tmp_path / "cv", folds=2)
    test = set(Pictures(source, recipe).test.indices)
    assert len(test) == 6
    assert seen == [set(range(24)) - test] * 2


def test_a_grid_is_walked_through_and_the_best_recipe_is_kept(source, tmp_path):
    recipe = pictures.recipe(network="lenet5", size=28, epochs=3, monitor="val_loss", mode="min")
    spaces = {"lr": "1e-9,0.003", "optimizer": "sgd,adam"}
    best = search_recipes(recipe, source, tmp_path / "s", spaces, Method.GRID)
    rows = list(csv.DictReader((tmp_path / "s" / "trials.csv").read_text().splitlines()))
    assert {(row["lr"], row["optimizer"]) for row in rows} == {
        (lr, optimizer) for lr in ("1e-9", "0.003") for optimizer in ("sgd", "adam")
    }
    assert best.values == {"lr": "0.003", "optimizer": "adam"}
    assert best.score == pytest.approx(min(float(row["val_loss"]) for row in rows))
    assert json.loads((tmp_path / "s" / "best.json").read_text())["lr"] == 0.003


def test_a_trial_that_is_lost_does_not_end_the_search(source, tmp_path):
    said: list[str] = []
    recipe = pictures.recipe(network="lenet5", size=28, epochs=1, optimizer="momentum")
    spaces = {"lr": "1e30,0.001"}
    best = search_recipes(recipe, source, tmp_path / "s", spaces, Method.GRID, report=said.append)
    assert best.values == {"lr": "0.001"}
    assert sum("failed: The training is lost" in line for line in said) == 1
    with pytest.raises(InvalidInput, match="Not one"):
        search_recipes(recipe, source, tmp_path / "t", {"lr": "1e30"}, Method.GRID)


@pytest.mark.parametrize("method", [Method.RANDOM, Method.BAYESIAN])
def test_a_search_over_ranges_draws_the_same_values_for_a_seed(source, tmp_path, method):
    recipe = pictures.recipe(network="lenet5", size=28, epochs=1)
    drawn = []
    for name in ("a", "b"):
        search_recipes(
            recipe, source, tmp_path / name, {"lr": "1e-5..1e-1", "batch": "2..9"}, method, trials=2
        )
        drawn.append(
            list(csv.DictReader((tmp_path / name / "trials.csv").read_text().splitlines()))
        )
    assert drawn[0] == drawn[1]
    assert all(1e-5 <= float(row["lr"]) <= 0.1 and 2 <= int(row["batch"]) <= 9 for row in drawn[0])


@pytest.mark.parametrize(
    ("spaces", "method", "told"),
    [
        ({"speed": "1,2"}, Method.GRID, "no field “speed”"),
        ({"lr": "fast,slow"}, Method.GRID, "lr is fast"),
        ({"lr": "0.1..0.01"}, Method.RANDOM, "no range for lr"),
        ({"lr": "0.1..1"}, Method.GRID, "list of values for lr"),
    ],
)
def test_a_space_that_is_none_is_told_before_the_first_training(
    source, tmp_path, spaces, method, told
):
    with pytest.raises(InvalidInput, match=told):
        search_recipes(pictures.recipe(), source, tmp_path / "s", spaces, method)
    assert not (tmp_path / "s").exists()


def test_measured_accuracy_counts_what_is_right(source):
    recipe = pictures.recipe(size=8)
    examples = Pictures(source, recipe).test

    class Left(torch.nn.Module):
        """Says circles where the left half is brighter, but never looks at every third."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch):
            left, right = batch[..., :4].mean((1, 2, 3)), batch[..., 4:].mean((1, 2, 3))
            logits = torch.stack([left, right], 1) * self.scale
            logits[::3] = torch.tensor([1.0, 0.0])
            return logits

    measured = measure(Left(), examples, 2)
    assert measured.confusion == ((6, 0), (2, 4))
    assert measured.accuracy == pytest.approx(10 / 12)
    assert measured.per_class == pytest.approx((1.0, 4 / 6))
