"""What is wrong with labelled pictures, before hours are spent on them."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

from apps.errors import AppError
from apps.vision.decode import upright_size
from apps.vision.formats.dataset import Archives, DetectionData, LabelledBox, LabelledPicture
from apps.vision.train.check import IMBALANCE, Finding, Report

OVER = 1.0  # pixels that rounding may put a corner outside

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
RARE = f"classes with less than 1/{IMBALANCE:g} of the boxes of the commonest one"
SAME_BOX = "boxes that are there twice"
SAME_PICTURE = "pictures that are there twice"
LEAK = "pictures that are in two parts"
WITHOUT = "pictures without a box"

_FILES = (NO_PICTURES, NO_BOXES, MISSING, UNREADABLE, SAME_NAME, SIZE)
_CORNERS = (NOT_FINITE, EMPTY, OUTSIDE, UNKNOWN)
FATAL = (*_FILES, *_CORNERS)
WARNINGS = (LEAK, SAME_PICTURE, SAME_BOX, NO_EXAMPLES, RARE, WITHOUT)

Where = tuple[str, str]  # one of the above, and an example


def check_detection(data: DetectionData, *, read_pictures: bool = True) -> Report:
    """Look at every label, and at the header and the checksum of every picture.

    Args:
        read_pictures: without it the pictures' files are not opened.
    """
    found: dict[str, list[str]] = defaultdict(list)
    sources = [_of_labels(data), _of_classes(data)]
    for what, example in (pair for source in sources for pair in source):
        found[what].append(example)
    for what, example in _of_files(data) if read_pictures else ():
        found[what].append(example)
    findings = [Finding(what, tuple(found[what]), True) for what in FATAL if found[what]]
    findings += [Finding(what, tuple(found[what]), False) for what in WARNINGS if found[what]]
    return Report(tuple(_summary(data)), tuple(findings))


def repaired(data: DetectionData) -> DetectionData:
    """``data`` without missing pictures and impossible boxes, others cut at the picture's edge."""
    pictures, names = [], set()
    for picture in data.pictures:
        if picture.file is None or picture.name in names:
            continue
        names.add(picture.name)
        boxes = [_cut(box, picture) for box in picture.boxes if box.label in data.classes]
        usable = tuple(box for box in boxes if _is_finite(box) and not _is_empty(box))
        pictures.append(replace(picture, boxes=usable))
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
    if not data.pictures:
        yield NO_PICTURES, "–"
    elif not counts:
        yield NO_BOXES, "–"
    most = max(counts.values(), default=0)
    for label in data.classes:
        if not counts[label]:
            yield NO_EXAMPLES, label
        elif counts[label] * IMBALANCE < most:
            yield RARE, f"{label} {counts[label]}"


def _of_labels(data: DetectionData) -> Iterator[Where]:
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
            elif _is_outside(box, picture):
                yield OUTSIDE, where
            if box in seen:
                yield SAME_BOX, where
            seen.add(box)


def _of_files(data: DetectionData) -> Iterator[Where]:
    seen: dict[bytes, LabelledPicture] = {}
    with Archives() as archives:
        for picture in data.pictures:
            if picture.file is None:
                continue
            try:
                content = archives.read(picture.file)
                size = upright_size(content)
            except (OSError, AppError) as error:
                yield UNREADABLE, f"{picture.name} ({error})"
                continue
            said = picture.width, picture.height
            if picture.width and size != said:
                yield SIZE, f"{picture.name}: {size[0]} × {size[1]}, not {said[0]} × {said[1]}"
            twin = seen.setdefault(hashlib.sha256(content).digest(), picture)
            if twin is not picture:
                same = twin.split == picture.split
                yield SAME_PICTURE if same else LEAK, f"{picture.name} = {twin.name}"


def _is_finite(box: LabelledBox) -> bool:
    return all(map(math.isfinite, box.corners))


def _is_empty(box: LabelledBox) -> bool:
    x1, y1, x2, y2 = box.corners
    return not (x1 < x2 and y1 < y2)


def _is_outside(box: LabelledBox, picture: LabelledPicture) -> bool:
    x1, y1, x2, y2 = box.corners
    if not picture.width:
        return False
    return min(x1, y1) < -OVER or x2 > picture.width + OVER or y2 > picture.height + OVER


def _cut(box: LabelledBox, picture: LabelledPicture) -> LabelledBox:
    if not picture.width or not _is_finite(box):
        return box
    x1, y1, x2, y2 = box.corners
    width, height = float(picture.width), float(picture.height)
    return replace(box, corners=(max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)))
