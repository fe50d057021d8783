"""Labelled pictures: IDX files, folders, zips of folders and torchvision's data sets."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from apps.errors import N_, InvalidInput
from apps.vision.formats.dataset import TEST, TRAIN, VAL, split_called

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DATASETS = ("FashionMNIST", "MNIST", "CIFAR10", "OxfordIIITPet")  # of torchvision
IDX = {"train": "train-{}-idx{}-ubyte", "test": "t10k-{}-idx{}-ubyte"}


@dataclass(frozen=True)
class Part:
    """The pictures of one split, read when they are asked for."""

    labels: Sequence[int]
    names: Sequence[str]  # of each picture, for messages
    read: Callable[[int], Image.Image] = field(repr=False)  # raises OSError or ValueError

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """Labelled pictures in up to three parts."""

    classes: tuple[str, ...]  # in the order of the labels
    train: Part
    test: Part | None  # None: a part of train has to be held out
    val: Part | None = None  # likewise


def open_source(folder: Path, dataset: str | None = None, *, download: bool = False) -> Source:
    """Find out how the pictures in ``folder`` are laid out.

    Args:
        folder: IDX files (train-images-idx3-ubyte, also .gz); or train/, val/ and test/ with a
            folder for each class, or those in zips (train-0.zip); or a folder for each class alone.
        dataset: one of :data:`DATASETS`, which torchvision keeps in ``folder``.
        download: let torchvision fetch it.

    Raises:
        InvalidInput: nothing of that is there.
    """
    if dataset is not None:
        return _torchvision(dataset, folder, download)
    if not folder.is_dir():
        raise InvalidInput(N_("There is no folder %(folder)s."), folder=str(folder))
    if _idx_file(folder, "train", "images", 3) is not None:
        return _idx(folder)
    train, val, test = (_entries(folder, split) for split in (TRAIN, VAL, TEST))
    if not train:
        train, val, test = list(_walk(folder)), [], []
    classes = tuple(sorted({name for name, _path, _read in train}))
    if not classes:
        raise InvalidInput(
            N_(
                "%(folder)s has no pictures that training can read. It needs IDX files, or the "
                "folders train, val and test, or zips of them, with a folder for each class."
            ),
            folder=str(folder),
        )
    return Source(
        classes,
        _part(train, classes),
        test=_part(test, classes) if test else None,
        val=_part(val, classes) if val else None,
    )


Entry = tuple[str, str, Callable[[], bytes]]  # class, name, the bytes


def _entries(folder: Path, split: str) -> list[Entry]:
    """What folders and zips hold that people call ``split``, as val/ and Validation-0.zip are."""
    found: list[Entry] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and split_called(path.name) == split:
            found += _walk(path)
        elif path.suffix.casefold() == ".zip" and split_called(path.stem.split("-")[0]) == split:
            found += _zipped(path)
    return found


def _walk(folder: Path) -> Iterator[Entry]:
    """As torchvision's ImageFolder: the first folder is the class."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() in PICTURES and len(relative.parts) > 1:
            yield relative.parts[0], str(relative), path.read_bytes


