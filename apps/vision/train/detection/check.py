"""What is wrong with labelled pictures, before hours are spent on them."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from apps.errors import AppError
from apps.vision.decode import decode
from apps.vision.formats.dataset import (
    TRAIN,
    Archives,
    DetectionData,
    LabelledBox,
    LabelledPicture,
    PictureFile,
)
from apps.vision.train.check import IMBALANCE, Finding, Report

OVER = 1.0  # pixels that rounding may put a corner outside
UNPACKED = 64  # pixels of the longest side: a JPEG's bytes are all read, but most are not unpacked
READERS = 4  # threads

NO_PICTURES = "no pictures"
NO_BOXES = "no boxes"
MISSING = "pictures that are missing"
UNREADABLE = "pictures that cannot be read"
SAME_NAME = "names that two pictures have"
SIZE = "pictures of another size than their labels say"
NOT_FINITE = "boxes with corners that are no numbers"
EMPTY = "boxes without width or height"
OUTSIDE = "boxes that reach out of their picture"
UNKNOWN = "boxes of a class that is not listed"
NO_EXAMPLES = "classes without a box"
UNLEARNED = "classes without a box to learn from (difficult ones and other parts do not count)"
RARE = f"classes with less than 1/{IMBALANCE:g} of the boxes of the commonest one"
SAME_BOX = "boxes that are there twice"
SAME_PICTURE = "pictures that are there twice"
LEAK = "pictures that are in two parts"
WITHOUT = "pictures without a box"

_FILES = (NO_PICTURES, NO_BOXES, MISSING, UNREADABLE, SAME_NAME, SIZE)
_CORNERS = (NOT_FINITE, EMPTY, OUTSIDE, UNKNOWN)
FATAL = (*_FILES, *_CORNERS)
WARNINGS = (LEAK, SAME_PICTURE, SAME_BOX, NO_EXAMPLES, UNLEARNED, RARE, WITHOUT)

Where = tuple[str, str]  # one of the above, and an example


@dataclass(frozen=True, slots=True)
class File:
    """What the file of a picture is."""

    size: tuple[int, int] = (0, 0)  # (width, height), upright
    digest: bytes = b""
    error: str = ""  # why it cannot be read


Files = dict[PictureFile, File]  # of those that are there
Progress = Callable[[int, int], object]  # pictures that are read, of all


def read_files(data: DetectionData, progress: Progress = lambda _done, _all: None) -> Files:
    """Unpack every picture of ``data``: the header of one that was cut short is whole."""
    there = [picture.file for picture in data.pictures if picture.file is not None]
    files: Files = {}
    with Archives() as archives, ThreadPoolExecutor(READERS) as pool:
        found = pool.map(partial(_read, archives=archives), there)
        for number, (place, file) in enumerate(zip(there, found, strict=True), 1):
            files[place] = file
            progress(number, len(there))
    return files


def check_detection(data: DetectionData, files: Files | None = None) -> Report:
    """Look at every label, and at every picture.

    Args:
        files: of :func:`read_files`, where they have been read before.
    """
    files = read_files(data) if files is None else files
    found: dict[str, list[str]] = defaultdict(list)
    for source in (_of_labels(data, files), _of_classes(data), _of_files(data, files)):
        for what, example in source:
            found[what].append(example)
    findings = [Finding(what, tuple(found[what]), True) for what in FATAL if found[what]]
    findings += [Finding(what, tuple(found[what]), False) for what in WARNINGS if found[what]]
    return Report(tuple(_summary(data)), tuple(findings))


def repaired(data: DetectionData, files: Files | None = None) -> DetectionData:
    """``data`` without what cannot be used; other boxes are cut at their picture's edge.

    Missing pictures, those that cannot be read, those of another size than their labels say (their
    boxes are of another picture) and impossible boxes are left out.

    Args:
        files: as of :func:`check_detection`.
    """
    files = read_files(data) if files is None else files
    pictures, names = [], set()
    for picture in data.pictures:
        file = files.get(picture.file) if picture.file is not None else None
        if picture.name in names or file is None or file.error or _differs(picture, file):
            continue
        names.add(picture.name)
        boxes = [_cut(box, file.size) for box in picture.boxes if box.label in data.classes]
        usable = tuple(box for box in boxes if _is_finite(box) and not _is_empty(box))
        width, height = file.size
        pictures.append(replace(picture, boxes=usable, width=width, height=height))
    return replace(data, pictures=tuple(pictures))


def _summary(data: DetectionData) -> Iterator[str]:
    for part in (*data.splits, None):
        pictures = [picture for picture in data.pictures if picture.split == part]
        counts = Counter(box.label for picture in pictures for box in picture.boxes)
        each = ", ".join(f"{label} {counts[label]}" for label in data.classes)
        if pictures:
            name = part or "all" if not data.splits else part or "in no part"
            yield f"{name}: {len(pictures)} pictures, {counts.total()} boxes: {each}"


def _of_classes(data: DetectionData) -> Iterator[Where]:
    counts = Counter(box.label for picture in data.pictures for box in picture.boxes)
    learned = Counter(
        box.label
        for picture in data.pictures
        for box in picture.boxes
        if picture.split in (TRAIN, None) and not box.difficult
    )
    if not data.pictures:
        yield NO_PICTURES, "–"
    elif not counts:
        yield NO_BOXES, "–"
    most = max(learned.values(), default=0)
    for label in data.classes:
        if not counts[label]:
            yield NO_EXAMPLES, label
        elif not learned[label]:
            yield UNLEARNED, label
        elif learned[label] * IMBALANCE < most:
            yield RARE, f"{label} {learned[label]}"


def _of_labels(data: DetectionData, files: Files) -> Iterator[Where]:
    names: set[str] = set()
    for picture in data.pictures:
        if picture.name in names:
            yield SAME_NAME, picture.name
        names.add(picture.name)
        if picture.file is None:
            yield MISSING, picture.name
        if not picture.boxes:
            yield WITHOUT, picture.name
        seen: set[LabelledBox] = set()
        for number, box in enumerate(picture.boxes, 1):
            where = f"{picture.name}: box {number}, {box.label}"
            if box.label not in data.classes:
                yield UNKNOWN, where
            if not _is_finite(box):
                yield NOT_FINITE, where
            elif _is_empty(box):
                yield EMPTY, where
            elif _is_outside(box, _size(picture, files)):
                yield OUTSIDE, where
            if box in seen:
                yield SAME_BOX, where
            seen.add(box)


def _of_files(data: DetectionData, files: Files) -> Iterator[Where]:
    seen: dict[bytes, LabelledPicture] = {}
    for picture in data.pictures:
        file = files.get(picture.file) if picture.file is not None else None
        if file is None:
            continue
        if file.error:
            yield UNREADABLE, f"{picture.name} ({file.error})"
            continue
        if _differs(picture, file):
            real, said = file.size, (picture.width, picture.height)
            yield SIZE, f"{picture.name}: {real[0]} × {real[1]}, not {said[0]} × {said[1]}"
        twin = seen.setdefault(file.digest, picture)
        if twin is not picture:
            same = twin.split == picture.split
            yield SAME_PICTURE if same else LEAK, f"{picture.name} = {twin.name}"


def _read(place: PictureFile, archives: Archives) -> File:
    try:
        content = archives.read(place)
        size = decode(content, side=UNPACKED).size
    except (OSError, AppError) as error:
        return File(error=str(error))
    return File(size, hashlib.sha256(content).digest())


def _size(picture: LabelledPicture, files: Files) -> tuple[int, int]:
    """As its labels say; where they do not, of the file; (0, 0): nobody knows."""
    if picture.width:
        return picture.width, picture.height
    return files.get(picture.file, File()).size if picture.file is not None else (0, 0)


def _differs(picture: LabelledPicture, file: File) -> bool:
    return picture.width > 0 and (picture.width, picture.height) != file.size


def _is_finite(box: LabelledBox) -> bool:
    return all(map(math.isfinite, box.corners))


def _is_empty(box: LabelledBox) -> bool:
    x1, y1, x2, y2 = box.corners
    return not (x1 < x2 and y1 < y2)


def _is_outside(box: LabelledBox, size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box.corners
    width, height = size
    if not width:
        return False
    return min(x1, y1) < -OVER or x2 > width + OVER or y2 > height + OVER


def _cut(box: LabelledBox, size: tuple[int, int]) -> LabelledBox:
    if not _is_finite(box):
        return box
    x1, y1, x2, y2 = box.corners
    width, height = map(float, size)
    return replace(box, corners=(max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)))
