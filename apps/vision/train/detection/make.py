"""From a recipe and labelled pictures to weights and their card: ``flask train detector``."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from apps.errors import N_, InvalidInput
from apps.vision.formats.dataset import DetectionData
from apps.vision.train import runs
from apps.vision.train.detection.crops import FOLDER, learn_crops
from apps.vision.train.detection.data import DetectionDataModule
from apps.vision.train.detection.measure import Score, measure
from apps.vision.train.detection.module import DetectorModule
from apps.vision.train.detection.parts import Parts, divide
from apps.vision.train.detection.pictures import PictureStore
from apps.vision.train.detection.recipe import DetectorRecipe
from apps.vision.train.fit import LAST, Run, claim, fit, how_it_went, load_best
from apps.vision.zoo.architectures import OWN, Origin
from apps.vision.zoo.networks import build, origin_of, require_fit, see

HEADS = ("box_predictor", "cls_logits", "classification_head", "mask_predictor")
NO_BOXES = "mask"  # in the names of networks that learn from outlines


def train_detector(
    recipe: DetectorRecipe,
    data: DetectionData,
    out: Path,
    *,
    said: Mapping[str, Any] | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    resume: bool = False,
    pause_after: float | None = None,
) -> tuple[Run, dict[str, Any] | None]:
    """Train, choose the best checkpoint by the val part, and measure it on the test part.

    The folder then holds, beside what :func:`apps.vision.train.fit.fit` leaves there,
    <name>.safetensors and card.json.

    Args:
        said: what the card says besides, of the data or its licence.
        start: weights to begin with, of the same network, instead of ``recipe.crops``; see
            :func:`begin_with`.
        resume: as :func:`apps.vision.train.fit.fit`, and so ``pause_after``.

    Returns:
        The run and the card; no card while the training is paused, and none in the processes that
        only lent the first one a device.

    Raises:
        InvalidInput: pictures that cannot be read, or values that do not go together.
        Conflict: the folder holds another training.
    """
    parts = divide(data, recipe)
    network, recipe, origin = _begun(recipe, len(data.classes), start)
    began = time.monotonic()
    first = _crops(network, recipe, parts, out, resume=resume, pause_after=pause_after)
    if first is not None and first.ended == "paused":
        return first, None
    if pause_after is not None:
        pause_after = max(pause_after - (time.monotonic() - began) / 60, 0)
    module = DetectorModule(network, recipe, data.classes)
    feed = DetectionDataModule(parts.train, parts.val, recipe)
    run = fit(module, feed, recipe, out, resume=resume, pause_after=pause_after)
    if run.ended == "paused" or rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return run, None
    chosen = _choose(module, run, feed.val_store, recipe)
    facts = {**(said or {}), "trained": how_it_went(run, recipe.monitor, chosen)}
    return run, _keep(module, recipe, origin, parts, out, facts)


def _begun(
    recipe: DetectorRecipe, classes: int, start: Mapping[str, torch.Tensor] | None
) -> tuple[nn.Module, DetectorRecipe, Origin]:
    """The network with what it begins with, the recipe that follows from it, and its origin."""
    origin = begun_from(recipe.builder, start)
    torch.manual_seed(recipe.seed)  # of the random weights
    network = build_network(recipe, classes, origin)
    recipe = sized(recipe, network)
    if start is not None:
        recipe = recipe.changed({"crops": 0})
        begin_with(network, start)
    return network, recipe, origin


def _crops(
    network: nn.Module,
    recipe: DetectorRecipe,
    parts: Parts,
    out: Path,
    *,
    resume: bool,
    pause_after: float | None,
) -> Run | None:
    """Learn to tell the classes first, where the recipe says so and it has not been done."""
    if not recipe.crops or (out / LAST).is_file():
        return None
    claim(out, recipe, begun=(out / FOLDER / LAST).is_file(), resume=resume)
    return learn_crops(network, recipe, parts, out, resume=resume, pause_after=pause_after)


def _keep(
    module: DetectorModule,
    recipe: DetectorRecipe,
    origin: Origin,
    parts: Parts,
    out: Path,
    said: dict[str, Any],
) -> dict[str, Any]:
    """Write the weights, measure them, and write their card, which is returned."""
    path = out / f"{recipe.name or recipe.builder}.safetensors"
    weights = runs.save_weights(module.network, path)
    score = measure_file(weights.path, recipe, parts.test)
    facts = _facts(recipe, origin, parts, score) | said
    return runs.write_card(out / runs.CARD, weights, facts)


def _facts(recipe: DetectorRecipe, origin: Origin, parts: Parts, score: Score) -> dict[str, Any]:
    """What a card says of any detector."""
    return {
        "name": recipe.name,
        "architecture": recipe.builder,
        "origin": origin.value,
        "labels": list(parts.train.classes),
        "seen": list(recipe.seen),
        **figures(score),
        "rule": recipe.rule,
        "split": {
            "train": len(parts.train.pictures),
            "val": len(parts.val.pictures),
            "test": len(parts.test.pictures),
        },
        "recipe": recipe.to_dict(),
    }


def begun_from(builder: str, start: Mapping[str, torch.Tensor] | None) -> Origin:
    """The origin of a network that ``start`` is for: its state dict, or None for random weights."""
    if start is None or builder in OWN:
        return Origin.SCRATCH
    return origin_of(builder, Origin.COCO, {name: tuple(it.shape) for name, it in start.items()})


def build_network(
    recipe: DetectorRecipe, classes: int, origin: Origin = Origin.SCRATCH
) -> nn.Module:
    """The recipe's network for ``classes`` without the background, with random weights.

    Args:
        origin: of the weights to come; batch norms and epsilons follow it.

    Raises:
        InvalidInput: the network cannot learn from boxes alone.
    """
    if NO_BOXES in recipe.builder:
        raise InvalidInput(
            N_("%(network)s learns from outlines, and there are only boxes."),
            network=recipe.builder,
        )
    return see(build(recipe.builder, classes + 1, origin), recipe.seen)


def sized(recipe: DetectorRecipe, network: nn.Module) -> DetectorRecipe:
    """``recipe`` with the sizes that ``network`` scales pictures to in use, unless it has its own.

    A Faster R-CNN is trained on batches as they are, past its own scaling (module.losses).
    """
    transform: Any = network.transform
    return recipe.sized(transform.min_size[-1], transform.max_size)


def begin_with(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load ``state`` into ``network``; its last layers may be for other classes.

    Raises:
        InvalidInput: anything else differs.
    """
    own = network.state_dict()
    usable = {name: value for name, value in state.items() if _fits(own, name, value)}
    lacking = [name for name in own if name not in usable and not any(h in name for h in HEADS)]
    if lacking:
        raise InvalidInput(
            N_("The weights to begin with are of another network: %(name)s does not fit."),
            name=lacking[0],
        )
    network.load_state_dict(usable, strict=False)


