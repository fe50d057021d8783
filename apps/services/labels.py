"""Lists of classes as people have them: lines, commas, a YOLO ``names`` block, COCO categories."""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from apps.errors import N_, InvalidInput
from apps.models import MAX_TAG_LENGTH, fold

MAX_CLASSES = 2000
_NAMES = re.compile(r"^names:[ \t]*", re.MULTILINE)
_NEXT_KEY = re.compile(r"^[A-Za-z_]\w*:", re.MULTILINE)
_NUMBERED = re.compile(r"\s*['\"]?(\d{1,6})['\"]?\s*:\s*(.+)")
_BULLET = re.compile(r"\s*-\s+(.+)")
# One item of a YAML list or mapping in brackets, quoted or plain.
_ITEM = re.compile(r"""\s*((?:\d{1,6}\s*:\s*)?(?:'[^']*'|"[^"]*"|[^,'"\[\]{}]+))\s*(?:,|$)""")
_NOT_CLASSES = {"__background__", "n/a"}


def parse_classes(text: str) -> tuple[str, ...]:
    """The labels of ``text``; the first one has number 1, because 0 is the background.

    Accepts one label a line or commas between them, ``names:`` of a YOLO file (a block, a list or
    numbered from 0), and JSON: a list of labels, or COCO's ``categories``.

    Raises:
        InvalidInput: no labels, too many, one twice, or one that cannot be a tag.
    """
    labels = [_clean(label, n) for n, label in enumerate(_labels(text.lstrip("\ufeff")), 1)]
    if not labels:
        raise InvalidInput(N_("Write the classes, one a line."))
    if len(labels) > MAX_CLASSES:
        raise InvalidInput(N_("There can be at most %(limit)s classes."), limit=MAX_CLASSES)
    seen: set[str] = set()
    for label in labels:
        if fold(label) in seen:
            raise InvalidInput(N_("The class “%(label)s” is there twice."), label=label)
        seen.add(fold(label))
    return tuple(labels)


def _labels(text: str) -> list[str]:
    """The parts of ``text``, not yet cleaned."""
    if names := _NAMES.search(text):
        text = text[names.end() :]
        if after := _NEXT_KEY.search(text):
            text = text[: after.start()]
    text = text.strip()
    if text[:1] in ("[", "{"):
        return _from_json(text)
    lines = [line for line in text.splitlines() if line.strip()]
    for pattern, several in ((_NUMBERED, True), (_BULLET, False)):
        found = [match for line in lines if (match := pattern.fullmatch(line))]
        if found and len(found) == len(lines):
            if several:
                return _in_order((int(m[1]), _unquoted(m[2])) for m in found)
            return [_unquoted(m[1]) for m in found]
    if len(lines) == 1:
        return [_unquoted(part) for part in lines[0].split(",") if part.strip()]
    return [line.rstrip().removesuffix(",") for line in lines]


def _from_json(text: str) -> list[str]:
    """A list, a mapping of numbers, or what stands under ``names`` or ``categories``."""
    data: Any
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _from_flow(text)
    for key in ("categories", "names"):
        if isinstance(data, dict) and key in data:
            data = data[key]
    if isinstance(data, list) and not any(isinstance(item, dict) for item in data):
        return [str(label) for label in data]
    try:
        pairs = data.items() if isinstance(data, dict) else ((i["id"], i["name"]) for i in data)
        return _in_order([(int(number), str(label)) for number, label in pairs])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable() from error


def _from_flow(text: str) -> list[str]:
    """``['a', b]`` or ``{0: a, 1: b}`` as YAML and Python write them."""
    inner, items, place = " ".join(text[1:-1].split()), [], 0
    while place < len(inner):
        item = _ITEM.match(inner, place)
        if item is None:
            raise _unreadable()
        items.append(item[1])
        place = item.end()
    if text[0] == "[":
        return [_unquoted(item) for item in items]
    pairs = [match for item in items if (match := _NUMBERED.fullmatch(item))]
    if len(pairs) != len(items):
        raise _unreadable()
    return _in_order((int(m[1]), _unquoted(m[2])) for m in pairs)


def _in_order(pairs: Iterable[tuple[int, str]]) -> list[str]:
    """Labels by their numbers, which begin at 0 (YOLO) or 1 (COCO) and leave none out."""
    by_number = sorted(pairs)
    numbers = [number for number, _ in by_number]
    first = numbers[0] if numbers else 1
    if first not in (0, 1) or numbers != list(range(first, first + len(numbers))):
        raise InvalidInput(
            N_(
                "The numbers of the classes must begin at 0 or 1 and leave none out. Name every "
                "number that the network has, in order, one a line."
            )
        )
    return [label for _, label in by_number]


def _clean(label: str, number: int) -> str:
    name = " ".join(unicodedata.normalize("NFC", label).split())
    if not name or name.lower() in _NOT_CLASSES:
        raise InvalidInput(
            N_("Class %(number)s is not a class. Leave the background out: it has number 0."),
            number=number,
        )
    if len(name) > MAX_TAG_LENGTH:  # each may become a tag
        raise InvalidInput(
            N_("Class %(number)s is too long: a label has at most %(limit)s characters."),
            number=number,
            limit=MAX_TAG_LENGTH,
        )
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in name):
        raise InvalidInput(
            N_("Class %(number)s holds control characters. Is this a text file?"), number=number
        )
    return name


def _unquoted(text: str) -> str:
    text = text.strip().rstrip(",").strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _unreadable() -> InvalidInput:
    return InvalidInput(N_("This list of classes cannot be read. Write the classes, one a line."))
