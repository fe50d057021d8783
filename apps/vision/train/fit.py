"""The one training loop: Lightning's Trainer, set up from a recipe.

Nothing is written outside the run's folder, and nothing is asked of a network.
"""

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from apps.errors import N_, Conflict, InvalidInput
from apps.vision.train import runs
from apps.vision.train.callbacks import (
    Checkpoints,
    Clock,
    EpochSeed,
    Finite,
    History,
    MovingAverage,
    Patience,
    Pause,
    Stopwatch,
)
from apps.vision.train.module import RecipeModule
from apps.vision.train.recipes import Recipe

BEST, LAST = "best.ckpt", "last.ckpt"
# Lightning warns about what is meant here: workers are the recipe's business, a resumed run's
# folder is not empty, frozen layers are in evaluation mode, last.ckpt may end within an epoch, and
# with validate_every there is no monitor before the first validation (Finite looks then).
EXPECTED = (
    r"`ModelCheckpoint\(monitor=.*could not find the monitored key.*",
    r".*does not have many workers.*",
    r"Checkpoint directory .* exists and is not empty.*",
    r"Found \d+ module\(s\) in eval mode.*",
    r".*resuming from a checkpoint that ended before the epoch ended.*",
    r"GPU available but not used.*",
    r"Be aware that when using `ckpt_path`.*",  # minutes or patience changed
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of PyTorch
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a training came to. The module that was trained holds the best weights."""

    out: Path
    best: Path  # checkpoint with the best ``monitor``; the last one before the first validation
    last: Path  # checkpoint to resume from
    score: float  # the best ``monitor``; not a number before the first validation
    epochs: int  # done, those before a resume included
    steps: int
    minutes: float  # as epochs: those before a resume included
    ended: str  # "epochs", "minutes", "patience" or "paused"


def fit(
    module: RecipeModule,
    data: LightningDataModule,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    pause_after: float | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> Run:
    """Train ``module`` and load its best weights into it.

    Args:
        out: folder of the run, made if missing: recipe.json, metrics.csv, curves.svg, best.ckpt
            and last.ckpt.
        resume: go on from last.ckpt, where there is one.
        pause_after: minutes of this call; it ends with the epoch in which they are over.
        callbacks: more of them.

    Raises:
        Conflict: the folder holds a run already and ``resume`` is off, or another recipe's.
        InvalidInput: ``recipe.monitor`` is no finite number, or nothing that is measured.
    """
    claim(out, recipe, begun=(out / LAST).is_file(), resume=resume)
    seed_everything(recipe.seed, workers=True, verbose=False)
    watch = Stopwatch()
    last = out / LAST
    with _quiet(), _determinism():
        trainer, checkpoint, pause = _trainer(recipe, out, pause_after, (*callbacks, watch))
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=last if resume and last.is_file() else None,
            weights_only=False,
        )
    ended = _reason(trainer, recipe, pause)
    score = checkpoint.best_model_score
    if score is None and ended != "paused":
        raise InvalidInput(N_("The training ended before its first validation. Give it more time."))
    best = last if score is None else Path(checkpoint.best_model_path)
    load_best(module, best)
    return Run(
        out=out,
        best=best,
        last=last,
        score=math.nan if score is None else float(score),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        minutes=watch.minutes,
        ended=ended,
    )


def load_best(module: RecipeModule, checkpoint: Path) -> None:
    """Load the weights of ``checkpoint``, the averaged ones where there are, into ``module``."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    module.load_state_dict(state)
    module.eval()


def claim(out: Path, recipe: Recipe, *, begun: bool, resume: bool) -> None:
    """Write recipe.json into the folder of a run.

    Args:
        begun: a training is there; it has to be resumed, with the same recipe.

    Raises:
        Conflict: it is not.
    """
    if begun:
        if not resume:
            raise Conflict(
                N_("%(out)s holds a training already. Resume it, or choose another folder."),
                out=str(out),
            )
        made = type(recipe).read(out / runs.RECIPE)
        free = {"epochs": recipe.epochs, "minutes": recipe.minutes, "patience": recipe.patience}
        if made.changed(free) != recipe:
            raise Conflict(
                N_(
                    "The training in %(out)s has another recipe; only epochs, minutes and "
                    "patience may change when it is resumed."
                ),
                out=str(out),
            )
    out.mkdir(parents=True, exist_ok=True)
    (out / runs.RECIPE).write_text(recipe.to_json(), encoding="utf-8")


def _trainer(
    recipe: Recipe, out: Path, pause_after: float | None, more: tuple[Callback, ...]
) -> tuple[Trainer, Checkpoints, Pause | None]:
    checkpoint = Checkpoints(
        dirpath=out,
        filename=Path(BEST).stem,
        monitor=recipe.monitor,
        mode=recipe.mode.value,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    last = Checkpoints(  # Lightning's own save_last leaves epochs out that were not the best
        dirpath=out,
        filename=Path(LAST).stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[Callback] = [
        EpochSeed(recipe.seed),
        History(out),
        Finite(recipe.monitor),
        checkpoint,
        last,
        *more,
    ]
    if recipe.minutes is not None:
        callbacks.append(Clock(recipe.minutes))
    if recipe.ema is not None:
        callbacks.append(MovingAverage(recipe.ema))
    if recipe.patience is not None:
        callbacks.append(Patience(recipe.patience, recipe))
    pause = None if pause_after is None else Pause(pause_after)
    callbacks += [pause] if pause is not None else []
    terminal = sys.stderr.isatty()
    if terminal:
        callbacks.append(TQDMProgressBar())
    several = recipe.devices * recipe.nodes > 1
    trainer = Trainer(
        accelerator=recipe.accelerator,
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        strategy="ddp" if several else "auto",
        precision=recipe.precision.value,
        max_epochs=recipe.epochs if recipe.epochs is not None else -1,
        gradient_clip_val=recipe.clip,
        accumulate_grad_batches=recipe.accumulate,
        check_val_every_n_epoch=recipe.validate_every,
        deterministic=recipe.deterministic,
        use_distributed_sampler=False,  # loaders.training_loader does it, by seed and epoch
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=terminal,
        enable_model_summary=False,
        default_root_dir=out,
    )
    return trainer, checkpoint, pause


def _reason(trainer: Trainer, recipe: Recipe, pause: Pause | None) -> str:
    if recipe.epochs is not None and trainer.current_epoch >= recipe.epochs:
        return "epochs"
    if any(clock.part >= 1 for clock in Clock.of(trainer)):
        return "minutes"
    return "paused" if pause is not None and pause.paused else "patience"


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither Lightning's notes about devices nor warnings about what is meant."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in EXPECTED:
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _determinism() -> Iterator[None]:
    """Leave PyTorch's switch as it was; Lightning does not."""
    was = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def how_it_went(run: Run, monitor: str, score: float) -> dict[str, object]:
    """What a card says of a training.

    Args:
        score: the value of ``monitor`` of the checkpoint that was chosen.
    """
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "epochs": run.epochs,
        "steps": run.steps,
        "minutes": round(run.minutes, 1),
        "ended": run.ended,
        monitor: round(score, 4),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
