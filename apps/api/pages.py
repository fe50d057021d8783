"""Lists in parts: a cursor says where the next one begins, whatever comes or goes meanwhile."""

import base64
from dataclasses import replace

from apps.errors import N_, InvalidInput
from apps.models import Image
from apps.services.pictures import Pictures
from apps.web import MAX_ID


def pictures_after(pictures: Pictures, cursor: str, limit: int) -> tuple[list[Image], str | None]:
    """The next ``limit`` pictures of a list that is ordered by their number, and the next cursor.

    Raises:
        InvalidInput: not a cursor of ours, or the list has another order.
    """
    if len(pictures.order) != 1:
        raise InvalidInput(N_("A list in this order cannot be read in parts. Leave “sort” out."))
    [column] = pictures.order
    ids = pictures.ids
    if cursor:
        last = read_cursor(cursor)
        ids = ids.where(column < last if pictures.descending else column > last)
    found = replace(pictures, ids=ids, exact=False).slice(0, limit + 1)
    more = len(found) > limit
    found = found[:limit]
    return found, make_cursor(found[-1].id) if more else None


def make_cursor(last: int) -> str:
    """What a program sends to get what comes after row ``last``."""
    return base64.urlsafe_b64encode(f"after {last}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The row that ``make_cursor`` was given.

    Raises:
        InvalidInput: not a cursor of ours.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        word, number = text.split(" ")
        last = int(number)
    except ValueError:
        word, last = "", 0
    if word != "after" or not 0 <= last <= MAX_ID:
        raise InvalidInput(N_("This cursor is none: send “next” of the page before, or nothing."))
    return last
