"""COCO's object detection format, in one file or in several for the parts of a data set."""

from typing import Any

from apps.errors import N_
from apps.vision.formats.incoming.files import Shelf, numbers
from apps.vision.formats.incoming.found import Found, FoundPicture

NO_CATEGORY = N_(
    "A box has the class %(number)s, which “categories” does not list. It is left out."
)
NO_IMAGE = N_("A box belongs to the picture %(number)s, which “images” does not list.")
NO_BOX = N_("An annotation of “%(name)s” has no box of four numbers. It is left out.")
CROWD = N_("A box of “%(name)s” stands for a crowd (iscrowd). It is left out.")
OUTLINES = N_("Outlines (segmentation) are not taken over; their boxes are.")
NO_ENTRY = N_("An entry of “%(list)s” is not complete. It is left out.")


def fits(content: Any) -> bool:
    """Whether the content of a JSON file is in this format."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


def read(shelf: Shelf, name: str, content: dict[str, Any], found: Found) -> None:
    """Add what the file ``name`` says."""
    classes = {}
    for row in content["categories"]:
        number, label = _get(row, "id"), _get(row, "name")
        if isinstance(number, int) and isinstance(label, str) and label.strip():
            classes[number] = label.strip()
            found.classes.setdefault(classes[number][:200])
        else:
            shelf.problems.add(name, NO_ENTRY, list="categories")
    pictures = _pictures(shelf, name, content["images"], found)
    _Boxes(shelf, name, classes, pictures, found).read(content["annotations"])


def _pictures(
    shelf: Shelf, name: str, rows: list[Any], found: Found
) -> dict[int | str, FoundPicture | None]:
    """By their ids in the file; None: it is not in the archive, which is noted."""
    pictures: dict[int | str, FoundPicture | None] = {}
    for row in rows:
        number, said = _get(row, "id"), _get(row, "file_name")
        if not isinstance(number, int | str) or not isinstance(said, str):
            shelf.problems.add(name, NO_ENTRY, list="images")
            continue
        file = shelf.find(said, name)
        if file is None:
            pictures[number] = None
            continue
        picture = found.picture(file)
        size = numbers((row.get("width", 0), row.get("height", 0)))
        if size and all(0 <= side < 10**7 for side in size):
            picture.size = (int(size[0]), int(size[1]))
        pictures[number] = picture
    return pictures


class _Boxes:
    def __init__(
        self,
        shelf: Shelf,
        name: str,
        classes: dict[int, str],
        pictures: dict[int | str, FoundPicture | None],
        found: Found,
    ) -> None:
        self.name, self.classes, self.pictures, self.found = name, classes, pictures, found
        self.problems = shelf.problems
        self.outlines = False

    def read(self, rows: list[Any]) -> None:
        for row in rows:
            if isinstance(row, dict):
                self._one(row)
            else:
                self.problems.add(self.name, NO_ENTRY, list="annotations")
        if self.outlines:
            self.problems.add(self.name, OUTLINES, loss=False)

    def _one(self, row: dict[str, Any]) -> None:
        image, category = row.get("image_id"), row.get("category_id")
        if not isinstance(image, int | str) or image not in self.pictures:
            self.problems.add(self.name, NO_IMAGE, number=image)
            return
        picture = self.pictures[image]
        if picture is None:
            return  # said already
        if not isinstance(category, int) or category not in self.classes:
            self.problems.add(self.name, NO_CATEGORY, number=category)
            return
        self.outlines = self.outlines or bool(row.get("segmentation"))
        box = row.get("bbox")
        corners = numbers(box) if isinstance(box, list) and len(box) == 4 else None
        if corners is None:
            self.problems.add(picture.file, NO_BOX, name=self.classes[category])
        elif row.get("iscrowd"):
            self.problems.add(picture.file, CROWD, name=self.classes[category])
        else:
            x, y, width, height = corners
            self.found.add(picture, self.classes[category], (x, y, x + width, y + height))


def _get(row: Any, key: str) -> Any:
    value = row.get(key) if isinstance(row, dict) else None
    return None if isinstance(value, bool) else value
