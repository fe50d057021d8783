"""The files of an export in each format, picture by picture, with little of them in memory.

What belongs to one picture comes at once; what belongs to all of them, such as COCO's one JSON
file, is gathered in temporary files and comes at the end.
"""

import csv
import io
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import yaml

from apps.services.export_pictures import ExportedBox, ExportedPicture
from apps.vision.formats import coco, table, voc, yolo

BLOCK = 1 << 20  # bytes copied at a time
IMAGES = "images"
TASKS, CONFIG = "tasks.json", "label_config.xml"
SPLITS = ("train", "val")
VAL_OF = 5  # one picture of so many is for validation
Member = tuple[str, Iterable[bytes]]  # its name, and its content in pieces


class LabelWriter(Protocol):
    """One export in one format; ``classes`` are what its boxes will have, others may come."""

    def place(self, picture: ExportedPicture) -> str:
        """Where in the ZIP the file of the picture belongs."""
        ...

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        """Take a picture in; files that are its own."""
        ...

    def end(self) -> Iterator[Member]:
        """Files that are of all pictures together."""
        ...

    def close(self) -> None:
        """Give up what was gathered; after the end or before it."""
        ...


def spool() -> BinaryIO:
    """A file without a name, which is gone when it is closed or the process ends."""
    return cast(BinaryIO, tempfile.TemporaryFile())


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """All that was written to ``file``, which is closed in the end."""
    with file:
        file.seek(0)
        while block := file.read(BLOCK):
            yield block


class _List:
    """A JSON array that grows in a temporary file."""

    def __init__(self) -> None:
        self._file, self.length = spool(), 0

    def add(self, row: dict[str, Any]) -> None:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        self._file.write((",\n" if self.length else "").encode() + text.encode())
        self.length += 1

    def close(self) -> None:
        self._file.close()

    def blocks(self) -> Iterator[bytes]:
        yield b"["
        yield from blocks_of(self._file)
        yield b"]"


class _Numbers:
    """Classes and their numbers, in the order in which they came."""

    def __init__(self, classes: Sequence[str], first: int) -> None:
        self._numbers = {label: number for number, label in enumerate(classes, first)}
        self._first = first

    def of(self, label: str) -> int:
        return self._numbers.setdefault(label, len(self._numbers) + self._first)

    def all(self) -> dict[int, str]:
        return {number: label for label, number in self._numbers.items()}