def measure_file(path: Path, recipe: DetectorRecipe, test: DetectionData) -> Score:
    """The accuracy of weights as they are shipped: after rounding to half precision.

    Raises:
        InvalidInput: they are of another network, or for another number of classes.
    """
    state = runs.load_weights(path)
    origin = begun_from(recipe.builder, state)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    require_fit(recipe.builder, len(test.classes), origin, shapes)
    network = build_network(recipe, len(test.classes), origin)
    network.load_state_dict(state, strict=False)  # counters of batch norms may be left out
    device = "cuda" if torch.cuda.is_available() else "cpu"
    keep = sized(recipe, network).sides.keep
    return measure(network, PictureStore.of(test, keep, device), recipe.rule)


def figures(score: Score) -> dict[str, Any]:
    """``ap``, ``ap50`` and ``per_class`` as a card has them."""
    classes = {}
    for each in score.classes:
        row = asdict(each)
        label = row.pop("label")
        classes[label] = {key: round(value, 4) for key, value in row.items()}
    return {"ap": round(score.ap, 4), "ap50": round(score.ap50, 4), "per_class": classes}


def _choose(module: DetectorModule, run: Run, val: PictureStore, recipe: DetectorRecipe) -> float:
    """Load the better of the best checkpoint and the last one; its score.

    A training that the clock ends may end between two validations, and its last weights, at the
    lowest learning rate, are often the best.
    """
    if recipe.monitor not in ("val_ap", "val_ap50"):
        return run.score
    load_best(module, run.last)
    score = measure(module.network, val, recipe.rule)
    value: float = getattr(score, recipe.monitor.removeprefix("val_"))
    if value > run.score:
        return value
    load_best(module, run.best)
    return run.score


def _fits(own: Mapping[str, torch.Tensor], name: str, value: torch.Tensor) -> bool:
    return name in own and own[name].shape == value.shape
