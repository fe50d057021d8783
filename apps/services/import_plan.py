"""What would come from an archive: every picture and box looked at, and nothing kept."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from apps.errors import N_, AppError, InvalidInput
from apps.models import MAX_TAG_LENGTH
from apps.services.changes import MAX_MODEL_LENGTH, MAX_SAID, clean_label
from apps.services.import_files import ImportLimits, ZipFiles
from apps.services.import_native import is_native, look_at_native
from apps.services.import_planned import HERE, NATIVE, TWICE, ModelBox, Planned, Progress
from apps.services.tags import has_controls, one_line
from apps.vision.decode import orientation, refuse_too_many_pixels, safe_title, upright_size
from apps.vision.formats.dataset import Corners
from apps.vision.formats.incoming.files import Shelf
from apps.vision.formats.incoming.found import Found, FoundBox, FoundPicture, Problems, shown
from apps.vision.formats.incoming.recognise import read
from apps.vision.types import Box
from apps.vision.upright import sideways, stand_up

MAX_CLASSES = 1000
SAME_ASPECT = 0.01  # difference by which two sizes are still the same picture, larger or smaller
CLIPPED = 1.0  # pixels outside of the picture that nobody needs to be told of
LEAST = 0.01  # pixels of a box that is left of one at the border
UNNAMED_MODEL = "imported"  # whose predictions have no version

NO_NUMBER = N_("A box of “%(label)s” has a corner that is no number (NaN). It is left out.")
EMPTY = N_("A box of “%(label)s” has no area. It is left out.")
OUTSIDE = N_("A box of “%(label)s” lies outside of the picture. It is left out.")
CUT = N_("A box of “%(label)s” reaches out of the picture. It is cut at the border.")
DOUBLE = N_("A box of “%(label)s” is there twice. The second one is left out.")
TOO_MANY = N_("There are more than %(limit)s boxes in this picture. The others are left out.")
OTHER_SIZE = N_(
    "The labels are for a picture of %(said)s pixels, but it has %(size)s. "
    "It comes without its boxes."
)
SCALED = N_("The labels are for %(said)s pixels, and the picture has %(size)s: boxes are scaled.")

Here = Callable[[Collection[str]], Collection[str]]  # checksums that the account has already


@dataclass
class Plan:
    """All that would come from an archive."""

    kind: str
    pictures: list[Planned]
    problems: Problems
    here: int = 0  # pictures that the account has already
    labels: list[str] = field(default_factory=list)  # that the archive lists, with boxes or without

    @property
    def bytes(self) -> int:
        return sum(picture.bytes for picture in self.pictures)

    def report(self) -> dict[str, Any]:
        """For people: what would come, as plain values."""
        boxes: Counter[str] = Counter()
        pictures: Counter[str] = Counter()
        for picture in self.pictures:
            names = [label for label, _ in picture.boxes] + [box.label for box in picture.found]
            boxes.update(names)
            pictures.update(set(names))
        labels = dict.fromkeys([*self.labels, *boxes])
        return {
            "kind": self.kind,
            "pictures": len(self.pictures),
            "here": self.here,
            "boxes": boxes.total() + sum(picture.count for picture in self.pictures),
            "model_boxes": sum(len(each.found) + each.count_found for each in self.pictures),
            "bytes": self.bytes,
            "classes": [
                {
                    "name": label,
                    "shown": shown(label),
                    "boxes": boxes[label],
                    "pictures": pictures[label],
                    "becomes": suggestion(label),
                }
                for label in labels
            ],
            "problems": self.problems.as_json(),
            "losses": self.problems.losses,
        }


def make_plan(
    files: ZipFiles, limits: ImportLimits, problems: Problems, here: Here, progress: Progress
) -> Plan:
    """Look at everything in an archive.

    Raises:
        InvalidInput: it is in no known format, or holds too much.
    """
    if is_native(files):
        pictures = list(look_at_native(files, limits, problems, progress))
        return _without_those_here(NATIVE, pictures, problems, here)
    found = read(Shelf(files, problems, limits.label_bytes, lambda: progress(0.0)))
    if len(found.classes) > MAX_CLASSES:
        raise InvalidInput(
            N_("There are %(count)s classes in this archive; at most %(limit)s fit."),
            count=len(found.classes),
            limit=MAX_CLASSES,
        )
    pictures = list(_looked_at(files, limits, problems, found, progress))
    plan = _without_those_here(found.kind, pictures, problems, here)
    plan.labels = list(found.classes)
    return plan


def _without_those_here(kind: str, pictures: list[Planned], problems: Problems, here: Here) -> Plan:
    there = here([picture.sha256 for picture in pictures])
    for picture in pictures:
        if picture.sha256 in there:
            problems.add(picture.file, HERE, loss=False)
    new = [picture for picture in pictures if picture.sha256 not in there]
    return Plan(kind, new, problems, len(pictures) - len(new))


def suggestion(label: str) -> str:
    """A label that may be used here in place of one that may not be usable."""
    try:
        return clean_label(label)
    except AppError:
        plain = "".join(c for c in one_line(label) if not has_controls(c))
        return one_line(plain[:MAX_TAG_LENGTH]) or "?"


def _looked_at(
    files: ZipFiles, limits: ImportLimits, problems: Problems, found: Found, progress: Progress
) -> Iterator[Planned]:
    seen: dict[str, str] = {}  # checksum to name
    model_name = cache(_model_name)  # thousands of boxes have the same one
    for number, (name, picture) in enumerate(sorted(found.pictures.items()), 1):
        try:
            data = files.read(name, limits.picture_bytes)
            size, turned = upright_size(data), orientation(data)
            refuse_too_many_pixels(size, limits.picture_pixels)
        except AppError as error:
            problems.note(name, error)
        else:
            digest = hashlib.sha256(data).hexdigest()
            if digest in seen:
                problems.add(name, TWICE, name=seen[digest])
            else:
                seen[digest] = name
                placed = _Placed(picture, size, turned, problems)
                yield _planned(name, digest, len(data), placed, model_name)
        progress(number / len(found.pictures))


def _planned(
    name: str, digest: str, size: int, placed: "_Placed", model_name: Callable[[str], str]
) -> Planned:
    boxes: list[tuple[str, Corners]] = []
    found: list[ModelBox] = []
    corrected: set[Corners] = set()
    for box, corners in placed.boxes():
        if box.model is None:
            boxes.append((box.label, corners))
            if box.corrected:
                corrected.add(corners)
        else:
            found.append(ModelBox(box.label, corners, model_name(box.model), box.score))
    models = tuple(dict.fromkeys(map(model_name, placed.picture.models)))
    title = safe_title(name)
    return Planned(name, title, digest, size, boxes, found, models, frozenset(corrected))


def _model_name(text: str) -> str:
    """As a result can have it."""
    plain = "".join(c for c in one_line(text) if not has_controls(c))
    return one_line(plain[:MAX_MODEL_LENGTH]) or UNNAMED_MODEL


class _Placed:
    """The boxes of one picture where they are on it."""

    def __init__(
        self, picture: FoundPicture, size: tuple[int, int], turned: int, problems: Problems
    ) -> None:
        self.picture, self.size, self.problems = picture, size, problems
        self.turned = turned  # EXIF orientation

    def boxes(self) -> list[tuple[FoundBox, Corners]]:
        place = self._place()
        kept: dict[tuple[str | None, str, Corners], tuple[FoundBox, Corners]] = {}
        for box in self.picture.boxes if place is not None else ():
            corners = self._inside(box, place(box.corners)) if place is not None else None
            if corners is None:
                continue
            x1, y1, x2, y2 = (round(side, 2) for side in corners)
            key = (box.model, box.label, (x1, y1, x2, y2))
            if key in kept:
                self._note(DOUBLE, label=box.label)
            elif len(kept) >= MAX_SAID:
                self._note(TOO_MANY, limit=MAX_SAID)
                break
            else:
                kept[key] = (box, corners)
        return list(kept.values())

    def _place(self) -> Callable[[Corners], Corners] | None:
        """From the corners of the labels to those on the picture; None: nobody knows."""
        width, height = self.size
        if self.picture.parts:
            return lambda c: (c[0] * width, c[1] * height, c[2] * width, c[3] * height)
        said_width, said_height = said = self.picture.size
        if not self.picture.boxes or said == self.size or not all(said):
            return lambda c: c
        if sideways(self.turned) and said == (height, width):  # they knew nothing of EXIF
            return self._stand_up
        across, down = width / said_width, height / said_height
        sizes: dict[str, Any] = {
            "said": f"{said_width} × {said_height}",
            "size": f"{width} × {height}",
        }
        if abs(across / down - 1) > SAME_ASPECT:
            self._note(OTHER_SIZE, **sizes)
            return None
        self._note(SCALED, loss=False, **sizes)
        return lambda c: (c[0] * across, c[1] * down, c[2] * across, c[3] * down)

    def _stand_up(self, corners: Corners) -> Corners:
        width, height = self.size
        box = stand_up(Box("", 1.0, *corners), self.turned, (height, width))
        return box.x1, box.y1, box.x2, box.y2

    def _inside(self, box: FoundBox, corners: Corners) -> Corners | None:
        """Cut at the borders; None after a problem, which is noted."""
        if not all(math.isfinite(side) for side in (*box.corners, *corners)):
            self._note(NO_NUMBER, label=box.label)
            return None
        if box.corners[2] <= box.corners[0] or box.corners[3] <= box.corners[1]:
            self._note(EMPTY, label=box.label)
            return None
        width, height = self.size
        x1, y1, x2, y2 = corners
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if cut[2] - cut[0] < LEAST or cut[3] - cut[1] < LEAST:
            self._note(OUTSIDE, label=box.label)
            return None
        if max(abs(a - b) for a, b in zip(cut, corners, strict=True)) > CLIPPED:
            self._note(CUT, loss=False, label=box.label)
        return cut

    def _note(self, message: str, *, loss: bool = True, **params: Any) -> None:
        self.problems.add(self.picture.file, message, loss=loss, **params)
