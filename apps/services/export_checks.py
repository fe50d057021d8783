"""A finished export read again by other code than wrote it, and compared picture by picture."""

import csv
import io
import itertools
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree

import ijson
import yaml

from apps.errors import N_, AppError
from apps.services import export_writers as written
from apps.services.export_writers import BLOCK, spool
from apps.vision.formats import coco, table, voc, yolo
from apps.vision.formats.dataset import Corners, LabelledPicture

logger = logging.getLogger(__name__)

NEAR = 0.5  # pixels by which a corner may differ
SAME_SCORE = 1e-4  # by which a score may differ
SCORED = ("coco", "csv", "labelstudio")  # formats that tell scores
Placed = tuple[str, Corners, float | None]  # a box; its score, None: a person's, or not told


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


@dataclass(frozen=True, slots=True)
class Read:
    """What a format says of a picture."""

    name: str
    size: tuple[int, int] | None  # pixels; None: it does not say
    boxes: list[Placed]


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
            placed = tuple((label, tuple(corners), score) for label, corners, score in boxes)
            yield Expected(name, width, height, placed, *rest)

    def close(self) -> None:
        self._file.close()


Reader = Callable[[zipfile.ZipFile, ExpectedList], Iterator[Read]]


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
    found, scored = READERS[kind](archive, expected), kind in SCORED
    count = 0
    for row, read in itertools.zip_longest(expected, found):
        if row is None or read is None or row.name != read.name:
            raise _differs(f"{row} instead of {read}")
        if read.size not in (None, (row.width, row.height)):
            raise _differs(f"{row.name}: {row.width} x {row.height} became {read.size}")
        boxes = [box if scored else (*box[:2], None) for box in row.boxes]
        if len(boxes) != len(read.boxes) or not all(map(_near, boxes, read.boxes)):
            raise _differs(f"{row.name}: {boxes} became {read.boxes}")
        count += len(boxes)
    return count


def _near(wanted: Placed, found: Placed) -> bool:
    sides = zip(wanted[1], found[1], strict=True)
    if wanted[0] != found[0] or any(abs(a - b) > NEAR for a, b in sides):
        return False
    scores = [score for score in (wanted[2], found[2]) if score is not None]
    return not scores or (len(scores) == 2 and abs(scores[0] - scores[1]) <= SAME_SCORE)


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


def _coco(archive: zipfile.ZipFile, _: ExpectedList) -> Iterator[Read]:
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
                    corners = (x, y, x + width, y + height)
                    boxes.append((classes[row["category_id"]], corners, row.get("score")))
                following = next(grouped, None)
            yield Read(image["file_name"], (image["width"], image["height"]), boxes)
        if following is not None:
            raise ValueError("annotations of no picture")


def _yolo(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[Read]:
    names = yaml.safe_load(archive.read(yolo.YAML))["names"]
    files = [name for name in archive.namelist() if name.startswith(f"{yolo.LABELS}/")]
    for row, file in zip(expected, files, strict=True):  # sides are shares of the picture's
        boxes: list[Placed] = []
        for line in archive.read(file).decode().splitlines():
            number, x, y, w, h = (float(word) for word in line.split())
            x1, y1 = (x - w / 2) * row.width, (y - h / 2) * row.height
            corners = (x1, y1, x1 + w * row.width, y1 + h * row.height)
            boxes.append((names[int(number)], corners, None))
        picture = PurePosixPath(row.member or row.name)  # which goes with labels of the same name
        if row.member and yolo.label_path(_placed(row)) != PurePosixPath(file):
            raise ValueError(f"{file} is not where the labels of {row.member} are looked for")
        yield Read(PurePosixPath(file).stem + picture.suffix, None, boxes)


def _placed(row: Expected) -> LabelledPicture:
    return LabelledPicture(row.member or row.name, None, row.width, row.height, ())


def _voc(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[Read]:
    for row in expected:
        top = ElementTree.fromstring(archive.read(row.label_file or ""))  # noqa: S314 (we wrote it)
        boxes: list[Placed] = []
        for each in top.iter("object"):
            x1, y1, x2, y2 = (float(each.findtext(f"bndbox/{tag}") or "") for tag in voc.CORNERS)
            boxes.append((each.findtext("name") or "", (x1 - 1, y1 - 1, x2, y2), None))
        width, height = (int(top.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        yield Read(top.findtext("filename") or "", (width, height), boxes)


def _table(archive: zipfile.ZipFile, _: ExpectedList) -> Iterator[Read]:
    with archive.open(table.NAME) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        for name, group in itertools.groupby(csv.DictReader(text), key=lambda row: row["file"]):
            rows = list(group)
            sizes = {(int(row["width"]), int(row["height"])) for row in rows}
            if len(sizes) > 1:
                raise ValueError(f"{name} has several sizes")
            yield Read(table.plain(name), sizes.pop(), [_row(row) for row in rows if row["x1"]])


def _row(row: dict[str, str]) -> Placed:
    x1, y1, x2, y2 = (float(row[side]) for side in ("x1", "y1", "x2", "y2"))
    score = float(row["score"]) if row["score"] else None
    return table.plain(row["label"]), (x1, y1, x2, y2), score


def _tasks(archive: zipfile.ZipFile, expected: ExpectedList) -> Iterator[Read]:
    with archive.open(written.TASKS) as stream:
        tasks = ijson.items(stream, "item", use_float=True)
        for row, task in zip(expected, tasks, strict=True):
            address = unquote(task["data"]["image"]).partition("?d=")[2]
            if address != (row.member or f"{written.IMAGES}/{row.name}"):
                raise ValueError(f"{address} instead of {row.name}")
            said = [_region(row, each) for each in _regions(task["annotations"])]
            found = [_region(row, each) for each in _regions(task["predictions"])]
            if any(box[2] is not None for box in said) or any(box[2] is None for box in found):
                raise ValueError(f"{row.name}: a box of a person is a model's, or the reverse")
            yield Read(PurePosixPath(address).name, None, said + found)


def _regions(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        yield from group["result"]


def _region(row: Expected, region: dict[str, Any]) -> Placed:
    if (region["original_width"], region["original_height"]) != (row.width, row.height):
        raise ValueError(f"{row.name}: a region is of another size")
    value = region["value"]
    x, y = value["x"] * row.width / 100, value["y"] * row.height / 100
    corners = (x, y, x + value["width"] * row.width / 100, y + value["height"] * row.height / 100)
    return value["rectanglelabels"][0], corners, region.get("score")


READERS: dict[str, Reader] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "csv": _table,
    "labelstudio": _tasks,
}
