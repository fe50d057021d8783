"""The annotated picture for downloads. Pages draw their boxes as SVG instead."""

import io
from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFont

from apps.vision.colors import color_of, text_on
from apps.vision.types import Box


def annotate(picture: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """A copy of an RGB ``picture`` with ``boxes`` and their labels, best box on top."""
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(2, round(max(picture.size) / 500))
    font = ImageFont.load_default(size=max(12, round(max(picture.size) / 60)))
    for box in sorted(boxes, key=lambda box: box.score):
        color = color_of(box.label)
        pen.rectangle((box.x1, box.y1, box.x2, box.y2), outline=color, width=width)
        _write(pen, box, font, color, picture.size)
    return drawn


def _write(
    pen: ImageDraw.ImageDraw,
    box: Box,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: str,
    size: tuple[int, int],
) -> None:
    """The label above the box, or inside it where the picture ends; never outside."""
    text = f"{box.label} {100 * box.score:.0f}%"
    _, _, wide, tall = pen.textbbox((2, 1), text, font=font)
    x = max(0.0, min(box.x1, size[0] - wide - 2))
    y = box.y1 - tall - 1 if box.y1 > tall + 1 else box.y1
    pen.rectangle((x, y, x + wide + 2, y + tall + 1), fill=color)
    pen.text((x + 2, y + 1), text, fill=text_on(color), font=font)


def encode_jpeg(picture: Image.Image) -> bytes:
    """JPEG of an RGB picture, quality 92, without EXIF."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
