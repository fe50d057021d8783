"""The backbone's first lesson: what is cut out, what is learned, and where it goes."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from apps.errors import Conflict, InvalidInput
from apps.vision.train import runs
from apps.vision.train.detection.crops import Crops
from apps.vision.train.detection.make import build_network, train_detector
from apps.vision.train.detection.pictures import PictureStore
from apps.vision.train.detection.recipe import DetectorRecipe
from apps.vision.zoo.architectures import TINY
from tests.train.boxes import divided, rectangles, smears
from tests.train.test_detection_training import SMALLEST

WITH_CROPS: dict[str, Any] = SMALLEST | {
    "crops": 3,
    "crops_side": 32,
    "crops_batch": 4,
    "crops_lr": 1e-2,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = rectangles(tmp_path_factory.mktemp("boxes"), 12)
    return divided(made, "train", "train", "train", "train", "val", "test")


@pytest.fixture
def crops(data):
    return Crops(
        PictureStore.of(data, 96),
        DetectorRecipe(crops_side=32, stretch=0.0, brightness=0.0, contrast=0.0),
    )


def test_a_view_shows_its_object_in_the_middle_and_nothing_else(crops):
    views, labels = crops(torch.arange(len(crops)), disturbed=False)
    assert views.shape == (24, 3, 32, 32)
    assert set(labels.tolist()) == {0, 1}
    for view, label in zip(views, labels, strict=True):
        bright = view.mean(0) > 0.5
        rows, columns = torch.where(bright)
        height, width = (int(c.max() - c.min()) + 1 for c in (rows, columns))
        assert (width > height) == (label == 0)  # flat
        assert max(width, height) == pytest.approx(32 / 1.15, abs=2)
        middle = torch.stack([rows, columns]).float().mean(1)
        torch.testing.assert_close(middle, torch.full((2,), 15.5), rtol=0, atol=1.0)


def test_disturbed_views_differ_and_the_seed_decides_them(crops):
    numbers = torch.zeros(4, dtype=torch.int64)
    torch.manual_seed(3)
    views, _ = crops(numbers, disturbed=True)
    torch.manual_seed(3)
    again, _ = crops(numbers, disturbed=True)
    assert torch.equal(views, again)
    assert not torch.equal(views[0], views[1])
    assert (views.mean(1) > 0.8).flatten(1).any(1).all()  # the object is still there


def test_difficult_and_tiny_objects_are_left_out(data):
    store = PictureStore.of(data, 96)
    for number in (0, 1):
        store.truths[number].difficult[0] = True
    store.truths[2].boxes[0, 2:] = store.truths[2].boxes[0, :2] + 5
    assert len(Crops(store, DetectorRecipe())) == 24 - 3


def test_the_detector_begins_with_what_the_crops_taught(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS | {"lr": 1e-12, "weight_decay": 0.0})
    run, card = train_detector(recipe, data, tmp_path)
    rows = runs.read_metrics(tmp_path / "crops")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert 0 <= rows[-1]["val_accuracy"] <= 1
    learned = torch.load(tmp_path / "crops" / "best.ckpt", weights_only=False)["state_dict"]
    made = runs.load_weights(tmp_path / card["file"])
    torch.manual_seed(recipe.seed)
    random = build_network(recipe, 2).state_dict()
    name = next(n for n, v in random.items() if n.startswith("backbone.body.") and v.ndim == 4)
    taught = learned[name.replace("backbone.body.", "network.body.")]
    assert torch.equal(made[name].half(), taught.half())  # as files hold them
    assert not torch.equal(random[name].half(), taught.half())
    norm = next(n for n in random if n.startswith("backbone.body.") and "num_batches" in n)
    seen = int(learned[norm.replace("backbone.body.", "network.body.")])
    assert seen > 0  # norms learn among the crops, and after them
    assert int(made[norm]) == seen + run.steps


def test_a_training_paused_among_the_crops_goes_on(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS)
    paused, nothing = train_detector(recipe, data, tmp_path, pause_after=1e-6)
    assert (paused.ended, paused.epochs, nothing) == ("paused", 1, None)
    with pytest.raises(Conflict, match="Resume it"):
        train_detector(recipe, data, tmp_path)
    run, card = train_detector(recipe, data, tmp_path, resume=True)
    assert (run.ended, run.epochs) == ("epochs", 1)
    assert [row["epoch"] for row in runs.read_metrics(tmp_path / "crops")] == [0, 1, 2]
    _, other = train_detector(recipe, data, tmp_path / "straight")
    assert other["sha256"] == card["sha256"]


def test_a_detector_in_training_does_not_go_back_to_the_crops(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS | {"epochs": 2})
    train_detector(recipe, data, tmp_path, pause_after=1e-6)  # among the crops
    train_detector(recipe, data, tmp_path, resume=True)
    metrics = tmp_path / "crops" / "metrics.csv"
    metrics.unlink()
    train_detector(recipe.changed({"epochs": 3}), data, tmp_path, resume=True)
    assert not metrics.exists()


def test_another_recipe_is_not_resumed_among_the_crops(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS)
    train_detector(recipe, data, tmp_path, pause_after=1e-6)
    for change in ({"split_seed": 21}, {"builder": TINY}, {"crops_side": 40}, {"crops": 9}):
        with pytest.raises(Conflict, match="another recipe"):
            train_detector(recipe.changed(change), data, tmp_path, resume=True)


def test_a_pause_before_the_first_validation_is_a_pause(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS | {"epochs": 3, "validate_every": 3, "crops": 1})
    calls = [train_detector(recipe, data, tmp_path, pause_after=1e-6)[0]]
    calls += [train_detector(recipe, data, tmp_path, pause_after=1e-6, resume=True)[0]]
    assert [(run.ended, run.epochs) for run in calls] == [("paused", 1), ("paused", 2)]
    run, card = train_detector(recipe, data, tmp_path, resume=True)
    assert (run.ended, run.epochs) == ("epochs", 3)
    assert card["sha256"]


def test_the_backbone_can_compute_in_bfloat16_on_a_cpu(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS | {"half_on_cpu": True, "regions": 8, "crops": 1})
    run, _ = train_detector(recipe, data, tmp_path)
    assert math.isfinite(runs.read_metrics(tmp_path)[-1]["train_loss"])
    assert run.ended == "epochs"


@pytest.mark.parametrize(
    ("values", "device", "half"),
    [
        ({}, "cuda", True),
        ({}, "cpu", False),
        ({}, "mps", False),
        ({"half_on_cpu": True}, "cpu", True),
        ({"half_on_cpu": True, "half_backbone": False}, "cuda", False),
    ],
)
def test_where_the_backbone_computes_in_bfloat16(values, device, half):
    assert DetectorRecipe(**values).half(device) is half


def test_one_class_has_nothing_to_tell_apart(tmp_path):
    data = divided(smears(tmp_path / "data", 3), "train", "val", "test")
    with pytest.raises(InvalidInput, match="only one class"):
        train_detector(DetectorRecipe(**WITH_CROPS), data, tmp_path / "run")


def test_a_part_without_objects_is_refused(data, tmp_path):
    empty = [replace(p, boxes=() if p.split == "val" else p.boxes) for p in data.pictures]
    with pytest.raises(InvalidInput, match="no object to cut out"):
        train_detector(DetectorRecipe(**WITH_CROPS), replace(data, pictures=tuple(empty)), tmp_path)


def test_weights_to_begin_with_need_no_crops(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS)
    state = build_network(recipe, 2).state_dict()
    _, card = train_detector(recipe, data, tmp_path, start=state)
    assert not (tmp_path / "crops").exists()
    assert card["recipe"]["crops"] == 0


def test_a_network_without_such_a_backbone_is_refused(data, tmp_path):
    recipe = DetectorRecipe(**WITH_CROPS | {"builder": "ssd300_vgg16", "seen": ()})
    with pytest.raises(InvalidInput, match="crops=0"):
        train_detector(recipe, data, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("crops", -1), ("crops_side", 16), ("crops_batch", 0), ("crops_lr", 0)]
)
def test_values_that_no_lesson_can_have_are_refused(field, value):
    with pytest.raises(InvalidInput, match=field):
        DetectorRecipe(**{field: value})