def _zipped(path: Path) -> Iterator[Entry]:
    """The folder around the file is the class. Bytes stay in the zip until they are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            N_("%(file)s is no zip file that can be read: %(reason)s"),
            file=str(path),
            reason=error,
        ) from error
    for name in names:
        pure = PurePosixPath(name)
        if pure.suffix.lower() in PICTURES and len(pure.parts) > 1:
            yield pure.parent.name, f"{path.name}/{name}", _zip_reader(path, name)


def _zip_reader(path: Path, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
        except (zipfile.BadZipFile, KeyError) as error:
            raise OSError(str(error)) from error

    return read


def _part(entries: Sequence[Entry], classes: tuple[str, ...]) -> Part:
    number = {name: place for place, name in enumerate(classes)}
    for name, path, _read in entries:
        if name not in number:
            raise InvalidInput(
                N_("%(file)s is of the class “%(name)s”, of which train has no pictures."),
                file=path,
                name=name,
            )

    def read(index: int) -> Image.Image:
        return decode(entries[index][2]())

    labels = [number[name] for name, _path, _read in entries]
    return Part(labels, [path for _name, path, _read in entries], read)


def decode(data: bytes) -> Image.Image:
    """The whole picture, upright.

    Raises:
        OSError: no picture, or a broken one.
    """
    from PIL import ImageOps

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise OSError(str(error)) from error


def _idx_file(folder: Path, split: str, kind: str, dimensions: int) -> Path | None:
    name = IDX[split].format(kind, dimensions)
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _idx(folder: Path) -> Source:
    parts = {}
    for split in IDX:
        pictures, labels = (
            _idx_file(folder, split, "images", 3),
            _idx_file(folder, split, "labels", 1),
        )
        if pictures is not None and labels is not None:
            parts[split] = _arrays(read_idx(pictures), read_idx(labels), str(pictures.name))
    if "train" not in parts:
        raise InvalidInput(N_("%(folder)s has pictures but no labels."), folder=str(folder))
    classes = tuple(str(n) for n in range(max(parts["train"].labels) + 1))
    return Source(classes, parts["train"], parts.get("test"))


def read_idx(path: Path) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The array in an IDX file of unsigned bytes (the format of MNIST), also gzipped.

    Raises:
        InvalidInput: another format, or cut off.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
        if zero != 0 or kind != 8:
            raise ValueError("no IDX file of unsigned bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise InvalidInput(
            N_("%(file)s cannot be read: %(reason)s"), file=str(path), reason=error
        ) from error


def _arrays(pictures: Any, labels: Sequence[int] | Any, name: str) -> Part:
    if len(pictures) != len(labels):
        raise InvalidInput(
            N_("%(file)s has %(pictures)s pictures, but there are %(labels)s labels."),
            file=name,
            pictures=len(pictures),
            labels=len(labels),
        )
    names = [f"{name}[{index}]" for index in range(len(pictures))]
    return Part([int(label) for label in labels], names, lambda n: Image.fromarray(pictures[n]))


def _torchvision(name: str, root: Path, download: bool) -> Source:
    from torchvision import datasets

    splits: tuple[Any, Any] = ({"train": True}, {"train": False})
    if name == "OxfordIIITPet":
        splits = ({"split": "trainval"}, {"split": "test"})
    try:
        found = [getattr(datasets, name)(root, download=download, **split) for split in splits]
    except (RuntimeError, OSError) as error:
        raise InvalidInput(
            N_("%(name)s is not in %(folder)s. Fetch it with --download. (%(reason)s)"),
            name=name,
            folder=str(root),
            reason=error,
        ) from error
    parts = [_known(each, name) for each in found]
    return Source(tuple(found[0].classes), parts[0], parts[1])


def _known(dataset: Any, name: str) -> Part:
    labels = dataset._labels if name == "OxfordIIITPet" else dataset.targets
    names = [f"{name}[{index}]" for index in range(len(dataset))]
    return Part([int(label) for label in labels], names, lambda index: dataset[index][0])


def ordered(source: Source, labels: Sequence[str]) -> Source:
    """``source`` with its classes called and ordered as ``labels``.

    Folders may be called a little differently: "Cats" is "cat". Data without names for its
    classes (IDX) takes the labels as they come.

    Raises:
        InvalidInput: other classes.
    """
    unnamed = source.classes == tuple(str(n) for n in range(len(source.classes)))
    places = {_key(label): place for place, label in enumerate(labels)}
    keys = [_key(name) for name in source.classes]
    if unnamed and len(labels) == len(source.classes):
        return replace(source, classes=tuple(labels))
    if sorted(places) != sorted(keys):
        raise InvalidInput(
            N_("The data has the classes %(found)s, but the model has %(expected)s."),
            found=", ".join(source.classes),
            expected=", ".join(labels),
        )

    def moved(part: Part) -> Part:
        return Part([places[keys[label]] for label in part.labels], part.names, part.read)

    return Source(
        tuple(labels),
        moved(source.train),
        test=moved(source.test) if source.test is not None else None,
        val=moved(source.val) if source.val is not None else None,
    )


def _key(name: str) -> str:
    return name.casefold().strip().rstrip("s")


def tensor(picture: Image.Image, channels: int) -> Tensor:
    """(channels, H, W) uint8: grey for one channel, RGB for three."""
    array = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def split(labels: Sequence[int], part: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices that stay and indices that are held out, by seed, with the same part of each class.

    Args:
        part: of each class that is held out, 0..1; at least one example of a class with two.
    """
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for label in sorted(set(labels)):
        members = rng.permutation([place for place, each in enumerate(labels) if each == label])
        count = min(max(round(part * len(members)), int(part > 0)), len(members) - 1)
        held += [int(place) for place in members[:count]]
    out = set(held)
    return [place for place in range(len(labels)) if place not in out], sorted(held)
