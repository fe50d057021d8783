"""COCO's object detection format: one JSON file (https://cocodataset.org/#format-data).

Boxes are [x, y, width, height] in pixels. Two keys of our own are read and written where they
are: ``split`` of a picture and ``difficult`` of a box; ``iscrowd`` boxes are difficult too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.vision.formats.dataset import (
    DetectionData,
    LabelledBox,
    LabelledPicture,
    PictureFolder,
    split_of,
    unreadable,
)

ANNOTATIONS = "annotations.json"


def read(
    root: Path, annotations: str = ANNOTATIONS, split: str | None = None, pictures: str = "images"
) -> DetectionData:
    """The data set in the folder ``root``: ``annotations``, and pictures in it or in zips.

    Args:
        split: part that all of its pictures belong to, unless they name one; see
            :func:`apps.vision.formats.dataset.split_of`.
        pictures: a folder below ``root`` where pictures may be too.

    Raises:
        InvalidInput: the file is missing or not in this format; the text names the entry.
    """
    path = root / annotations
    content = _content(path)
    folder = PictureFolder(root, (pictures,))
    classes: dict[int, str] = {}
    for place, row in _rows(path, content, "categories"):
        classes[_get(path, place, row, "id", int)] = _get(path, place, row, "name", str)
    boxes = _boxes(path, content, classes)
    split = None if split is None else split_of(split, path)
    found = []
    for place, row in _rows(path, content, "images"):
        name = _get(path, place, row, "file_name", str)
        found.append(
            LabelledPicture(
                name=name,
                file=folder.find(name),
                width=_get(path, place, row, "width", int),
                height=_get(path, place, row, "height", int),
                boxes=tuple(boxes.pop(_get(path, place, row, "id", int), ())),
                split=_split(path, place, row) or split,
            )
        )
    if boxes:
        raise unreadable(path, f"annotations of an image with id {next(iter(boxes))}, not listed")
    return DetectionData(tuple(classes[key] for key in sorted(classes)), tuple(found))


def write(data: DetectionData, path: Path) -> None:
    """Write the labels of ``data`` to the JSON file ``path``."""
    numbers = {label: number for number, label in enumerate(data.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(data.pictures, 1):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": picture.name, **size})
        if picture.split is not None:
            images[-1]["split"] = picture.split
        for box in picture.boxes:
            x1, y1, x2, y2 = box.corners
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[box.label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "difficult": int(box.difficult),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in numbers.items()],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise unreadable(path, error.msg, error.lineno) from error
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, str(error)) from error


def _split(path: Path, place: str, row: dict[str, Any]) -> str | None:
    if "split" not in row:
        return None
    return split_of(_get(path, place, row, "split", str), path, place)


def _boxes(path: Path, content: Any, classes: dict[int, str]) -> dict[int, list[LabelledBox]]:
    """By the id of their picture."""
    found: dict[int, list[LabelledBox]] = {}
    for place, row in _rows(path, content, "annotations"):
        number = _get(path, place, row, "category_id", int)
        if number not in classes:
            raise unreadable(path, f"{place}: no category has the id {number}")
        corners = _get(path, place, row, "bbox", list)
        try:
            x, y, width, height = (float(value) for value in corners)
        except (TypeError, ValueError) as error:
            raise unreadable(path, f"{place}: bbox is not four numbers") from error
        difficult = bool(row.get("difficult") or row.get("iscrowd"))
        box = LabelledBox(classes[number], (x, y, x + width, y + height), difficult)
        found.setdefault(_get(path, place, row, "image_id", int), []).append(box)
    return found


def _rows(path: Path, content: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a list, each with a name for error texts: "images[3]"."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise unreadable(path, f"there is no list “{key}”")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise unreadable(path, f"{key}[{number}] is no object")
        yield f"{key}[{number}]", row


def _get(path: Path, place: str, row: dict[str, Any], key: str, kind: type) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise unreadable(path, f"{place} has no {key} that is {kind.__name__}")
    return value
