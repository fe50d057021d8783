"""Recipes say which field is wrong; schedules go the way that their names say."""

import itertools
import json

import pytest
import torch

from apps.errors import InvalidInput
from apps.vision.train.classifier import ClassifierRecipe, build
from apps.vision.train.recipes import Optimizer, Recipe, Schedule
from apps.vision.train.schedules import factor


def test_a_recipe_survives_its_json(tmp_path):
    recipe = ClassifierRecipe(
        name="x", batch="full", optimizer=Optimizer.NESTEROV, clip=0.5, augment=("flip", "erase")
    )
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert ClassifierRecipe.read(tmp_path / "recipe.json") == recipe


def test_texts_of_the_command_line_become_values():
    recipe = ClassifierRecipe().changed(
        {
            "lr": "0.5",
            "batch": "full",
            "epochs": "none",
            "minutes": "2",
            "seed": "7",
            "augment": "flip,shift",
            "batch_norm": "false",
            "schedule": "one_cycle",
        }
    )
    assert (recipe.lr, recipe.batch, recipe.epochs, recipe.minutes) == (0.5, "full", None, 2.0)
    assert (recipe.seed, recipe.augment, recipe.batch_norm) == (7, ("flip", "shift"), False)
    assert recipe.schedule is Schedule.ONE_CYCLE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0), ("lr", "fast"), ("lr", "nan"), ("batch", 0), ("batch", "half"), ("epochs", 1.5),
        ("optimizer", "lbfgs"), ("schedule", "zigzag"), ("ema", 2), ("momentum", -0.1),
        ("seed", True), ("deterministic", "maybe"), ("devices", 0), ("weight_decay", -1),
        ("augment", "explode"), ("channels", 2), ("mean", "0.5"), ("network", "perceptron"),
        ("size", "x"), ("held_out", 1), ("minutes", "inf"), ("mean", 5), ("train_size", 0),
        ("strategy", "head"), ("dropout", 2), ("rise", 1), ("seed", 2**32), ("split_seed", -1),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_the_name_of_its_field(field, value):
    with pytest.raises(InvalidInput, match=rf"^{field} is .* in the recipe, but must be "):
        ClassifierRecipe().changed({field: value})


@pytest.mark.parametrize(("network", "least"), [("vgg16", 32), ("googlenet", 31)])
@pytest.mark.parametrize("field", ["size", "train_size"])
def test_a_picture_that_is_too_small_for_a_network_is_refused(network, least, field):
    with pytest.raises(InvalidInput, match=f"{field} is .* must be {least} or more for {network}"):
        ClassifierRecipe(network=network).changed({field: least - 1})
    recipe = ClassifierRecipe(network=network).changed({field: least})
    with torch.device("meta"):
        assert build(recipe, 2)(torch.empty(1, 3, least, least)).shape == (1, 2)


def test_an_unknown_field_is_refused_with_those_that_exist():
    with pytest.raises(InvalidInput, match=r"no field “speed”.*lr"):
        Recipe.from_dict({"speed": 1})


def test_a_recipe_has_to_end_some_time():
    with pytest.raises(InvalidInput, match="epochs"):
        Recipe(epochs=None)
    assert Recipe(epochs=None, minutes=1).minutes == 1


@pytest.mark.parametrize("text", ["[1]", "no json", json.dumps({"lr": [1]})])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InvalidInput):
        Recipe.read(tmp_path / "recipe.json")


def rates(**values: object) -> list[float]:
    recipe = Recipe.from_dict(values)
    return [factor(recipe, step / 100, step) for step in range(101)]


def test_a_constant_rate_stays():
    assert set(rates()) == {1.0}


def test_steps_drop_after_equal_parts():
    found = rates(schedule=Schedule.STEP, drop=0.1, drops=2)
    assert sorted({round(value, 6) for value in found}) == [0.01, 0.1, 1.0]
    assert found[32] == 1.0
    assert found[35] == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [Schedule.EXPONENTIAL, Schedule.COSINE])
def test_decays_go_down_all_the_way_to_the_end(schedule):
    found = rates(schedule=schedule, lr_end=0.05)
    assert found[0] == pytest.approx(1)
    assert found[-1] == pytest.approx(0.05)
    assert all(later < earlier for earlier, later in itertools.pairwise(found))


def test_one_cycle_goes_up_and_then_down():
    found = rates(schedule=Schedule.ONE_CYCLE, rise=0.3)
    assert found[0] == pytest.approx(0.04)
    assert max(range(101), key=found.__getitem__) == 30
    assert found[-1] == pytest.approx(0.01)
    assert rates(schedule=Schedule.ONE_CYCLE, rise=0.99)[-1] == pytest.approx(0.01)


def test_a_warm_up_begins_small_and_then_leaves_the_schedule_alone():
    found = rates(warmup=9)
    assert found[0] == pytest.approx(0.1)
    assert found[9:] == [1.0] * 92
