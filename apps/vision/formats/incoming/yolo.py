"""YOLO folders: a text file beside each picture or in the folder "labels" beside "images"."""

import io
from pathlib import PurePosixPath
from typing import Any

from apps.errors import N_
from apps.vision.formats.dataset import Corners
from apps.vision.formats.incoming.files import SMALL, Shelf, numbers
from apps.vision.formats.incoming.found import Found
from apps.vision.formats.yolo import labels_of

MAX_DESCRIPTIONS = 20  # YAML files that are looked at
LISTS = ("classes.txt", "obj.names", "labels.txt")
NOT_LABELS = frozenset({*LISTS, "readme.txt", "readme.dataset.txt", "readme.roboflow.txt"})
BAD_LINE = N_("Line %(line)s is not a class number and a box. It is left out.")
NO_CLASS = N_("Line %(line)s has the class %(number)s, and there is no such class. It is left out.")
NO_NAMES = N_("No file names the classes, so they are called by their numbers. Rename them below.")
OUTLINES = N_("Outlines are not taken over; the boxes around them are.")
ALONE = N_("There is no picture for this label file. It is left out.")


def fits(shelf: Shelf) -> bool:
    """Whether pictures of the archive have label files in this format."""
    names = set(shelf.files.names)
    described = any(_is_description(shelf, name) for name in _descriptions(shelf))
    return described or any(
        _has_boxes(shelf, label)
        for picture in shelf.pictures[:200]
        for label in _candidates(picture)
        if label in names
    )


def read(shelf: Shelf, found: Found) -> None:
    """Add every picture with the boxes of its label file."""
    classes = _classes(shelf)
    if classes is not None:
        for label in classes:
            found.classes.setdefault(label[:200])
    names = set(shelf.files.names)
    used: set[str] = set()
    for file in shelf.pictures:
        picture = found.picture(file)
        picture.parts = True
        beside = next((name for name in _candidates(file) if name in names), None)
        if beside is not None:
            used.add(beside)
            _read_one(shelf, beside, classes, file, found)
    if classes is None and used:
        shelf.problems.add("", NO_NAMES, loss=False)
    for name in shelf.named(".txt"):
        if name not in used and PurePosixPath(name).parent.name == "labels" and not _is_list(name):
            shelf.problems.add(name, ALONE)


def _candidates(picture: str) -> list[str]:
    """Where the labels of a picture may be."""
    path = PurePosixPath(picture)
    places = [
        labels_of(path),
        path.with_suffix(".txt"),
        path.parent / "labels" / f"{path.stem}.txt",
    ]
    return [str(place) for place in places if not _is_list(str(place))]


def _is_list(name: str) -> bool:
    return PurePosixPath(name).name.casefold() in NOT_LABELS


def _has_boxes(shelf: Shelf, name: str) -> bool:
    text = shelf.text(name)
    first = next((line for line in io.StringIO(text or "", newline=None) if line.strip()), "")
    values = numbers(first.split())
    return text is not None and (not first or (values is not None and len(values) >= 5))


def _read_one(shelf: Shelf, name: str, classes: list[str] | None, file: str, found: Found) -> None:
    picture = found.picture(file)
    outlines = False
    for line, text in enumerate(io.StringIO(shelf.text(name) or "", newline=None), 1):
        shelf.tick()
        if not text.strip():
            continue
        values = numbers(text.split())
        corners = _corners(values[1:]) if values else None
        if values is None or corners is None or values[0] != values[0] // 1:
            shelf.problems.add(name, BAD_LINE, line=line)
            continue
        number = int(values[0])
        if number < 0 or (classes is not None and number >= len(classes)):
            shelf.problems.add(name, NO_CLASS, line=line, number=number)
            continue
        outlines = outlines or len(values) > 6
        found.add(picture, str(number) if classes is None else classes[number], corners)
    if outlines:
        shelf.problems.add(name, OUTLINES, loss=False)


def _corners(values: list[float]) -> Corners | None:
    """Of middle and size, with a score or without; or around the points of an outline."""
    if len(values) in (4, 5):
        x, y, w, h = values[:4]
        return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        return (min(xs), min(ys), max(xs), max(ys))
    return None


def _classes(shelf: Shelf) -> list[str] | None:
    """Their names by number; None if no file says them."""
    for name in _descriptions(shelf):
        content = shelf.yaml(name)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list) and names:
            return [_word(word, place) for place, word in enumerate(names)]
        if isinstance(names, dict) and names and all(_is_number(key) for key in names):
            words = {int(key): word for key, word in names.items()}
            return [_word(words.get(n, n), n) for n in range(max(words) + 1)]
    for name in shelf.files.names:
        if PurePosixPath(name).name.casefold() in LISTS:
            text = shelf.text(name, SMALL) or ""
            lines = [line.strip() for line in text.splitlines()]
            if any(lines):
                return [_word(line, place) for place, line in enumerate(lines) if line]
    return None


def _word(word: Any, number: int) -> str:
    return str(word).strip() or str(number)


def _is_number(key: Any) -> bool:
    return not isinstance(key, bool) and str(key).isdecimal() and len(str(key)) < 5


def _descriptions(shelf: Shelf) -> list[str]:
    """YAML files that may name the classes, those nearest to the top first."""
    names = shelf.named(".yaml", ".yml")
    return sorted(names, key=lambda name: (name.count("/"), name))[:MAX_DESCRIPTIONS]


def _is_description(shelf: Shelf, name: str) -> bool:
    content = shelf.yaml(name)
    return isinstance(content, dict) and isinstance(content.get("names"), list | dict)
