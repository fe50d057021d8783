"""What an export says of pictures: read in batches, as values that outlive the transaction."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.models import STANDS, Annotation, Detection, Image, ImageTag, Result, Tag, Verdict
from apps.services import native
from apps.services.boxes import PRESENT, of_model
from apps.vision.formats.dataset import Corners, LabelledBox, LabelledPicture

BATCH = 100  # pictures whose boxes are in memory at the same time
BOTH, MODEL, PERSON = "both", "model", "person"
WHOSE = (BOTH, MODEL, PERSON)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExportedBox:
    """A box, and whose it is."""

    label: str
    corners: Corners
    score: float | None = None  # None: a person's


@dataclass(frozen=True, slots=True)
class ExportedPicture:
    """A picture as the files of an export have it."""

    id: int
    name: str  # of the file, which no other one of the export has
    title: str
    width: int
    height: int
    model: str | None
    key: str  # of the original in the storage
    sha256: str
    boxes: tuple[ExportedBox, ...] = ()

    def labelled(self, split: str | None = None) -> LabelledPicture:
        """The same for the writers of COCO, VOC and YOLO."""
        boxes = tuple(LabelledBox(box.label, box.corners) for box in self.boxes)
        return LabelledPicture(self.name, None, self.width, self.height, boxes, split)


@dataclass(frozen=True)
class Boxes:
    """Which boxes are wanted."""

    whose: str = BOTH  # of WHOSE
    threshold: float = 0.5  # lowest score of a model's


@dataclass(frozen=True)
class PictureReader:
    """Reads pictures of one account; what is somebody else's is not there."""

    session: scoped_session[Session]
    reading: Callable[[], AbstractContextManager[None]]  # around transactions that only read

    def read(self, owner_id: int, ids: Sequence[int], wanted: Boxes) -> Iterator[ExportedPicture]:
        """Those of ``ids`` that are there, in their order. No transaction is open between them."""
        taken: set[str] = set()
        for part in _parts(ids):
            with self.reading():
                found = self._read(owner_id, part, wanted, taken)
                self.session.commit()
            yield from found

    def _read(
        self, owner_id: int, part: Sequence[int], wanted: Boxes, taken: set[str]
    ) -> list[ExportedPicture]:
        images = self._images(owner_id, part)
        boxes = self._boxes([image.id for image in images], wanted)
        return [
            ExportedPicture(
                image.id,
                name_of(image, taken),
                image.title,
                image.width,
                image.height,
                image.model,
                image.original_key,
                image.sha256,
                tuple(boxes[image.id]),
            )
            for image in images
        ]

    def labels(self, ids: Sequence[int], wanted: Boxes) -> list[str]:
        """Every label of the wanted boxes of ``ids``, sorted."""
        found: set[str] = set()
        for part in _parts(ids):
            with self.reading():
                if wanted.whose != PERSON:
                    which = _of_model(wanted)
                    query = select(Detection.label).join(Image, which).where(Image.id.in_(part))
                    found.update(self.session.scalars(query.distinct()))
                if wanted.whose != MODEL:
                    said = select(Annotation.label).where(Annotation.image_id.in_(part), STANDS)
                    found.update(self.session.scalars(said.distinct()))
                self.session.commit()
        return sorted(found)

    def native(
        self, owner_id: int, ids: Sequence[int]
    ) -> Iterator[tuple[native.NativePicture, str]]:
        """All that is known of those of ``ids`` that are there, and where their originals are."""
        for part in _parts(ids):
            with self.reading():
                images = self._images(owner_id, part)
                rows = self._rows([image.id for image in images])
                found = [
                    (record_of(_values(image), **rows[image.id]), image.original_key)
                    for image in images
                ]
                self.session.commit()
            yield from found

    def _images(self, owner_id: int, part: Sequence[int]) -> list[Image]:
        mine = select(Image).where(Image.owner_id == owner_id, Image.id.in_(part))
        rows = {image.id: image for image in self.session.scalars(mine)}
        return [rows[image_id] for image_id in part if image_id in rows]

    def _boxes(self, ids: list[int], wanted: Boxes) -> dict[int, list[ExportedBox]]:
        found: dict[int, list[ExportedBox]] = {image_id: [] for image_id in ids}
        if wanted.whose != MODEL:
            said = select(Annotation).where(Annotation.image_id.in_(ids), STANDS)
            for word in self.session.scalars(said.order_by(Annotation.id)):
                corners = (word.x1, word.y1, word.x2, word.y2)
                found[word.image_id].append(ExportedBox(word.label, corners))
        if wanted.whose != PERSON:
            query = select(Detection).join(Image, _of_model(wanted)).where(Image.id.in_(ids))
            for row in self.session.scalars(query.order_by(Detection.score.desc(), Detection.id)):
                corners = (row.x1, row.y1, row.x2, row.y2)
                found[row.image_id].append(ExportedBox(row.label, corners, row.score))
        return found

    def _rows(self, ids: list[int]) -> dict[int, dict[str, list[Row]]]:
        """What belongs to each picture, as values of its tables."""
        names = ("results", "detections", "annotations", "tags")
        rows: dict[int, dict[str, list[Row]]] = {
            image_id: {name: [] for name in names} for image_id in ids
        }
        queries: tuple[tuple[str, Any], ...] = (
            ("results", select(Result).where(Result.image_id.in_(ids)).order_by(Result.model)),
            (
                "detections",
                select(Detection)
                .where(Detection.image_id.in_(ids))
                .options(undefer(Detection.mask))
                .order_by(Detection.score.desc(), Detection.id),
            ),
            (
                "annotations",
                select(Annotation).where(Annotation.image_id.in_(ids)).order_by(Annotation.id),
            ),
        )
        for name, query in queries:
            for row in self.session.scalars(query):
                rows[row.image_id][name].append(_values(row))
        links = select(ImageTag.image_id, Tag.name, ImageTag.source).join(ImageTag.tag)
        for row in self.session.execute(links.where(ImageTag.image_id.in_(ids)).order_by(Tag.name)):
            rows[row.image_id]["tags"].append({"name": row.name, "source": row.source})
        return rows


