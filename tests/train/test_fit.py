"""The training loop: resume, early stop, best checkpoint, averages, the record of a run."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from apps.errors import Conflict, InvalidInput
from apps.vision.train import runs
from apps.vision.train.fit import fit, how_it_went
from apps.vision.train.recipes import Optimizer, Recipe, Schedule
from tests.train.made import line, points

RECIPE = Recipe(epochs=4, batch=8, lr=0.02, seed=3, accelerator="cpu")


def trained(tmp_path, recipe=RECIPE, name="run", **options):
    module = line(recipe, dropout=options.pop("dropout", 0.0))
    return module, fit(module, points(recipe), recipe, tmp_path / name, **options)


class StopAfter(Callback):
    """As if the power failed after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power failure")


def test_a_run_writes_its_recipe_metrics_curves_and_checkpoints_and_nothing_else(tmp_path):
    _module, run = trained(tmp_path)
    assert {path.name for path in run.out.iterdir()} == {
        "recipe.json", "metrics.csv", "curves.svg", "best.ckpt", "last.ckpt",
    }  # fmt: skip
    rows = runs.read_metrics(run.out)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert run.ended == "epochs"
    assert (run.epochs, run.steps) == (4, 20)
    assert Recipe.read(run.out / "recipe.json") == RECIPE
    assert "<polyline" in (run.out / "curves.svg").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path):
    recipe = replace(RECIPE, seed=4)
    first, second, other = (
        trained(tmp_path, chosen, name, dropout=0.3)[0].network[0].weight
        for chosen, name in ((RECIPE, "a"), (RECIPE, "b"), (recipe, "c"))
    )
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path, ema):
    recipe = replace(RECIPE, ema=ema, schedule=Schedule.ONE_CYCLE)
    whole, run = trained(tmp_path, recipe, "whole", dropout=0.3)
    with pytest.raises(RuntimeError, match="power failure"):
        trained(tmp_path, recipe, "broken", dropout=0.3, callbacks=(StopAfter(2),))
    resumed, again = trained(tmp_path, recipe, "broken", dropout=0.3, resume=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)
    assert again.score == pytest.approx(run.score)
    assert runs.read_metrics(again.out) == runs.read_metrics(run.out)


def test_a_run_that_ended_within_an_epoch_can_be_made_longer(tmp_path):
    recipe = replace(RECIPE, epochs=None, minutes=1e-5)
    _module, run = trained(tmp_path, recipe)
    assert run.ended == "minutes"
    longer = replace(recipe, epochs=3, minutes=None)
    _module, run = trained(tmp_path, longer, resume=True)
    assert run.epochs == 3


def test_a_pause_ends_the_call_and_a_resume_goes_on(tmp_path):
    _module, run = trained(tmp_path, pause_after=1e-6)
    assert (run.ended, run.epochs) == ("paused", 1)
    _module, run = trained(tmp_path, resume=True)
    assert (run.ended, run.epochs) == ("epochs", 4)
    whole, _run = trained(tmp_path, name="whole")
    assert torch.allclose(_module.network[0].weight, whole.network[0].weight)


def test_the_time_of_earlier_calls_is_counted(tmp_path):
    _module, run = trained(tmp_path, pause_after=1e-6)
    saved = torch.load(run.last, weights_only=False)
    saved["callbacks"]["Stopwatch"]["minutes"] = 90.0
    torch.save(saved, run.last)
    _module, run = trained(tmp_path, resume=True)
    assert how_it_went(run, "val_loss", run.score)["minutes"] >= 90


def test_a_training_may_be_resumed_with_more_patience(tmp_path):
    """The loss never gets better: the first validation is the best."""
    lost = replace(RECIPE, epochs=9, lr=1e-30, optimizer=Optimizer.SGD, patience=2)
    _module, run = trained(tmp_path, lost)
    assert (run.ended, run.epochs) == ("patience", 3)
    _module, run = trained(tmp_path, replace(lost, patience=5), resume=True)
    assert (run.ended, run.epochs) == ("patience", 6)


def test_a_run_whose_folder_was_moved_can_be_resumed(tmp_path):
    _module, run = trained(tmp_path, pause_after=1e-6)
    run.out.rename(tmp_path / "moved")
    _module, again = trained(tmp_path, name="moved", resume=True)
    assert again.best == tmp_path / "moved" / "best.ckpt"
    assert again.score == pytest.approx(trained(tmp_path, name="whole")[1].score)


def test_a_run_that_is_over_can_be_asked_again(tmp_path):
    first, run = trained(tmp_path)
    again, same = trained(tmp_path, resume=True)
    assert (same.score, same.epochs) == (run.score, 4)
    assert torch.equal(first.network[0].weight, again.network[0].weight)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path):
    trained(tmp_path)
    with pytest.raises(Conflict, match="holds a training already"):
        trained(tmp_path)
    with pytest.raises(Conflict, match="another recipe"):
        trained(tmp_path, replace(RECIPE, lr=0.5), resume=True)


def test_a_loss_that_is_not_finite_says_what_to_change(tmp_path):
    with pytest.raises(InvalidInput, match="smaller lr"):
        trained(tmp_path, replace(RECIPE, lr=1e30, optimizer=Optimizer.MOMENTUM))


def test_a_monitor_that_nothing_measures_says_what_is_measured(tmp_path):
    with pytest.raises(InvalidInput, match="what is measured is: val_loss"):
        trained(tmp_path, replace(RECIPE, monitor="val_beauty"))
