"""A finished export read again by other code than wrote it, and compared picture by picture."""

import csv
import io
import itertools
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from xml.etree import ElementTree

import ijson
import yaml

from apps.errors import N_, AppError
from apps.services import export_writers as written
from apps.services.export_writers import BLOCK, spool
from apps.vision.formats import coco, table, voc, yolo
from apps.vision.formats.dataset import Corners

logger = logging.getLogger(__name__)

NEAR = 0.5  # pixels by which a corner may differ
Placed = tuple[str, Corners]  # a box


class NotTheSame(AppError):
    """What was written says something else than the pictures do."""

    status = 500
    code = "export"


NOT_THE_SAME = N_(
    "Reading the finished export back gave something else than the pictures have, so it is not "
    "offered. The server's log has the details."
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be in the ZIP of one picture."""

    name: str
    width: int
    height: int
    boxes: tuple[Placed, ...]
    member: str | None  # of its file; None: it is not there
    size: int  # bytes of that
    label_file: str | None  # that is its own


class ExpectedList:
    """What was written, kept in a temporary file."""

    def __init__(self) -> None:
        self._file = spool()
        self.length = 0

    def add(self, row: Expected) -> None:
        values = [row.name, row.width, row.height, row.boxes, row.member, row.size, row.label_file]
        self._file.write(json.dumps(values).encode() + b"\n")
        self.length += 1

    def __iter__(self) -> Iterator[Expected]:
        place = 0
        while True:
            self._file.seek(place)  # others may read at the same time
            if not (line := self._file.readline()):
                return
            place = self._file.tell()
            name, width, height, boxes, *rest = json.loads(line)
            placed = tuple((label, tuple(corners)) for label, corners in boxes)
            yield Expected(name, width, height, placed, *rest)

    def close(self) -> None:
        self._file.close()


Reader = Callable[[zipfile.ZipFile, ExpectedList], Iterator[tuple[str, list[Placed]]]]


def check(
    file: BinaryIO, kind: str, expected: ExpectedList, others: int, tick: Callable[[], None]
) -> int:
    """Compare the ZIP ``file`` with what it should hold; how many boxes it has.

    Args:
        others: members that belong to no picture alone.
        tick: called with each picture; what it raises ends the work.

    Raises:
        NotTheSame: the log says where.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            boxes = _labels(archive, kind, expected)
            members = _files(archive, expected, tick) + others
            if len(archive.namelist()) != members:
                raise _differs(f"{len(archive.namelist())} members instead of {members}")
    except (zipfile.BadZipFile, KeyError, ValueError, ElementTree.ParseError) as error:
        raise _differs(str(error)) from error
    return boxes


def _labels(archive: zipfile.ZipFile, kind: str, expected: ExpectedList) -> int:
    found = READERS[kind](archive, expected)
    count = 0
    for row, read in itertools.zip_longest(expected, found):
        if row is None or read is None or row.name != read[0]:
            raise _differs(f"{row} instead of {read}")
        if len(row.boxes) != len(read[1]) or not all(map(_near, row.boxes, read[1])):
            raise _differs(f"{row.name}: {row.boxes} became {read[1]}")
        count += len(row.boxes)
    return count


def _near(wanted: Placed, found: Placed) -> bool:
    sides = zip(wanted[1], found[1], strict=True)
    return wanted[0] == found[0] and all(abs(a - b) <= NEAR for a, b in sides)


def _files(archive: zipfile.ZipFile, expected: ExpectedList, tick: Callable[[], None]) -> int:
    """How many members the pictures have; each of them is read, which checks its CRC."""
    count = 0
    for row in expected:
        count += row.label_file is not None
        if row.member is not None:
            count += 1
            tick()
            with archive.open(row.member) as stream:
                size = sum(len(block) for block in iter(lambda: stream.read(BLOCK), b""))
            if size != row.size:
                raise _differs(f"{row.member} has {size} bytes instead of {row.size}")
    return count


def _differs(reason: str) -> NotTheSame:
    logger.error("export differs: %s", reason[:2000])
    return NotTheSame(NOT_THE_SAME)


# -- one reader for each format --------------------------------------------------------------


def _coco(archive: zipfile.ZipFile, _: ExpectedList) -> Iterator[tuple[str, list[Placed]]]:
    with archive.open(coco.ANNOTATIONS) as stream:
        classes = {row["id"]: row["name"] for row in ijson.items(stream, "categories.item")}
    with archive.open(coco.ANNOTATIONS) as images, archive.open(coco.ANNOTATIONS) as stream:
        rows = ijson.items(stream, "annotations.item", use_float=True)
        grouped = itertools.groupby(rows, key=lambda row: row["image_id"])
        following = next(grouped, None)
        for image in ijson.items(images, "images.item"):
            boxes: list[Placed] = []
            if following is not None and following[0] == image["id"]:
                for row in following[1]:
                    x, y, width, height = row["bbox"]
                    boxes.append((classes[row["category_id"]], (x, y, x + width, y + height)))
                following = next(grouped, None)
            yield image["file_name"], boxes
        if following is not None:
            raise ValueError("annotations of no picture")


def _yolo(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[tuple[str, list[Placed]]]:
    names = yaml.safe_load(archive.read(yolo.YAML))["names"]
    for row in expected:
        boxes: list[Placed] = []
        for line in archive.read(row.label_file or "").decode().splitlines():
            number, x, y, w, h = (float(word) for word in line.split())
            x1, y1 = (x - w / 2) * row.width, (y - h / 2) * row.height
            boxes.append((names[int(number)], (x1, y1, x1 + w * row.width, y1 + h * row.height)))
        yield row.name, boxes


def _voc(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[tuple[str, list[Placed]]]:
    for row in expected:
        top = ElementTree.fromstring(archive.read(row.label_file or ""))  # noqa: S314 (we wrote it)
        boxes: list[Placed] = []
        for each in top.iter("object"):
            x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{tag}") or "") for tag in voc.CORNERS)
            boxes.append((each.findtext("name") or "", (x1 - 1, y1 - 1, x2, y2)))
        yield top.findtext("filename") or "", boxes


def _table(archive: zipfile.ZipFile, _: ExpectedList) -> Iterator[tuple[str, list[Placed]]]:
    with archive.open(table.NAME) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        for name, rows in itertools.groupby(csv.DictReader(text), key=lambda row: row["file"]):
            yield table.plain(name), [_row(row) for row in rows if row["x1"]]


def _row(row: dict[str, str]) -> Placed:
    x1, y1, x2, y2 = (float(row[side]) for side in ("x1", "y1", "x2", "y2"))
    return table.plain(row["label"]), (x1, y1, x2, y2)


def _tasks(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[tuple[str, list[Placed]]]:
    with archive.open(written.TASKS) as stream:
        tasks = ijson.items(stream, "item", use_float=True)
        for row, task in zip(expected, tasks, strict=True):
            groups = (*task["annotations"], *task["predictions"])
            regions = [region for group in groups for region in group["result"]]
            yield row.name, [_region(row, region["value"]) for region in regions]


def _region(row: Expected, value: dict[str, Any]) -> Placed:
    x, y = value["x"] * row.width / 100, value["y"] * row.height / 100
    corners = (x, y, x + value["width"] * row.width / 100, y + value["height"] * row.height / 100)
    return value["rectanglelabels"][0], corners


READERS: dict[str, Reader] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "csv": _table,
    "labelstudio": _tasks,
}
