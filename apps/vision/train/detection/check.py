"""What is wrong with labelled pictures, before hours are spent on them. Imports no torch."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from apps.errors import N_, AppError, InvalidInput
from apps.vision.decode import upright_size
from apps.vision.formats.dataset import DetectionData, LabelledBox, LabelledPicture

OVER = 1.0  # pixels that rounding may put a corner outside
RARE = 20  # the commonest class may have this many times the boxes of another
SHOWN = 3  # examples in a line of the report


class Problem(StrEnum):
    """Kinds of findings; the first ones keep a training from beginning."""

    NO_PICTURES = N_("no pictures at all")
    MISSING = N_("pictures that are missing")
    UNREADABLE = N_("pictures that cannot be read")
    SAME_NAME = N_("names that two pictures have")
    SIZE = N_("pictures of another size than their labels say")
    NOT_FINITE = N_("boxes with corners that are no numbers")
    EMPTY = N_("boxes without width or height")
    OUTSIDE = N_("boxes that reach out of their picture")
    UNKNOWN = N_("boxes of a class that is not listed")
    NO_EXAMPLES = N_("classes without a box")
    SAME_BOX = N_("boxes that are there twice")
    SAME_PICTURE = N_("pictures that are there twice")
    LEAK = N_("pictures that are in two parts")
    RARE = N_("classes that are rare beside the commonest one")
    NO_BOXES = N_("pictures without a box")


NOTES = frozenset(
    {
        Problem.NO_EXAMPLES,
        Problem.SAME_BOX,
        Problem.SAME_PICTURE,
        Problem.LEAK,
        Problem.RARE,
        Problem.NO_BOXES,
    }
)


@dataclass(frozen=True, slots=True)
class Report:
    """Findings by their kind, and how many boxes each class has."""

    findings: dict[Problem, tuple[str, ...]]  # where: "picture.jpg: box 3, RBC"
    boxes: dict[str, Counter[str]]  # by class, then by part; "–" where there are no parts
    pictures: Counter[str]  # by part

    @property
    def errors(self) -> int:
        """How many findings a training must not begin with."""
        return sum(len(rows) for kind, rows in self.findings.items() if kind not in NOTES)

    def lines(self) -> Iterator[str]:
        """The report as English text."""
        for part, count in self.pictures.items():
            yield f"part {part}: {count} pictures"
        for label, counts in self.boxes.items():
            numbers = ", ".join(f"{part} {counts[part]}" for part in self.pictures)
            yield f"class {label}: {counts.total()} boxes ({numbers})"
        for kind in Problem:
            rows = self.findings.get(kind, ())
            if rows:
                word = "note" if kind in NOTES else "error"
                more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
                yield f"{word}: {len(rows)} {kind}: {'; '.join(rows[:SHOWN])}{more}"
        yield "The data can be used." if not self.errors else f"{self.errors} errors."


def check(data: DetectionData, *, read_pictures: bool = True) -> Report:
    """Look at every label, and at the header and the checksum of every picture.

    Args:
        read_pictures: without it the pictures' files are not opened.
    """
    found: dict[Problem, list[str]] = defaultdict(list)
    boxes: dict[str, Counter[str]] = {label: Counter() for label in data.classes}
    pictures: Counter[str] = Counter()
    if not data.pictures:
        found[Problem.NO_PICTURES].append("–")
    for picture in data.pictures:
        part = picture.split or "–"
        pictures[part] += 1
        for box in picture.boxes:
            if box.label in boxes:
                boxes[box.label][part] += 1
        for kind, where in _of_labels(picture, set(data.classes)):
            found[kind].append(f"{picture.name}{where}")
    names = Counter(picture.name for picture in data.pictures)
    found[Problem.SAME_NAME] += [name for name, count in names.items() if count > 1]
    if read_pictures:
        for kind, text in _of_files(data):
            found[kind].append(text)
    most = max((counts.total() for counts in boxes.values()), default=0)
    for label, counts in boxes.items():
        if not counts:
            found[Problem.NO_EXAMPLES].append(label)
        elif counts.total() * RARE < most:
            found[Problem.RARE].append(f"{label}: {counts.total()} of {most}")
    kept = {kind: tuple(rows) for kind, rows in found.items() if rows}
    return Report(kept, boxes, pictures)


def require_usable(data: DetectionData) -> None:
    """Raises InvalidInput with the first errors if labels or files make a training impossible."""
    report = check(data, read_pictures=False)
    if report.errors:
        texts = [line for line in report.lines() if line.startswith("error: ")]
        raise InvalidInput(
            N_(
                "The data has errors: %(errors)s. Correct them, or let --repair leave out what "
                "is wrong."
            ),
            errors=" | ".join(text.removeprefix("error: ") for text in texts),
        )


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


def _of_labels(picture: LabelledPicture, classes: set[str]) -> Iterator[tuple[Problem, str]]:
    if picture.file is None:
        yield Problem.MISSING, ""
    if not picture.boxes:
        yield Problem.NO_BOXES, ""
    seen: set[LabelledBox] = set()
    for number, box in enumerate(picture.boxes, 1):
        where = f": box {number}, {box.label}"
        if box.label not in classes:
            yield Problem.UNKNOWN, where
        if not _is_finite(box):
            yield Problem.NOT_FINITE, where
        elif _is_empty(box):
            yield Problem.EMPTY, where
        elif _is_outside(box, picture):
            yield Problem.OUTSIDE, where
        if box in seen:
            yield Problem.SAME_BOX, where
        seen.add(box)


def _of_files(data: DetectionData) -> Iterator[tuple[Problem, str]]:
    seen: dict[bytes, LabelledPicture] = {}
    for picture in data.pictures:
        if picture.file is None:
            continue
        try:
            content = picture.file.read()
            size = upright_size(content)
        except (OSError, AppError) as error:
            yield Problem.UNREADABLE, f"{picture.name}: {error}"
            continue
        if picture.width and size != (picture.width, picture.height):
            said = f"{picture.width} × {picture.height}"
            yield Problem.SIZE, f"{picture.name}: {size[0]} × {size[1]}, labels: {said}"
        twin = seen.setdefault(hashlib.sha256(content).digest(), picture)
        if twin is not picture:
            kind = Problem.SAME_PICTURE if twin.split == picture.split else Problem.LEAK
            yield kind, f"{picture.name} and {twin.name}"


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