class Coco:
    def __init__(self, classes: Sequence[str]) -> None:
        self._numbers = _Numbers(classes, 1)
        self._images, self._annotations = _List(), _List()

    def place(self, picture: ExportedPicture) -> str:
        return f"{IMAGES}/{picture.name}"

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        number = self._images.length + 1
        size = {"width": picture.width, "height": picture.height}
        self._images.add({"id": number, "file_name": picture.name, **size})
        for box in picture.boxes:
            x1, y1, x2, y2 = box.corners
            row = {
                "id": self._annotations.length + 1,
                "image_id": number,
                "category_id": self._numbers.of(box.label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            # Not COCO's, and left alone by its readers: how sure a model was.
            self._annotations.add(row | ({} if box.score is None else {"score": box.score}))
        yield from ()

    def end(self) -> Iterator[Member]:
        yield coco.ANNOTATIONS, self._blocks()

    def close(self) -> None:
        self._images.close()
        self._annotations.close()

    def _blocks(self) -> Iterator[bytes]:
        yield b'{"images":'
        yield from self._images.blocks()
        yield b',\n"annotations":'
        yield from self._annotations.blocks()
        names = [{"id": number, "name": label} for number, label in self._numbers.all().items()]
        yield b',\n"categories":' + json.dumps(names, ensure_ascii=False).encode() + b"}\n"


class Yolo:
    """A folder as Ultralytics trains from; a picture is in the same part in every export."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._numbers = _Numbers(classes, 0)
        self._there: dict[str, bool] = defaultdict(bool)

    def place(self, picture: ExportedPicture) -> str:
        return f"{yolo.PICTURES}/{split_of(picture)}/{picture.name}"

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        split = split_of(picture)
        self._there[split] = True
        numbers = {box.label: self._numbers.of(box.label) for box in picture.boxes}
        labelled = picture.labelled(split)
        yield str(yolo.label_path(labelled)), ["".join(yolo.lines(labelled, numbers)).encode()]

    def end(self) -> Iterator[Member]:
        there = [split for split in SPLITS if self._there[split]] or [SPLITS[0]]
        parts = {  # training needs both, so of very few pictures they are the same
            split: f"{yolo.PICTURES}/{split if split in there else there[0]}" for split in SPLITS
        }
        described = {"path": ".", **parts, "names": self._numbers.all()}
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        yield yolo.YAML, [text.encode()]

    def close(self) -> None:
        """Nothing is gathered in files."""


def split_of(picture: ExportedPicture) -> str:
    """ "train" or "val", by what the file is and nothing else."""
    return SPLITS[int(picture.sha256[:8], 16) % VAL_OF == 0]


class Voc:
    def __init__(self, classes: Sequence[str]) -> None:
        self._numbers = _Numbers(classes, 0)

    def place(self, picture: ExportedPicture) -> str:
        return f"{voc.PICTURES}/{picture.name}"

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        for box in picture.boxes:
            self._numbers.of(box.label)
        yield xml_path(picture), [voc.xml_of(picture.labelled())]

    def end(self) -> Iterator[Member]:
        yield voc.CLASSES, ["".join(f"{name}\n" for name in self._numbers.all().values()).encode()]

    def close(self) -> None:
        """Nothing is gathered in files."""


def xml_path(picture: ExportedPicture) -> str:
    return f"{voc.LABELS}/{PurePosixPath(picture.name).stem}.xml"


class Table:
    def __init__(self, _classes: Sequence[str]) -> None:
        self._file = spool()
        self._file.write("\ufeff".encode())  # the mark that spreadsheets look for
        self._write([table.COLUMNS])

    def place(self, picture: ExportedPicture) -> str:
        return f"{IMAGES}/{picture.name}"

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        start = (table.cell(picture.name), picture.width, picture.height)
        rows = [(*start, table.cell(box.label), *_cells(box)) for box in picture.boxes]
        self._write(rows or [(*start, *[""] * 6)])
        yield from ()

    def end(self) -> Iterator[Member]:
        yield table.NAME, blocks_of(self._file)

    def close(self) -> None:
        self._file.close()

    def _write(self, rows: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode())


def _cells(box: ExportedBox) -> Iterator[str]:
    yield from (f"{value:.2f}" for value in box.corners)
    yield "" if box.score is None else f"{box.score:.4f}"


class LabelStudio:
    """Tasks to import: what people said as annotations, what models found as predictions."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._numbers = _Numbers(classes, 0)
        self._tasks = _List()

    def place(self, picture: ExportedPicture) -> str:
        return f"{IMAGES}/{picture.name}"

    def add(self, picture: ExportedPicture) -> Iterator[Member]:
        for box in picture.boxes:
            self._numbers.of(box.label)
        said = [box for box in picture.boxes if box.score is None]
        found = [box for box in picture.boxes if box.score is not None]
        task: dict[str, Any] = {
            "data": {"image": f"/data/local-files/?d={quote(self.place(picture))}"},
            "annotations": [],
            "predictions": [],
        }
        if said:
            task["annotations"] = [{"result": [_region(picture, *each) for each in _named(said)]}]
        if found:
            prediction = {
                "model_version": picture.model,
                "score": min(box.score for box in found if box.score is not None),
                "result": [_region(picture, *each) for each in _named(found)],
            }
            task["predictions"] = [prediction]
        self._tasks.add(task)
        yield from ()

    def end(self) -> Iterator[Member]:
        yield TASKS, self._tasks.blocks()
        labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in self._labels())
        config = (
            '<View>\n  <Image name="image" value="$image"/>\n'
            f'  <RectangleLabels name="label" toName="image">\n{labels}'
            "  </RectangleLabels>\n</View>\n"
        )
        yield CONFIG, [config.encode()]

    def close(self) -> None:
        self._tasks.close()

    def _labels(self) -> Iterable[str]:
        return self._numbers.all().values()


def _named(boxes: list[ExportedBox]) -> Iterator[tuple[str, ExportedBox]]:
    for number, box in enumerate(boxes, 1):
        yield f"{'a' if box.score is None else 'p'}{number}", box


def _region(picture: ExportedPicture, name: str, box: ExportedBox) -> dict[str, Any]:
    x1, y1, x2, y2 = box.corners
    region = {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": picture.width,
        "original_height": picture.height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x1 / picture.width,
            "y": 100 * y1 / picture.height,
            "width": 100 * (x2 - x1) / picture.width,
            "height": 100 * (y2 - y1) / picture.height,
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
    }
    return region if box.score is None else region | {"score": box.score}


NATIVE, ACCOUNT = "native", "account"  # these two hold records, not labels: see export_native
WRITERS: dict[str, type[Coco | Yolo | Voc | Table | LabelStudio]] = {
    "coco": Coco,
    "yolo": Yolo,
    "voc": Voc,
    "csv": Table,
    "labelstudio": LabelStudio,
}
KINDS = (*WRITERS, NATIVE)