def _of_model(wanted: Boxes) -> Any:
    """With BOTH, what no person's word stands for; of the model alone, all that it found."""
    if wanted.whose == BOTH:
        return of_model(wanted.threshold)
    return PRESENT & (Detection.score >= wanted.threshold)


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _values(row: Any) -> Row:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


def record_of(
    image: Row,
    results: Iterable[Row] = (),
    detections: Iterable[Row] = (),
    annotations: Iterable[Row] = (),
    tags: Iterable[Row] = (),
) -> native.NativePicture:
    """The record of a picture from the values of its rows; whoever writes it sets ``file``."""
    words = list(annotations)
    refs = {word["id"]: word["ref"] for word in words}
    boxes: dict[str, list[native.NativeBox]] = {}
    for row in detections:
        ref = refs.get(row["annotation_id"])
        box = native.NativeBox(row["label"], row["score"], _corners(row), row.get("mask"), ref)
        boxes.setdefault(row["model"], []).append(box)
    status = str(image["status"].value)
    return native.NativePicture(
        **{name: image[name] for name in _SAME},
        status="queued" if status == "running" else status,
        file=None,
        results=tuple(
            native.NativeResult(
                row["model"],
                row["detected_at"],
                row["duration_ms"],
                tuple(boxes.get(row["model"], ())),
            )
            for row in results
        ),
        annotations=tuple(_annotation(word) for word in words),
        tags=tuple(native.NativeTag(tag["name"], str(tag["source"].value)) for tag in tags),
    )


_SAME = (
    *("title", "extension", "media_type", "sha256", "bytes", "width", "height", "error"),
    *("model", "wanted_model", "duration_ms", "uncertainty"),
    *("created_at", "detected_at", "reviewed_at"),
)


def _annotation(word: Row) -> native.NativeAnnotation:
    found = None
    if word["verdict"] is not Verdict.DRAWN:
        found = native.NativeFound(
            word["found_model"], word["found_label"], word["found_score"], _corners(word, "found_")
        )
    return native.NativeAnnotation(
        word["ref"],
        str(word["verdict"].value),
        word["label"],
        _corners(word),
        found,
        word["created_at"],
        word["updated_at"],
    )


def _corners(row: Row, start: str = "") -> Corners:
    return row[f"{start}x1"], row[f"{start}y1"], row[f"{start}x2"], row[f"{start}y2"]


def name_of(image: Image, taken: set[str]) -> str:
    """A file name that no other picture of the export has, whatever its extension and case."""
    stem = image.title.rpartition(".")[0] or image.title
    stem = "".join("_" if c in '<>:"/\\|?*' or not c.isprintable() else c for c in stem)
    stem = stem[:80].strip(". ") or "picture"
    while stem.casefold() in taken:
        stem = f"{stem}-{image.id}"
    taken.add(stem.casefold())
    return f"{stem}.{image.extension}"
