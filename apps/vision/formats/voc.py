"""Pascal VOC's format: one XML file for each picture (Everingham et al. 2010).

    Annotations/<name>.xml    JPEGImages/<name>.jpg    ImageSets/Main/<split>.txt

Corners in the files are pixel numbers from 1, both inclusive: a box over the whole of a picture
of 500 x 375 is 1, 1, 500, 375. Here that is 0, 0, 500, 375.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring
from xml.parsers import expat

from apps.vision.formats.dataset import (
    Corners,
    DetectionData,
    LabelledBox,
    LabelledPicture,
    PictureFolder,
    is_safe,
    split_of,
    unreadable,
)

LABELS, PICTURES, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
CLASSES = "classes.txt"  # ours: the order of the classes; without it they are sorted
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(root: Path) -> DetectionData:
    """The data set in the folder ``root``.

    Raises:
        InvalidInput: no labels, or a file that is not in this format; the text names its line.
    """
    files = sorted((root / LABELS).glob("*.xml"))
    if not files:
        raise unreadable(root / LABELS, "it has no XML files")
    folder = PictureFolder(root, (PICTURES,))
    splits = _splits(root)
    pictures = tuple(_picture(path, folder, splits.get(path.stem)) for path in files)
    listed = root / CLASSES
    known = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    classes = [line.strip() for line in known if line.strip()]
    found = sorted({box.label for picture in pictures for box in picture.boxes})
    return DetectionData((*classes, *(c for c in found if c not in classes)), pictures)


def write(data: DetectionData, root: Path) -> None:
    """Write the labels of ``data`` below ``root``: XML files, lists of splits and classes.

    Raises:
        InvalidInput: two pictures have the same name, apart from folders and extension.
    """
    (root / LABELS).mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[str]] = {}
    seen: set[str] = set()
    for picture in data.pictures:
        stem = stem_of(picture, seen)
        path = root / LABELS / f"{stem}.xml"
        path.write_bytes(xml_of(picture))
        if picture.split is not None:
            splits.setdefault(picture.split, []).append(stem)
    (root / CLASSES).write_text("\n".join(data.classes) + "\n", encoding="utf-8")
    for split, stems in splits.items():
        path = root / SETS / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(stems) + "\n", encoding="utf-8")


def xml_of(picture: LabelledPicture) -> bytes:
    """One picture's labels."""
    top = Element("annotation")
    SubElement(top, "filename").text = picture.name
    size = SubElement(top, "size")
    for tag, pixels in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        SubElement(size, tag).text = str(pixels)
    for box in picture.boxes:
        row = SubElement(top, "object")
        SubElement(row, "name").text = box.label
        SubElement(row, "difficult").text = str(int(box.difficult))
        corners = SubElement(row, "bndbox")
        x1, y1, x2, y2 = box.corners
        for tag, value in zip(CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
            SubElement(corners, tag).text = f"{value:.3f}".rstrip("0").rstrip(".")
    indent(top, "\t")
    written: bytes = tostring(top, encoding="utf-8")
    return written


def stem_of(picture: LabelledPicture, seen: set[str]) -> str:
    """The name of a picture without folders and extension; ``seen`` grows by it."""
    stem = PurePosixPath(picture.name).stem
    if not is_safe(picture.name) or stem in seen:
        raise unreadable(Path(picture.name), "its name is unsafe, or another picture has it too")
    seen.add(stem)
    return stem


def _splits(root: Path) -> dict[str, str]:
    """Names of pictures to their split; of several, as VOC's trainval, the first by name."""
    found: dict[str, str] = {}
    for path in sorted((root / SETS).glob("*.txt"), reverse=True):
        if "_" not in path.stem and path.stem != "trainval":  # not the lists of single classes
            split = split_of(path.stem, path)
            for line in path.read_text(encoding="utf-8").split("\n"):
                if line.strip() and split is not None:
                    found[line.split()[0]] = split
    return found


def _picture(path: Path, folder: PictureFolder, split: str | None) -> LabelledPicture:
    top, lines = _parse(path)
    name = top.findtext("filename", "").strip()
    file = folder.find(name)
    if file is None:  # some tools leave the extension or the right name out
        same = [folder.find(path.stem + ending) for ending in (".jpg", ".jpeg", ".png", ".webp")]
        file = next((each for each in same if each is not None), None)
        name = file.path.name if file is not None else name or path.stem
    number = _numbers(path, lines)
    boxes = []
    for row in top.iter("object"):
        corners = row.find("bndbox")
        label = row.findtext("name", "").strip()
        if corners is None or not label:
            raise unreadable(path, "an object without a name or a bndbox", lines[id(row)])
        x1, y1, x2, y2 = (number(corners, tag) for tag in CORNERS)
        place: Corners = (x1 - 1, y1 - 1, x2, y2)
        difficult = row.findtext("difficult", "0").strip() == "1"
        boxes.append(LabelledBox(label, place, difficult))
    size = top.find("size")
    width, height = (
        (0, 0) if size is None else (int(number(size, tag)) for tag in ("width", "height"))
    )
    return LabelledPicture(name, file, width, height, tuple(boxes), split)


def _numbers(path: Path, lines: dict[int, int]) -> Callable[[Element, str], float]:
    def number(parent: Element, tag: str) -> float:
        text = parent.findtext(tag)
        try:
            return float(text or "")
        except ValueError as error:
            raise unreadable(path, f"{tag} is no number", lines[id(parent)]) from error

    return number


def _parse(path: Path) -> tuple[Element, dict[int, int]]:
    """The root element, and the line of each element by its id().

    Entities are refused: labels are somebody else's text, and small files can expand to gigabytes.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    lines: dict[int, int] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[id(builder.start(tag, attributes))] = parser.CurrentLineNumber

    def entity(*_parts: object) -> None:
        raise unreadable(path, "it declares an entity", parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise unreadable(path, expat.ErrorString(error.code), error.lineno) from error
    except OSError as error:
        raise unreadable(path, str(error)) from error
    return builder.close(), lines
