"""From any picture to what a classifier sees, step by step. Nothing here needs torch."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from apps.errors import N_
from apps.vision.types import Step
from apps.vision.zoo.classifiers import Fit, InputSpec

SHOWN_SIDE = 384  # pixels of the longest side of a step that people see
WORKING_SIDE = 512  # of pictures that are cut out; a network sees 28 of them
CORNER = 14  # the square in each corner that shows the ground is this part of the side
NOISE = 32  # of 255: values below are ground, not thing
SIGMAS = 5  # deviations of the corners from their median that still are ground …
MOST_NOISE = 96  # … if they are not more than this, of 255
MAD = 1.4826  # standard deviations in the median deviation of normal noise
BOX = 20 / 28  # part of the side that a digit of MNIST takes

CAME = N_("The picture as it came")
GREY = N_("Grey, because the network knows no colours")
SWAPPED = N_("Light and dark swapped: the network learned light things on black ground")
GROUND = N_("The ground made black")
CROPPED = N_("The middle square")
TRIMMED = N_("The thing alone, without the ground around it")
CENTRED = N_("Scaled to the network's size, in the middle of a black square")
BY_MASS = N_("Scaled to 20 × 20, with the centre of mass in the middle of 28 × 28")
SCALED = N_("Scaled to the network's size")
NORMALIZED = N_(
    "What the network sees: as in training, the mean is taken off and the rest divided by the "
    "standard deviation"
)

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Converted:
    """What a network gets."""

    values: Array  # float32, (C, H, W), normalized
    seen: Image.Image  # the same before it was normalized: L or RGB, size x size
    steps: tuple[Step, ...]  # on the way, as pictures of at most SHOWN_SIDE pixels


def convert(picture: Image.Image, given: InputSpec, invert: bool | None = None) -> Converted:
    """What a network with the input ``given`` sees of ``picture``, which stays as it is.

    Args:
        picture: upright; of any mode and size.
        invert: whether light and dark are swapped for a network that learned light things on
            black ground; None: if the corners are lighter than the whole. No other network cares.
    """
    steps = [Step(CAME, _shown(picture))]

    def note(text: str, step: Image.Image) -> Image.Image:
        steps.append(Step(text, _shown(step)))
        return step

    seen = picture.convert("RGB") if picture.mode != "RGB" else picture
    if given.channels == 1:
        if given.light_on_dark:  # what follows looks at every pixel
            seen = _reduced(seen, WORKING_SIDE)
        seen = note(GREY, seen.convert("L"))
    if given.light_on_dark:
        if invert is None:
            invert = ground(seen) > float(np.asarray(seen).mean())
        if invert:
            seen = note(SWAPPED, ImageOps.invert(seen))
        if ground(seen) > 0:
            seen = note(GROUND, blackened(seen))
    size = given.size, given.size
    if given.fit is Fit.CROP:
        square = middle(seen.size, given)
        note(CROPPED, _cut(seen, square))
        seen = note(SCALED, seen.resize(size, Image.Resampling.BILINEAR, box=square))
    elif seen.size != size:  # a picture of the data set itself is as it should be
        seen = note(TRIMMED, trimmed(seen))
        digit = given.fit is Fit.DIGIT
        seen = note(BY_MASS if digit else CENTRED, placed(seen, given.size, digit))
    values = normalized(seen, given)
    steps.append(Step(NORMALIZED, _visible(values)))
    return Converted(values, seen, tuple(steps))


def ground(picture: Image.Image) -> float:
    """The usual value, 0..255, in the four corners of a grey picture.

    The corners and not the whole border, because wide clothes touch that on every side.
    """
    return float(np.median(_corners(picture)))


def blackened(picture: Image.Image) -> Image.Image:
    """A grey picture whose ground becomes 0, with its noise, while white stays white."""
    corners = _corners(picture).astype(np.float32)
    level = float(np.median(corners))
    noise = min(SIGMAS * float(np.median(np.abs(corners - level))) * MAD, MOST_NOISE)
    values = np.asarray(picture, np.float32) - level
    return _grey(np.where(values <= noise, 0, values * (255 / max(255 - level, 1))))


def middle(size: tuple[int, int], given: InputSpec) -> tuple[float, float, float, float]:
    """Corners, xyxy, of the square which, scaled to ``given.size``, is what is left when the
    shorter side of a picture is scaled to ``given.resize`` pixels and the middle is cut out of it.

    Cut and scaled at once, so that a picture of 10,000 x 10 pixels makes no giant; otherwise to
    the pixel as torchvision's ``Resize`` and ``CenterCrop``.
    """
    shorter = given.resize or given.size
    scaled = [int(shorter * side / min(size)) for side in size]
    factors = [before / after for before, after in zip(size, scaled, strict=True)]
    left, top = (
        round((side - given.size) / 2) * factor
        for side, factor in zip(scaled, factors, strict=True)
    )
    return left, top, left + given.size * factors[0], top + given.size * factors[1]


def trimmed(picture: Image.Image) -> Image.Image:
    """A grey picture on black without the empty rows and columns at its edges."""
    floor = min(NOISE, int(np.asarray(picture).max()) // 4)  # a faint pencil is a thing, too
    box = picture.point(lambda value: 255 if value > floor else 0).getbbox()
    return picture.crop(box) if box else picture


def placed(picture: Image.Image, size: int, digit: bool) -> Image.Image:
    """The thing ``picture`` in a black square, its longest side as long as that.

    A digit is treated as those of MNIST were (LeCun et al. 1998, section III.A): it fits into
    20 of 28 pixels and its centre of mass is in the middle. Its noise goes, and its brightest
    point becomes white.
    """
    box = round(size * BOX) if digit else size
    factor = box / max(picture.size)
    wide, tall = (max(1, round(side * factor)) for side in picture.size)
    if not digit:
        scaled = picture.resize((wide, tall), Image.Resampling.LANCZOS)
        return _pasted(scaled, size, (size - wide) // 2, (size - tall) // 2)
    scaled = _stretched(picture.resize((wide, tall), Image.Resampling.BILINEAR))
    x, y = _centre_of_mass(scaled)
    left, top = round(size / 2 - x), round(size / 2 - y)
    return _pasted(scaled, size, min(max(left, 0), size - wide), min(max(top, 0), size - tall))


def normalized(picture: Image.Image, given: InputSpec) -> Array:
    """(C, H, W) from a picture of C channels: 0..1, minus the mean, over the deviation."""
    values = np.asarray(picture, np.float32) / 255
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    mean, std = (np.asarray(of, np.float32)[:, None, None] for of in (given.mean, given.std))
    return np.ascontiguousarray((values - mean) / std)


def _corners(picture: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The values, (N,), in the four corners."""
    values = np.asarray(picture)
    tall, wide = (max(1, side // CORNER) for side in values.shape)
    return np.concatenate([values[y, x].ravel() for y in _ends(tall) for x in _ends(wide)])


def _ends(length: int) -> tuple[slice, slice]:
    return slice(None, length), slice(-length, None)


def _cut(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    left, top, right, bottom = map(round, box)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _stretched(picture: Image.Image) -> Image.Image:
    """Without what is darker than ``NOISE`` of 255 parts of its brightest point, which is white."""
    values = np.asarray(picture, np.float32)
    values = values * (255 / max(float(values.max()), 1.0))
    return _grey(np.where(values < NOISE, 0, values))


def _centre_of_mass(picture: Image.Image) -> tuple[float, float]:
    """(x, y) in pixels from the upper left corner; the middle of a picture that is all black."""
    values = np.asarray(picture, np.float64)
    mass = values.sum()
    if mass == 0:
        return picture.width / 2, picture.height / 2
    x = (values.sum(0) * (np.arange(picture.width) + 0.5)).sum() / mass
    y = (values.sum(1) * (np.arange(picture.height) + 0.5)).sum() / mass
    return float(x), float(y)


def _pasted(picture: Image.Image, size: int, left: int, top: int) -> Image.Image:
    square = Image.new("L", (size, size))
    square.paste(picture, (left, top))
    return square


def _grey(values: Array) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _reduced(picture: Image.Image, side: int) -> Image.Image:
    """A copy whose longest side has ``side`` pixels at most."""
    if max(picture.size) <= side:
        return picture.copy()
    factor = side / max(picture.size)
    wide, tall = (max(1, round(length * factor)) for length in picture.size)
    return picture.resize((wide, tall), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _shown(picture: Image.Image) -> Image.Image:
    return _reduced(picture, SHOWN_SIDE)


def _visible(values: Array) -> Image.Image:
    """Normalized values as a picture: the lowest black, the highest white."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    pixels = scaled.round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
