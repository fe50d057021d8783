"""Boxes as a table (CSV): a line for each box, columns by name in any order.

Our own export calls them file, width, height, label, x1, y1, x2, y2; other tools' words for the
same are understood too. Corners are pixels.
"""

import csv
import io
from collections.abc import Iterator

from apps.errors import N_
from apps.vision.formats.incoming.files import Shelf, numbers
from apps.vision.formats.incoming.found import Found
from apps.vision.formats.table import plain

NAMES = {
    "file": ("file", "filename", "file_name", "image", "image_path", "path"),
    "label": ("label", "class", "name", "category"),
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
}
NEEDED = ("file", "label", "x1", "y1", "x2", "y2")
MAX_LINE = 2**20  # characters
BAD_LINE = N_("Line %(line)s is not a box: it needs a label and four numbers. It is left out.")
NOT_CSV = N_("This table cannot be read on from line %(line)s: %(reason)s.")


def fits(shelf: Shelf, name: str) -> bool:
    """Whether the table ``name`` has the columns that boxes need."""
    text = shelf.text(name)
    try:
        return text is not None and _columns(next(_rows(text), [])) is not None
    except csv.Error as error:
        shelf.refuse(name, NOT_CSV, line=1, reason=str(error))
        return False


def read(shelf: Shelf, name: str, found: Found) -> None:
    """Add what the table ``name`` says."""
    rows = _rows(shelf.text(name) or "")
    columns = _columns(next(rows, []))
    if columns is None:
        return
    line = 1
    files: dict[str, str | None] = {}
    try:
        for line, cells in enumerate(rows, 2):
            shelf.tick()
            row = {key: cells[place] for key, place in columns.items() if place < len(cells)}
            if row:
                _line(shelf, name, line, row, files, found)
    except csv.Error as error:
        shelf.problems.add(name, NOT_CSV, line=line + 1, reason=str(error))


def _line(
    shelf: Shelf,
    name: str,
    line: int,
    row: dict[str, str],
    files: dict[str, str | None],
    found: Found,
) -> None:
    said = plain(row.get("file", "")).strip()
    if said not in files:  # a picture that is not there is named once
        files[said] = shelf.find(said, name)
    file = files[said]
    if file is None:
        return
    picture = found.picture(file)
    size = numbers((row.get("width") or 0, row.get("height") or 0))
    if size and all(0 <= side < 10**7 for side in size):
        picture.size = (int(size[0]), int(size[1]))
    label = plain(row.get("label", "")).strip()
    cells = [row.get(key, "").strip() for key in ("x1", "y1", "x2", "y2")]
    if not label and not any(cells):
        return  # a picture without boxes
    corners = numbers(cells)
    if not label or corners is None:
        shelf.problems.add(name, BAD_LINE, line=line)
        return
    x1, y1, x2, y2 = corners
    found.add(picture, label, (x1, y1, x2, y2))


def _rows(text: str) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="")
    mark = max((",", ";", "\t"), key=lines.readline(MAX_LINE).count)
    lines.seek(0)
    return csv.reader(_not_too_long(lines), delimiter=mark)


def _not_too_long(lines: io.StringIO) -> Iterator[str]:
    """Raises csv.Error: a line would take much more memory as cells."""
    while line := lines.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise csv.Error(f"it is longer than {MAX_LINE} characters")
        yield line


def _columns(head: list[str]) -> dict[str, int] | None:
    """Where each column is; None if one that is needed is not there."""
    words = [word.strip().casefold() for word in head]
    columns = {
        key: words.index(name)
        for key, known in NAMES.items()
        for name in reversed(known)
        if name in words
    }
    return columns if all(key in columns for key in NEEDED) else None
