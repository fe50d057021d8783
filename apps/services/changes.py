"""What a browser sends to be kept of a picture: all that a person says about its boxes.

The text is a stranger's: everything in it is looked at before it is used.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apps.errors import N_, InvalidInput, TooLarge
from apps.models import MAX_LABEL_LENGTH, MAX_TAG_LENGTH, Verdict
from apps.services.tags import has_controls, one_line

MAX_SAID = 2000  # boxes of one picture that a person has said something about
MAX_BYTES = 2**20  # of one change as JSON
MAX_NUMBER = 2**31 - 1  # of an INTEGER column
MAX_PLACE = 1e7  # pixels; no picture here is that long
MAX_MODEL_LENGTH = 80  # characters
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the upright picture


@dataclass(frozen=True, slots=True)
class Found:
    """A model's box, as the browser had it from us before."""

    model: str
    label: str
    score: float  # 0..1
    box: Corners


@dataclass(frozen=True, slots=True)
class Said:
    """One box as it shall be."""

    ref: str
    verdict: Verdict
    label: str
    box: Corners  # x1 <= x2 and y1 <= y2, perhaps outside of the picture
    detection: int | None  # the model's box that it is about
    found: Found | None


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that a person says about a picture, and which version of it they saw."""

    version: int
    batch: str  # UUID: the same change sent again is known by it
    reviewed: bool
    said: tuple[Said, ...]


def read_change(body: bytes) -> Change:
    """The change that ``body`` says as JSON.

    Raises:
        TooLarge: more than MAX_BYTES, or more than MAX_SAID boxes.
        InvalidInput: not JSON, or something in it is missing or wrong; the text says what.
    """
    if len(body) > MAX_BYTES:
        raise too_large()
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(N_("This change is not readable as JSON.")) from None
    if not isinstance(data, dict):
        raise _wrong("version")
    items = data.get("annotations")
    if not isinstance(items, list):
        raise _wrong("annotations")
    if len(items) > MAX_SAID:
        raise TooLarge(
            N_("A picture can have at most %(limit)s boxes of people. Remove some of them first."),
            limit=MAX_SAID,
        )
    said = tuple(_said(item, f"annotations[{place}]") for place, item in enumerate(items))
    _refuse_twice((one.ref.lower() for one in said), "ref")
    _refuse_twice((one.detection for one in said if one.detection is not None), "detection")
    reviewed = data.get("reviewed")
    if not isinstance(reviewed, bool):
        raise _wrong("reviewed")
    return Change(
        _whole(data.get("version"), "version"), _uuid(data.get("batch"), "batch"), reviewed, said
    )


def too_large() -> TooLarge:
    """The error for a body above MAX_BYTES."""
    return TooLarge(N_("This change is too large to be saved. Remove some boxes first."))


def clean_label(text: str) -> str:
    """One line of NFC text without surrounding space, as a tag would be, because it becomes one.

    Raises:
        InvalidInput: empty, too long, or with control characters.
    """
    label = one_line(text)
    if not label:
        raise InvalidInput(N_("Write a label first."))
    if len(label) > MAX_TAG_LENGTH:
        raise InvalidInput(N_("A label has at most %(limit)s characters."), limit=MAX_TAG_LENGTH)
    if has_controls(label):
        raise InvalidInput(N_("A label cannot hold control characters."))
    return label


def clipped(box: Corners, width: int, height: int) -> Corners:
    """``box`` inside of a picture of this size, at least one pixel wide and high."""
    x1, x2 = _clipped(box[0], box[2], width)
    y1, y2 = _clipped(box[1], box[3], height)
    return x1, y1, x2, y2


def _clipped(low: float, high: float, size: int) -> tuple[float, float]:
    low, high = min(max(low, 0.0), size), min(max(high, 0.0), size)
    if high - low >= 1:
        return low, high
    low = min(max((low + high - 1) / 2, 0.0), size - 1.0)
    return low, low + 1.0


def _said(item: Any, place: str) -> Said:
    if not isinstance(item, dict):
        raise _wrong(place)
    verdict = item.get("verdict")
    if not isinstance(verdict, str) or verdict not in set(Verdict):
        raise _wrong(f"{place}.verdict")
    label, detection, found = item.get("label"), item.get("detection"), item.get("found")
    if not isinstance(label, str):
        raise _wrong(f"{place}.label")
    return Said(
        ref=_uuid(item.get("ref"), f"{place}.ref"),
        verdict=Verdict(verdict),
        label=clean_label(label),
        box=_box(item.get("box"), f"{place}.box"),
        detection=None if detection is None else _whole(detection, f"{place}.detection"),
        found=None if found is None else _found(found, f"{place}.found"),
    )


def _found(item: Any, place: str) -> Found:
    if not isinstance(item, dict):
        raise _wrong(place)
    box = _box(item.get("box"), f"{place}.box")
    score = _number(item.get("score"), f"{place}.score")
    if not 0 <= score <= 1:
        raise _wrong(f"{place}.score")
    model = _text(item.get("model"), MAX_MODEL_LENGTH, f"{place}.model")
    label = _text(item.get("label"), MAX_LABEL_LENGTH, f"{place}.label")
    return Found(model, label, score, box)


def _text(value: Any, limit: int, place: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or has_controls(value):
        raise _wrong(place)
    return value


def _box(value: Any, place: str) -> Corners:
    if not isinstance(value, list) or len(value) != 4:
        raise _wrong(place)
    x1, y1, x2, y2 = (_number(number, place) for number in value)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(place)
    if not abs(value) <= MAX_PLACE:  # refuses NaN too, which is less than nothing
        raise _wrong(place)
    return float(value)


def _whole(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_NUMBER:
        raise _wrong(place)
    return value


def _uuid(value: Any, place: str) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _wrong(place)
    return value


def _refuse_twice(values: Iterable[object], name: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise InvalidInput(
                N_("This change names the same %(name)s twice: %(value)s."), name=name, value=value
            )
        seen.add(value)


def _wrong(place: str) -> InvalidInput:
    return InvalidInput(
        N_("This change cannot be read: “%(name)s” is missing or wrong."), name=place
    )
