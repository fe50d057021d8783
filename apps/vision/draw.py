"""The annotated picture for downloads. Pages draw their boxes as SVG instead."""

import io
import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from apps.vision import masks
from apps.vision.colors import color_of, text_on
from apps.vision.decode import decode, heavy_work
from apps.vision.types import Box

JPEG_SIDE = 65_500  # pixels: the longest side that a JPEG can have
TINT = 0.4  # how much of a mask's colour is mixed in, 0..1

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def annotate(picture: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """A copy of an RGB ``picture`` with ``boxes`` and their labels, best box on top.

    Masks lie under all of them and let the picture through.
    """
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(2, round(max(picture.size) / 500))
    ordered = sorted(boxes, key=lambda box: box.score)
    for box in ordered:
        if box.mask is not None:
            _tint(drawn, box.mask, color_of(box.label))
    for box in ordered:
        corners = _corners(box, picture.size)
        pen.rectangle(corners, outline=color_of(box.label), width=width)
        _write(pen, box, corners, picture.size)
    return drawn


def _tint(drawn: Image.Image, mask: str, color: str) -> None:
    """Mix ``color`` into the pixels of ``mask``, one mask's bitmap at a time."""
    x, y, bits = masks.cropped(mask, drawn.size)
    if bits.size:
        drawn.paste(color, (x, y), Image.fromarray(bits * np.uint8(255 * TINT)))


def _corners(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The outermost pixels of ``box``, all of them inside a picture of ``size``."""
    x1, x2 = (min(max(int(x), 0), size[0] - 1) for x in (box.x1, box.x2))
    y1, y2 = (min(max(int(y), 0), size[1] - 1) for y in (box.y1, box.y2))
    return x1, y1, x2, y2


def _write(
    pen: ImageDraw.ImageDraw,
    box: Box,
    corners: tuple[int, int, int, int],
    size: tuple[int, int],
) -> None:
    """The label above the box, or inside it where the picture ends; never outside."""
    text = box.label if box.by_person else f"{box.label} {100 * box.score:.0f}%"
    font, wide, tall = _fitting(pen, text, size)
    x = max(0, min(corners[0], size[0] - wide))
    above = corners[1] - tall
    y = max(0, min(above if above >= 0 else corners[1], size[1] - tall))
    color = color_of(box.label)
    pen.rectangle((x, y, x + wide - 1, y + tall - 1), fill=color)
    pen.text((x + 2, y + 1), text, fill=text_on(color), font=font)


def _fitting(pen: ImageDraw.ImageDraw, text: str, size: tuple[int, int]) -> tuple[_Font, int, int]:
    """(font, width, height) of a label with its margins; smaller where the picture is small."""
    points = max(12, round(max(size) / 60))
    while True:
        font = _font(points)
        _, _, right, bottom = pen.textbbox((2, 1), text, font=font)
        wide, tall = math.ceil(right) + 3, math.ceil(bottom) + 2
        if (wide <= size[0] and tall <= size[1]) or points <= 6:
            return font, wide, tall
        points = max(6, min(points - 1, int(points * min(size[0] / wide, size[1] / tall))))


@lru_cache(16)
def _font(points: int) -> _Font:
    return ImageFont.load_default(size=points)


def annotated_jpeg(data: bytes, boxes: Iterable[Box]) -> bytes:
    """The picture in ``data`` (any accepted file) with ``boxes`` drawn in, as JPEG.

    Raises:
        InvalidImage: ``data`` is not a picture.
    """
    picture = decode(data).picture
    with heavy_work:
        drawn = annotate(picture, boxes)
        drawn.thumbnail((JPEG_SIDE, JPEG_SIDE))
        return encode_jpeg(drawn)


def encode_jpeg(picture: Image.Image) -> bytes:
    """JPEG of an RGB picture, quality 92, without EXIF."""
    bare = picture.copy()
    bare.info.clear()  # else the comment of the original goes along
    buffer = io.BytesIO()
    bare.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
