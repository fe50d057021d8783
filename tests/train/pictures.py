"""Folders of made pictures: circles are bright on the left, squares on the right."""

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from apps.vision.train.classifier import ClassifierRecipe

CLASSES = ("circles", "squares")


def picture(label: int, number: int, side: int = 24) -> Image.Image:
    """A noisy picture whose bright half says its class."""
    rng = np.random.default_rng((label, number))
    array = rng.integers(0, 90, (side, side, 3), np.uint8)
    half = slice(0, side // 2) if label == 0 else slice(side // 2, side)
    array[:, half] += 130
    return Image.fromarray(array)


def folder(path: Path, train: int = 12, test: int = 6) -> Path:
    """train/ and test/ with a folder for each class."""
    for split, count, first in (("train", train, 0), ("test", test, 1000)):
        for label, name in enumerate(CLASSES):
            place = path / split / name
            place.mkdir(parents=True)
            for number in range(count):
                picture(label, first + number).save(place / f"{number}.png")
    return path


def zips(path: Path, train: int = 12, test: int = 6) -> Path:
    """The same as zips of train/<class>/… and test/<class>/…"""
    tree = folder(path / "tree", train, test)
    out = path / "zips"
    out.mkdir()
    for split in ("train", "test"):
        with zipfile.ZipFile(out / f"{split}-0.zip", "w") as archive:
            for file in sorted((tree / split).rglob("*.png")):
                archive.write(file, str(file.relative_to(tree)))
    return out


def idx(path: Path, train: int = 40, test: int = 20, classes: int = 10) -> Path:
    """IDX files as MNIST's: 28 x 28, one bright row for each class."""
    path.mkdir(parents=True)
    for split, count in (("train", train), ("t10k", test)):
        labels = np.arange(count, dtype=np.uint8) % classes
        rng = np.random.default_rng(count)
        pictures = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for place, label in enumerate(labels):
            pictures[place, 2 * label + 4 : 2 * label + 6] = 220
        for kind, array in (("images", pictures), ("labels", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            file = path / f"{split}-{kind}-idx{array.ndim}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes()))
    return path


def recipe(**values: object) -> ClassifierRecipe:
    """Quick, on the CPU, for the pictures above."""
    return ClassifierRecipe().changed(
        {
            "network": "resnet18",
            "size": 32,
            "epochs": 2,
            "batch": 8,
            "lr": 1e-3,
            "accelerator": "cpu",
            "held_out": 0.25,
        }
        | values
    )
