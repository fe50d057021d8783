"""What happens beside the steps: the clock, seeds, averaged weights and the record of a run."""

import math
import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    Timer,
    WeightAveraging,
)

from apps.errors import N_, InvalidInput
from apps.vision.train import runs
from apps.vision.train.recipes import Recipe


class Clock(Timer):
    """Ends the training when its minutes are over; a resumed one goes on with those left."""

    def __init__(self, minutes: float) -> None:
        super().__init__(timedelta(minutes=minutes), verbose=False)
        self.seconds = 60 * minutes

    @classmethod
    def of(cls, trainer: Trainer) -> list["Clock"]:
        """The clock of ``trainer``, if its recipe has minutes."""
        return [each for each in trainer.callbacks if isinstance(each, Clock)]  # type: ignore[attr-defined]

    @property
    def part(self) -> float:
        """Of the time that is over, 0 and up."""
        return self.time_elapsed() / self.seconds


class Stopwatch(Callback):
    """How long a training has taken, the calls before a resume included."""

    def __init__(self) -> None:
        self.began = time.monotonic()  # less what checkpoints say of earlier calls

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.began) / 60

    def state_dict(self) -> dict[str, Any]:
        return {"minutes": self.minutes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.began -= 60 * state_dict["minutes"]


class Pause(Callback):
    """Ends this call, at the end of an epoch, after some minutes; the training can be resumed."""

    def __init__(self, minutes: float) -> None:
        self.until = time.monotonic() + 60 * minutes
        self.paused = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.broadcast(time.monotonic() >= self.until):
            self.paused = trainer.should_stop = True


class Checkpoints(ModelCheckpoint):
    """The best and the last checkpoint; a run whose folder was moved can still be resumed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            state_dict
            | {"dirpath": self.dirpath, "best_k_models": best}
            | {name: moved(state_dict[name]) for name in names}
        )


class Finite(Callback):
    """Ends a training that can only go on being lost."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            raise InvalidInput(
                N_("The recipe's monitor is %(monitor)s, but what is measured is: %(known)s."),
                monitor=self.monitor,
                known=", ".join(sorted(trainer.callback_metrics)),
            )
        for name, value in trainer.callback_metrics.items():
            if (name == self.monitor or name.endswith("_loss")) and not torch.isfinite(value):
                raise InvalidInput(
                    N_("The training is lost: %(name)s is no finite number. Try a smaller lr."),
                    name=name,
                )


class EpochSeed(Callback):
    """Seeds every epoch by its number, so that a resumed training draws what another would."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Another number below 2**32 for each (seed, epoch, rank)."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


class MovingAverage(WeightAveraging):
    """Exponential moving average of weights and buffers (Polyak and Juditsky 1992).

    The average is what is validated, kept as the best and shipped. At the beginning the decay
    is smaller, min(decay, (1 + n) / (10 + n)) after n steps, so that it forgets the random start.
    """

    def __init__(self, decay: float) -> None:
        def average(means: list[torch.Tensor], new: list[torch.Tensor], count: Any) -> None:
            steps = int(count)
            part = 1 - min(decay, (1 + steps) / (10 + steps))
            if means[0].is_floating_point():  # all of them: they come by data type
                torch._foreach_lerp_(means, new, part)
            else:  # how many batches a norm has seen
                torch._foreach_copy_(means, new)

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # The module is still on the CPU, and every step would wait for its weights to come there.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


class Patience(EarlyStopping):
    """Ends a training after ``epochs`` without a better monitor."""

    def __init__(self, epochs: int, recipe: Recipe) -> None:
        validations = validations_of(epochs, recipe)
        super().__init__(recipe.monitor, patience=validations, mode=recipe.mode.value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Another patience than before is what a training may be resumed with.
        super().load_state_dict(state_dict | {"patience": self.patience})


def validations_of(epochs: int, recipe: Recipe) -> int:
    """How many validations there are in so many epochs, rounded up."""
    return math.ceil(epochs / recipe.validate_every)


class History(Callback):
    """Writes metrics.csv and curves.svg after every epoch."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.validated = False  # in this epoch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["lr"] = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        for name, value in sorted(trainer.callback_metrics.items()):
            if self.validated or not name.startswith("val_"):  # else of an earlier epoch
                row[name] = float(value)
        self.validated = False
        rows = [old for old in runs.read_metrics(self.out) if old["epoch"] < row["epoch"]]
        runs.write_metrics(self.out, [*rows, row])
