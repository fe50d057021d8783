"""YOLO's format: one text file for each picture (https://docs.ultralytics.com/datasets/detect).

    data.yaml    images/<split>/<name>.jpg    labels/<split>/<name>.txt

A line is "class x y width height": the class counts from 0, the others are the box's middle and
size as parts of the picture's. Without data.yaml, classes.txt has a class a line.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from apps.errors import InvalidImage, InvalidInput
from apps.vision.decode import FORMATS, upright_size
from apps.vision.formats.dataset import (
    DetectionData,
    LabelledBox,
    LabelledPicture,
    PictureFile,
    is_safe,
    split_called,
    split_of,
    unreadable,
)

YAML, CLASSES = "data.yaml", "classes.txt"
PICTURES, LABELS = "images", "labels"
ENDINGS = {f".{extension}" for extension, _ in FORMATS.values()} | {".jpeg", ".tiff"}


def read(root: Path) -> DetectionData:
    """The data set in the folder ``root``. A picture without a label file has no boxes; a label
    file without a picture is a picture that is missing, called as the file of labels.

    Raises:
        InvalidInput: no pictures, or a file that is not in this format; the text names its line.
    """
    classes, folders = _describe(root)
    pictures = []
    for folder, split in folders.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix.lower() in ENDINGS:
                pictures.append(_picture(root, path, split, classes))
    if not pictures:
        raise unreadable(root / PICTURES, "there is no picture")
    known = {labels_of(PurePosixPath(picture.name)).as_posix() for picture in pictures}
    pictures += list(_missing(root, folders, known, classes))
    return DetectionData(classes, tuple(pictures))


def write(data: DetectionData, root: Path) -> None:
    """Write data.yaml and the label files of ``data`` below ``root``.

    Raises:
        InvalidInput: an unsafe name, or a picture whose size is not known.
    """
    numbers = {label: number for number, label in enumerate(data.classes)}
    for picture in data.pictures:
        if not is_safe(picture.name) or not picture.width or not picture.height:
            raise unreadable(Path(picture.name), "its name is unsafe, or its size is not known")
        path = root / label_path(picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines(picture, numbers)), encoding="utf-8")
    parts = {split: f"{PICTURES}/{split}" for split in data.splits} or {"train": PICTURES}
    described = {"path": ".", **parts, "names": dict(enumerate(data.classes))}
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (root / YAML).write_text(text, encoding="utf-8")


def label_path(picture: LabelledPicture) -> PurePosixPath:
    """Where the labels of a picture belong, relative to the data set."""
    name = PurePosixPath(picture.name)
    if name.parts[0] == PICTURES:
        return PurePosixPath(LABELS, *name.parts[1:]).with_suffix(".txt")
    return PurePosixPath(LABELS, picture.split or "", name).with_suffix(".txt")


def lines(picture: LabelledPicture, numbers: dict[str, int]) -> Iterator[str]:
    """The label file of a picture, line by line."""
    width, height = picture.width, picture.height
    for box in picture.boxes:
        x1, y1, x2, y2 = box.corners
        middle = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
        size = (x2 - x1) / width, (y2 - y1) / height
        numbers_text = " ".join(f"{value:.6f}" for value in (*middle, *size))
        yield f"{numbers[box.label]} {numbers_text}\n"


def _describe(root: Path) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """The classes, and folders of pictures with their split."""
    path = root / YAML
    if not path.is_file():
        listed = root / CLASSES
        try:
            rows = listed.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise unreadable(listed, str(error)) from error
        return tuple(line.strip() for line in rows if line.strip()), _below(root)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise unreadable(path, str(error.problem), mark.line + 1 if mark else None) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise unreadable(path, str(error)) from error
    if not isinstance(content, dict):
        raise unreadable(path, "it is no list of settings")
    return _names(path, content.get("names")), _folders(path, content)


def _below(root: Path) -> dict[str, str | None]:
    """The folders in images/ if some of them are parts of the data, else images/ as a whole."""
    folders = sorted(path for path in (root / PICTURES).glob("*") if path.is_dir())
    if not any(split_called(path.name) for path in folders):
        return {PICTURES: None}
    return {f"{PICTURES}/{path.name}": split_of(path.name, path) for path in folders}


def _names(path: Path, names: Any) -> tuple[str, ...]:
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise unreadable(path, "“names” is neither a list nor numbered from 0")
    return tuple(str(name) for name in names)


def _folders(path: Path, content: dict[str, Any]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, value in content.items():
        split = split_called(str(key))
        if split is None:  # another setting
            continue
        for folder in value if isinstance(value, list) else [value] if value else []:
            # Downloads often say ../train/images although it is train/images.
            name = str(folder).removeprefix("../").removeprefix("./")
            if not is_safe(name):
                raise unreadable(path, f"“{key}” leads out of the folder: {folder}")
            found[name] = split
    if not found:
        raise unreadable(path, "it names no folder as train, val or test")
    return found


def _picture(
    root: Path, path: Path, split: str | None, classes: tuple[str, ...]
) -> LabelledPicture:
    name = path.relative_to(root).as_posix()
    try:
        width, height = upright_size(path.read_bytes())
    except (OSError, InvalidImage):
        width, height = 0, 0  # the check of the data names it
    labels = root / labels_of(PurePosixPath(path.relative_to(root).as_posix()))
    there = width > 0 and labels.is_file()
    boxes = tuple(_boxes(labels, width, height, classes)) if there else ()
    return LabelledPicture(name, PictureFile(path), width, height, boxes, split)


def _missing(
    root: Path, folders: dict[str, str | None], known: set[str], classes: tuple[str, ...]
) -> Iterator[LabelledPicture]:
    """Label files with boxes that are not ``known``; other texts may lie beside them."""
    for folder, split in folders.items():
        for path in sorted((root / labels_of(PurePosixPath(folder, "any")).parent).rglob("*.txt")):
            name = path.relative_to(root).as_posix()
            try:
                boxes = name not in known and any(_boxes(path, 1, 1, classes))
            except InvalidInput:
                continue
            if boxes:
                known.add(name)
                yield LabelledPicture(name, None, 0, 0, (), split)


def labels_of(path: PurePosixPath) -> PurePosixPath:
    """The last folder called "images" becomes "labels", as YOLO's own code has it."""
    parts = list(path.with_suffix(".txt").parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == PICTURES:
            parts[place] = LABELS
            break
    return PurePosixPath(*parts)


def _boxes(path: Path, width: int, height: int, classes: tuple[str, ...]) -> Iterator[LabelledBox]:
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise unreadable(path, str(error)) from error
    for line, text in enumerate(rows, 1):
        if not text.strip():
            continue
        try:
            number, *values = (float(word) for word in text.split())
            x, y, w, h = values
        except ValueError as error:
            raise unreadable(path, "not five numbers", line) from error
        if not 0 <= number < len(classes) or number != int(number):
            raise unreadable(path, f"there is no class {number:g}", line)
        corners = ((x - w / 2) * width, (y - h / 2) * height)
        ends = ((x + w / 2) * width, (y + h / 2) * height)
        yield LabelledBox(classes[int(number)], (*corners, *ends))
