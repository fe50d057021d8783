"""Lists in parts: a cursor says where the next one begins, whatever comes or goes meanwhile."""

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from apps.errors import N_, InvalidInput
from apps.models import Image
from apps.services.pictures import Pictures
from apps.web import MAX_ID

T = TypeVar("T")
LARGEST = 2**63 - 1  # that a database compares with


def pictures_after(pictures: Pictures, cursor: str, limit: int) -> tuple[list[Image], str | None]:
    """The next ``limit`` pictures of a list, in its order, and the next cursor.

    Raises:
        InvalidInput: not a cursor of ours, or of a list whose order has other types.
    """
    types = [column.type.python_type for column in pictures.order]
    place = read_place(cursor, *types) if cursor else None
    found, last = pictures.after(place, limit)
    return found, make_cursor(*last) if last else None


def part_of(found: Sequence[T], limit: int, *order: str) -> tuple[Sequence[T], str | None]:
    """Of ``limit`` + 1 rows those to show, and the cursor if there are more.

    Args:
        order: the columns that the list is ordered by.
    """
    shown = found[:limit]
    if len(found) <= limit:
        return shown, None
    return shown, make_cursor(*(getattr(shown[-1], name) for name in order))


def make_cursor(*place: Any) -> str:
    """What a program sends to get what comes after the row with these values in its order."""
    text = json.dumps(place, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int | None:
    """The number that ``make_cursor`` was given, of a row; None for the first part of a list.

    Raises:
        InvalidInput: not a cursor of ours.
    """
    if not cursor:
        return None
    last: int = read_place(cursor, int)[0]
    if last > MAX_ID:
        raise _none()
    return last


def read_place(cursor: str, *types: type) -> list[Any]:
    """The values that ``make_cursor`` was given, which are of these types.

    Raises:
        InvalidInput: not a cursor of ours.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        values = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != len(types):
        raise _none()
    if not all(_good(value, kind) for value, kind in zip(values, types, strict=True)):
        raise _none()
    return values


def _good(value: Any, kind: type) -> bool:
    """Whether a database can compare ``value`` with a column of ``kind``."""
    if kind is str:  # lone halves of a pair, and NUL, are what drivers break on
        return isinstance(value, str) and "\0" not in value and _whole(value)
    numbers = (int, float) if kind is float else (int,)
    right = isinstance(value, numbers) and not isinstance(value, bool)
    return right and 0 <= value <= LARGEST


def _whole(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _none() -> InvalidInput:
    return InvalidInput(N_("This cursor is none: send “next” of the page before, or nothing."))
