"""The methods of the course, each by the effect that it has on small made data."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from apps.vision.train import runs
from apps.vision.train.callbacks import MovingAverage
from apps.vision.train.fit import fit
from apps.vision.train.module import make_optimizer
from apps.vision.train.recipes import Optimizer, Recipe, Schedule
from tests.train.made import Line, Points, line, points

RECIPE = Recipe(epochs=1, batch=8, lr=0.02, accelerator="cpu", optimizer=Optimizer.SGD)


def run(tmp_path, recipe, name="run", module=None, data=None):
    module = module or line(recipe)
    return module, fit(module, data or points(recipe), recipe, tmp_path / name)


@pytest.mark.parametrize(("batch", "steps"), [("full", 1), (8, 5), (1, 40)])
def test_batch_minibatch_and_stochastic_descent_differ_in_steps_an_epoch(tmp_path, batch, steps):
    assert run(tmp_path, replace(RECIPE, batch=batch, lr=1e-3))[1].steps == steps


def zeroed(module: Line) -> Line:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def ill_conditioned(recipe: Recipe) -> tuple[Line, Points]:
    """Least squares with a condition number of 400: a long, narrow valley."""
    inputs = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    inputs = inputs * torch.tensor([1.0, 0.05])
    module = zeroed(Line(nn.Linear(2, 1, bias=False), recipe))
    return module, Points(recipe, inputs, inputs @ torch.tensor([[1.0], [1.0]]))


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        (Optimizer.MOMENTUM, 0.5), (Optimizer.NESTEROV, 0.5), (Optimizer.ADAM, 0.05),
        (Optimizer.ADAMW, 0.05),
    ],
)  # fmt: skip
def test_better_optimizers_are_lower_in_a_narrow_valley_after_as_many_steps(
    tmp_path, optimizer, lr
):
    losses = {}
    for chosen, rate in ((Optimizer.SGD, 0.5), (optimizer, lr)):
        recipe = replace(RECIPE, batch="full", epochs=60, optimizer=chosen, lr=rate)
        module, data = ill_conditioned(recipe)
        losses[chosen] = run(tmp_path, recipe, chosen, module, data)[1].score
    assert losses[optimizer] < losses[Optimizer.SGD] / 2


def test_adamw_decays_apart_from_the_gradient_and_adam_does_not():
    sizes = []
    for optimizer in (Optimizer.ADAM, Optimizer.ADAMW):
        recipe = replace(RECIPE, optimizer=optimizer, weight_decay=0.5, lr=0.1)
        module = line(recipe)
        weight = module.network[0].weight
        before = weight.detach().clone()
        chosen = torch.optim.Adam if optimizer is Optimizer.ADAM else torch.optim.AdamW
        step = make_optimizer(module.groups(), recipe)
        assert type(step) is chosen
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step.step()
        sizes.append(float((weight.detach() / before).abs().mean()))
    assert sizes[1] == pytest.approx(0.95)
    assert sizes[0] != pytest.approx(0.95)


def test_weight_decay_makes_weights_smaller_but_spares_biases(tmp_path):
    found = {}
    for decay in (0.0, 1.0):
        recipe = replace(RECIPE, epochs=30, weight_decay=decay)
        module, _run = run(tmp_path, recipe, str(decay))
        found[decay] = float(module.network[0].weight.detach().norm())
        decays = {len(group["params"]): group["weight_decay"] for group in module.groups()}
        assert decays == {2: 0.0}
    assert found[1.0] < 0.8 * found[0.0]


def test_clipping_bounds_the_first_step(tmp_path):
    moved = {}
    for clip in (None, 1e-3):
        recipe = replace(RECIPE, batch="full", clip=clip)
        before = line(recipe).network[0].weight.detach().clone()
        module, _run = run(tmp_path, recipe, str(clip))
        moved[clip] = float((module.network[0].weight.detach() - before).norm())
    assert moved[1e-3] <= 1e-3 * recipe.lr * 1.001
    assert moved[None] > 10 * moved[1e-3]


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path):
    large, first = run(tmp_path, replace(RECIPE, batch="full"), "large")
    small, second = run(tmp_path, replace(RECIPE, batch=8, accumulate=5), "small")
    assert first.steps == second.steps == 1
    torch.testing.assert_close(large.network[0].weight, small.network[0].weight)


def test_a_rate_that_decays_ends_nearer_to_the_minimum_than_one_that_stays(tmp_path):
    """Single examples pull hither and thither; only small steps come to rest between them."""
    scores = {}
    for schedule in (Schedule.CONSTANT, Schedule.COSINE):
        recipe = replace(RECIPE, batch=1, epochs=15, lr=0.15, schedule=schedule)
        module = zeroed(Line(nn.Linear(4, 1), recipe))
        result = run(tmp_path, recipe, schedule, module)[1]
        scores[schedule] = runs.read_metrics(result.out)[-1]["val_loss"]
    assert scores[Schedule.COSINE] < scores[Schedule.CONSTANT]


def test_the_rate_follows_the_clock_when_minutes_are_given(tmp_path):
    recipe = replace(RECIPE, epochs=None, minutes=0.01, schedule=Schedule.COSINE)
    _module, result = run(tmp_path, recipe)
    rates = [row["lr"] for row in runs.read_metrics(result.out)]
    assert result.ended == "minutes"
    assert rates[-1] < 0.1 * recipe.lr
    assert rates == sorted(rates, reverse=True)


class Scripted(Line):
    """Says the validation losses of a script, whatever it learns."""

    losses = [5.0, 3.0, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]

    def validation_step(self, batch: Any, _index: int) -> None:
        self.log("val_loss", self.losses[self.current_epoch])

    def on_validation_epoch_start(self) -> None:
        self.network[0].bias.data.fill_(float(self.current_epoch))


def scripted(recipe: Recipe) -> Scripted:
    return Scripted(nn.Sequential(nn.Linear(4, 1)), recipe)


def test_the_best_checkpoint_is_kept_and_not_the_last(tmp_path):
    recipe = replace(RECIPE, epochs=5)
    module, result = run(tmp_path, recipe, module=scripted(recipe))
    assert result.score == 1.0
    assert module.network[0].bias.item() == 2.0  # as it was at the third validation
    last = torch.load(result.last, weights_only=False)["state_dict"]["network.0.bias"]
    assert float(last) == 4.0


def test_patience_ends_a_training_that_no_longer_improves(tmp_path):
    recipe = replace(RECIPE, epochs=8, patience=2)
    _module, result = run(tmp_path, recipe, module=scripted(recipe))
    assert (result.ended, result.epochs) == ("patience", 5)


@pytest.mark.parametrize(("patience", "epochs"), [(2, 6), (3, 8), (4, 8), (5, 10)])
def test_patience_counts_epochs_also_where_not_every_one_is_validated(tmp_path, patience, epochs):
    recipe = replace(RECIPE, epochs=12, patience=patience, validate_every=2)
    module = scripted(recipe)
    module.losses = [*module.losses, 4.0, 4.0]
    _module, result = run(tmp_path, recipe, module=module)
    assert (result.ended, result.epochs) == ("patience", epochs)


def test_a_plateau_counts_epochs_also_where_not_every_one_is_validated(tmp_path):
    recipe = replace(RECIPE, epochs=10, schedule=Schedule.PLATEAU, plateau=2, validate_every=2)
    _module, result = run(tmp_path, recipe, module=scripted(recipe))
    rates = [row["lr"] for row in runs.read_metrics(result.out)]
    assert rates == pytest.approx([0.02] * 8 + [0.002] * 2)


def test_a_plateau_lowers_the_rate(tmp_path):
    recipe = replace(RECIPE, epochs=8, schedule=Schedule.PLATEAU, plateau=1, drop=0.1)
    _module, result = run(tmp_path, recipe, module=scripted(recipe))
    rates = [row["lr"] for row in runs.read_metrics(result.out)]
    assert rates[:5] == [0.02] * 5
    assert rates[5] == pytest.approx(0.002)


def test_averaged_weights_are_smoother_than_the_last_ones(tmp_path):
    """With noisy steps, the mean of the weights is nearer to the minimum than any of them."""
    scores = {}
    for ema in (None, 0.98):
        recipe = replace(RECIPE, batch=1, epochs=15, lr=0.15, ema=ema)
        module = zeroed(Line(nn.Linear(4, 1), recipe))
        result = run(tmp_path, recipe, str(ema), module)[1]
        scores[ema] = runs.read_metrics(result.out)[-1]["val_loss"]
    assert scores[0.98] < scores[None]


def test_averaged_weights_are_where_the_training_is():
    """Lightning sets callbacks up while the module is still on the CPU."""
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    average, module, saved = MovingAverage(0.9), line(RECIPE), {"state_dict": {}}
    average.setup(trainer, module, "fit")
    average.on_save_checkpoint(trainer, module, saved)
    assert {value.device.type for value in saved["state_dict"].values()} == {"meta"}
