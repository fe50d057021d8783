"""A drawn blood smear: real enough for the shipped weights, and free of any licence."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
Pixels = npt.NDArray[np.float64]  # (height, width, 3), 0..255

GROUND = (199.0, 206.0, 203.0)
CELL = (184.0, 136.0, 132.0)
RIM = (168.0, 116.0, 118.0)
CENTRE = (206.0, 182.0, 180.0)
PLASMA = (198.0, 170.0, 214.0)  # of the white cell
NUCLEUS = (98.0, 74.0, 190.0)


def smear(
    seed: int = 0, size: tuple[int, int] = (640, 480), red_cells: int = 11
) -> tuple[Image.Image, list[Corners]]:
    """An RGB picture of ``red_cells`` red cells and one white cell, and where the red ones are.

    The cells do not touch each other. The same seed draws the same picture.
    """
    picture, places = _drawn(seed, size, red_cells)
    return picture.copy(), list(places)


@cache
def _drawn(
    seed: int, size: tuple[int, int], red_cells: int
) -> tuple[Image.Image, tuple[Corners, ...]]:
    """Drawn once: a picture takes the better part of a second."""
    random = np.random.default_rng(seed)
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.full((height, width, 3), GROUND)
    pixels += (9 * np.sin(columns / width * 2.2 + 0.4) - 4 * rows / height)[..., None]  # the lamp
    (x, y, radius), *places = _places(random, size, red_cells)
    for place in places:
        _red_cell(pixels, random, rows, columns, place)
    picture = Image.fromarray(_bytes(_white_cell(pixels, random, (x, y, radius))))
    picture = picture.filter(ImageFilter.GaussianBlur(1.6))
    noise = random.normal(0, 2.0, (height, width, 3))
    picture = Image.fromarray(_bytes(np.asarray(picture) + noise))
    return picture, tuple((x - r, y - r, x + r, y + r) for x, y, r in places)


def _places(
    random: np.random.Generator, size: tuple[int, int], red_cells: int
) -> list[tuple[float, float, float]]:
    """(x, y, radius) of the white cell, then of the red ones, apart and whole inside."""
    places: list[tuple[float, float, float]] = []
    radius = 82.0
    for _ in range(20_000):
        x = random.uniform(radius + 4, size[0] - radius - 4)
        y = random.uniform(radius + 4, size[1] - radius - 4)
        if all(np.hypot(x - a, y - b) > radius + r + 3 for a, b, r in places):
            places.append((x, y, radius))
            radius = random.uniform(44, 54)
        if len(places) > red_cells:
            return places
    raise ValueError(f"{red_cells} red cells do not fit; fewer, or another seed")


def _red_cell(
    pixels: Pixels,
    random: np.random.Generator,
    rows: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
    place: tuple[float, float, float],
) -> None:
    """A disc, a little out of round, darker at its rim and paler in the middle."""
    x, y, radius = place
    angle = np.arctan2(rows - y, columns - x)
    wobble = 1 + 0.03 * np.sin(2 * angle + random.uniform(0, 6)) * random.uniform(0, 1)
    distance = np.hypot(columns - x, rows - y) / (radius * 0.98 * wobble)
    shade = random.uniform(-8, 8)
    pale = random.uniform(0.35, 0.9) * np.exp(-((distance / 0.42) ** 2))
    rim = np.exp(-(((distance - 0.93) / 0.09) ** 2))
    color = np.full_like(pixels, CELL)
    color += (np.array(CENTRE) - CELL) * pale[..., None] + (np.array(RIM) - CELL) * rim[..., None]
    inside = np.clip((1 - distance) * radius, 0, 1)[..., None]
    pixels += inside * (color + shade - pixels)


def _white_cell(
    pixels: Pixels, random: np.random.Generator, place: tuple[float, float, float]
) -> Pixels:
    """The larger cell with a violet nucleus of three lobes."""
    x, y, radius = place
    picture = Image.fromarray(_bytes(pixels))
    pen = ImageDraw.Draw(picture)
    _disc(pen, x, y, radius, PLASMA)
    turn = random.uniform(0, 6)
    for lobe in range(3):
        angle = turn + lobe * 1.6
        _disc(
            pen,
            x + 0.42 * radius * np.cos(angle),
            y + 0.42 * radius * np.sin(angle),
            0.36 * radius,
            NUCLEUS,
        )
    speckle = random.normal(0, 9, pixels.shape[:2])[..., None]
    drawn = np.asarray(picture).astype(np.float64)
    changed = np.abs(drawn - pixels).max(axis=2, keepdims=True) > 1.5
    return np.where(changed, drawn + speckle, drawn)


def _disc(
    pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: tuple[float, float, float]
) -> None:
    red, green, blue = (int(part) for part in color)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))


def _bytes(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return np.clip(np.asarray(pixels, dtype=np.float64), 0, 255).astype(np.uint8)
