"""Any folder of labelled pictures: which format it is in."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from apps.errors import N_, InvalidInput
from apps.vision.formats import coco, voc, yolo
from apps.vision.formats.dataset import DetectionData

INSTANCES = "annotations/instances_*.json"  # as COCO is published, with folders of that name


def read(root: Path) -> DetectionData:
    """The data set in the COCO, VOC or YOLO folder ``root``.

    Raises:
        InvalidInput: none of the three, or as their readers.
    """
    for there, reader in _readers(root):
        if there:
            return reader()
    raise InvalidInput(
        N_(
            "%(folder)s holds no labels: neither annotations.json (COCO), nor Annotations/*.xml "
            "(VOC), nor data.yaml or classes.txt (YOLO)."
        ),
        folder=str(root),
    )


def has_boxes(root: Path) -> bool:
    """Whether :func:`read` would find labels in the folder ``root``."""
    return any(there for there, _reader in _readers(root))


def _readers(root: Path) -> list[tuple[bool, Callable[[], DetectionData]]]:
    parts = sorted(root.glob(INSTANCES))
    return [
        ((root / coco.ANNOTATIONS).is_file(), lambda: coco.read(root)),
        (bool(parts), lambda: _published(root, parts)),
        ((root / voc.LABELS).is_dir(), lambda: voc.read(root)),
        ((root / yolo.YAML).is_file(), lambda: yolo.read(root)),
        ((root / yolo.CLASSES).is_file(), lambda: yolo.read(root)),
    ]


def _published(root: Path, files: list[Path]) -> DetectionData:
    """COCO as it is published: instances_train2017.json and pictures in train2017/."""
    parts = []
    for path in files:
        folder = path.stem.removeprefix("instances_")
        part = coco.read(root, str(path.relative_to(root)), re.sub(r"\d+$", "", folder), folder)
        parts.append(part)
    classes = parts[0].classes
    for path, part in zip(files, parts, strict=True):
        if part.classes != classes:
            raise InvalidInput(
                N_("%(file)s has other classes than %(first)s."),
                file=str(path),
                first=files[0].name,
            )
    return replace(parts[0], pictures=tuple(p for part in parts for p in part.pictures))
