"""Boxes as a table: one CSV file with a line for each box, for spreadsheets and scripts.

The first line names the columns. Corners are pixels of the upright picture; a picture without boxes
has one line with empty cells, so that the table names every picture. A score is a model's; boxes of
people have none.
"""

import csv
import io

from apps.vision.formats.dataset import DetectionData

NAME = "boxes.csv"
COLUMNS = ("file", "width", "height", "label", "x1", "y1", "x2", "y2", "score")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(data: DetectionData) -> bytes:
    """The table of ``data`` as UTF-8 with the mark that spreadsheets look for."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for picture in data.pictures:
        start = (cell(picture.name), picture.width, picture.height)
        for box in picture.boxes:
            corners = (f"{value:.2f}" for value in box.corners)
            table.writerow((*start, cell(box.label), *corners, ""))
        if not picture.boxes:
            table.writerow((*start, *[""] * 6))
    return text.getvalue().encode("utf-8-sig")


def cell(text: str) -> str:
    """``text`` that no spreadsheet takes for a formula: names and labels are strangers' words."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def plain(cell: str) -> str:
    """The text that was written as ``cell``."""
    quoted = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return cell[1:] if quoted else cell
