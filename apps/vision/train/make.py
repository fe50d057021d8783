"""From a recipe and pictures to weights and their card: what ``flask train classifier`` does."""

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from apps.vision.train import charts, runs
from apps.vision.train.classifier import (
    ClassifierModule,
    ClassifierRecipe,
    Measured,
    Pictures,
    build,
    measure,
)
from apps.vision.train.data import Source
from apps.vision.train.fit import Run, fit, how_it_went

CONFUSION = "confusion"  # .csv and .svg


def train_classifier(
    recipe: ClassifierRecipe,
    source: Source,
    out: Path,
    *,
    said: dict[str, Any] | None = None,
    resume: bool = False,
    pause_after: float | None = None,
) -> tuple[Run, dict[str, Any] | None]:
    """Train, choose the best checkpoint by the validation part, and measure it on the test part.

    The folder then holds, beside what :func:`apps.vision.train.fit.fit` leaves there,
    <name>.safetensors, card.json, confusion.csv and confusion.svg.

    Args:
        said: what the card says of data and split.
        resume: as :func:`apps.vision.train.fit.fit`, and so ``pause_after``.

    Returns:
        The run and the card; no card while the training is paused, and none in the processes that
        only lent the first one a device.

    Raises:
        InvalidInput: pictures that cannot be read, or values that do not go together.
        Conflict: the folder holds another training.
    """
    torch.manual_seed(recipe.seed)  # of the random weights
    pictures = Pictures(source, recipe)
    module = ClassifierModule(build(recipe, len(source.classes)), recipe, len(source.classes))
    run = fit(module, pictures, recipe, out, resume=resume, pause_after=pause_after)
    if run.ended == "paused" or rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return run, None
    path = out / f"{recipe.name or recipe.network}.safetensors"
    weights = runs.save_weights(module.network, path)
    measured = _measured(weights.path, module, recipe, pictures)
    _write_confusion(out, measured, source.classes)
    facts = _facts(recipe, source, pictures, measured) | (said or {})
    facts["trained"] = _trained(run, module, recipe)
    return run, runs.write_card(out / runs.CARD, weights, facts)


def _trained(run: Run, module: ClassifierModule, recipe: ClassifierRecipe) -> dict[str, Any]:
    """How it went, and which layers of a pretrained network learned."""
    trained = how_it_went(run, recipe.monitor, run.score)
    if recipe.pretrained:
        trained["strategy"] = module.strategy.value
    return trained


def _measured(
    weights: Path, module: ClassifierModule, recipe: ClassifierRecipe, pictures: Pictures
) -> Measured:
    """What is shipped is measured: the weights after rounding to half precision."""
    classes = len(pictures.source.classes)
    network = build(recipe, classes)
    network.load_state_dict(runs.load_weights(weights))
    network.to(module.trainer.strategy.root_device)
    return measure(network, pictures.test, classes)


def _facts(
    recipe: ClassifierRecipe, source: Source, pictures: Pictures, measured: Measured
) -> dict[str, Any]:
    """What a card says of any classifier."""
    return {
        "name": recipe.name or recipe.network,
        "architecture": recipe.network,
        "labels": list(source.classes),
        "accuracy": round(measured.accuracy, 4),
        "per_class": {
            label: round(value, 4)
            for label, value in zip(source.classes, measured.per_class, strict=True)
        },
        "split": {
            "train": len(pictures.train),
            "validation": len(pictures.val),
            "test": len(pictures.test),
        },
        "recipe": recipe.to_dict(),
    }


def _write_confusion(out: Path, measured: Measured, labels: tuple[str, ...]) -> None:
    with (out / f"{CONFUSION}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true \\ predicted", *labels])
        for label, row in zip(labels, measured.confusion, strict=True):
            writer.writerow([label, *row])
    picture = charts.confusion(measured.confusion, labels)
    (out / f"{CONFUSION}.svg").write_text(picture, encoding="utf-8")
