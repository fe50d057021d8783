"""Which pictures a detector learns from, is chosen by and is measured on."""

import random
from dataclasses import dataclass, replace

from apps.errors import N_, InvalidInput
from apps.vision.formats.dataset import TEST, TRAIN, VAL, DetectionData, LabelledPicture
from apps.vision.train.detection.recipe import DetectorRecipe

SHARE = 10  # one picture of so many is held out where the recipe does not say how many


@dataclass(frozen=True, slots=True)
class Parts:
    """A divided data set."""

    train: DetectionData
    val: DetectionData  # chooses the checkpoint
    test: DetectionData  # measured once, at the end


def divide(data: DetectionData, recipe: DetectorRecipe) -> Parts:
    """The parts that ``data`` comes in; those that it lacks are held out of ``train`` by seed.

    Pictures are drawn from their sorted names, so neither their order nor the training's seed
    changes what is held out.

    Raises:
        InvalidInput: a part would be empty.
    """
    return Parts(*(part_of(data, recipe, name) for name in (TRAIN, VAL, TEST)))


def part_of(data: DetectionData, recipe: DetectorRecipe, name: str) -> DetectionData:
    """One part of :func:`divide`, "train", "val" or "test"; others may be empty.

    Raises:
        InvalidInput: it would be empty.
    """
    rest = [picture for picture in data.pictures if picture.split in (TRAIN, None)]
    rest.sort(key=lambda picture: picture.name)
    drawn = random.Random(recipe.split_seed).sample(rest, len(rest))  # noqa: S311 (no secret)
    test = _given(data, TEST) or _take(drawn, recipe.test, len(rest))
    val = _given(data, VAL) or _take(drawn, recipe.val, len(rest))
    train = sorted(drawn, key=lambda picture: picture.name)
    pictures = {TRAIN: train, VAL: val, TEST: test}[name]
    if not pictures:
        raise InvalidInput(
            N_("No picture is left for the part “%(part)s”. Give more, or hold less out."),
            part=name,
        )
    return replace(data, pictures=tuple(pictures))


def _given(data: DetectionData, split: str) -> list[LabelledPicture]:
    return [picture for picture in data.pictures if picture.split == split]


def _take(drawn: list[LabelledPicture], count: int | None, total: int) -> list[LabelledPicture]:
    """The first ``count`` of ``drawn``, which is shortened by them."""
    count = max(1, total // SHARE) if count is None else count
    taken = drawn[:count]
    del drawn[:count]
    return taken
