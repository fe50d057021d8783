"""Made pictures with boxes: bright rectangles on dark ground, and drawn blood smears."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from apps.vision.formats.dataset import (
    DetectionData,
    LabelledBox,
    LabelledPicture,
    PictureFile,
)
from tests.smear import smear

CLASSES = ("flat", "tall")


def write_png(path: Path, pixels: np.ndarray) -> PictureFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))
    return PictureFile(path)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rectangles(
    folder: Path, count: int = 4, size: tuple[int, int] = (96, 64), seed: int = 0
) -> DetectionData:
    """``count`` pictures with one flat and one tall white rectangle each, apart from each other."""
    random = np.random.default_rng(seed)
    width, height = size
    pictures = []
    for number in range(count):
        pixels = np.full((height, width, 3), 40, np.uint8)
        boxes = []
        for label, place in zip(CLASSES, (0, width // 2), strict=True):
            w, h = (24, 12) if label == "flat" else (12, 24)
            x = place + int(random.integers(2, width // 2 - w - 2))
            y = int(random.integers(2, height - h - 2))
            pixels[y : y + h, x : x + w] = 255
            boxes.append(LabelledBox(label, (float(x), float(y), float(x + w), float(y + h))))
        name = f"images/{number}.png"
        file = write_png(folder / name, pixels)
        pictures.append(LabelledPicture(name, file, width, height, tuple(boxes)))
    return DetectionData(CLASSES, tuple(pictures))


def smears(folder: Path, count: int = 4) -> DetectionData:
    """Drawn blood smears at a quarter of their size, with their red cells."""
    pictures = []
    for seed in range(count):
        picture, corners = smear(seed, red_cells=6)
        small = np.asarray(picture.resize((160, 120)))
        boxes = tuple(LabelledBox("RBC", tuple(c / 4 for c in box)) for box in corners)  # type: ignore[arg-type]
        name = f"smear-{seed}.png"
        file = write_png(folder / name, small)
        pictures.append(LabelledPicture(name, file, 160, 120, boxes))
    return DetectionData(("RBC",), tuple(pictures))


def divided(data: DetectionData, *splits: str) -> DetectionData:
    """The same pictures, dealt out to ``splits`` in turn."""
    pictures = [
        replace(picture, split=splits[number % len(splits)])
        for number, picture in enumerate(data.pictures)
    ]
    return replace(data, pictures=tuple(pictures))
