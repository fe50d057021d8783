"""The rows of an import: made in memory first, then put into the database all together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, scoped_session

from apps.models import (
    UNSAID,
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Result,
    Tag,
    TagSource,
    User,
    fold,
    utcnow,
)
from apps.services.import_planned import ModelBox, Planned
from apps.services.import_words import SIDES, native_row, origins, word_rows
from apps.services.imports import Choices
from apps.services.native import NativeBox, NativePicture
from apps.services.results import weigh
from apps.services.tags import TagService
from apps.services.words import claim_boxes
from apps.vision.decode import COPY_EXTENSION, Decoded
from apps.vision.uncertainty import uncertainty

CHUNK = 500  # rows of one statement
Corners = tuple[float, float, float, float]


@dataclass
class Coming:
    """A picture whose files are in the storage, and whose rows are still to be written."""

    image: Image
    boxes: list[tuple[str, Corners]]  # as they shall be
    tags: dict[str, TagSource] = field(default_factory=dict)
    count: int = 0  # boxes that a native archive has of it
    found: list[ModelBox] = field(default_factory=list)  # as they shall be
    models: tuple[str, ...] = ()  # that have looked, the one that is shown first
    made_of: list[ModelBox | None] = field(default_factory=list)  # what boxes became of
    keys: tuple[str, ...] = field(init=False)  # of its files

    def __post_init__(self) -> None:
        self.keys = self.image.storage_keys  # no query asks for them after a rollback


def new_picture(
    owner_id: int, planned: Planned, decoded: Decoded, key: str, choices: Choices
) -> Coming:
    """The picture as it will be."""
    image = Image(
        owner_id=owner_id,
        title=planned.title,
        key=key,
        extension=decoded.extension,
        media_type=decoded.media_type,
        copy_extension=COPY_EXTENSION,
        sha256=planned.sha256,
        bytes=planned.bytes,
        width=decoded.size[0],
        height=decoded.size[1],
        **(_new_state(choices) if planned.record is None else _old_state(planned.record)),
    )
    boxes = mapped(planned.boxes, choices.classes)
    found = mapped_found(planned.found, choices.classes)
    models = planned.models  # whatever classes come
    if models:
        image.model, image.detected_at = models[0], utcnow()
        image.uncertainty = uncertainty(box.score for box in found if box.model == models[0])
    made_of = origins(boxes, planned.corrected, found, image.model)
    tags = dict.fromkeys((label for label, _ in boxes), TagSource.MODEL)
    tags |= dict.fromkeys(choices.tags, TagSource.PERSON)
    return Coming(image, boxes, tags, planned.count, found, models, made_of)


def _new_state(choices: Choices) -> dict[str, Any]:
    now = utcnow()
    return {
        "status": ImageStatus.QUEUED if choices.detect else ImageStatus.DONE,
        "queued_at": now if choices.detect else None,
        "reviewed_at": now if choices.reviewed else None,
    }


def _old_state(record: NativePicture) -> dict[str, Any]:
    status = ImageStatus(record.status)
    names = ("error", "model", "wanted_model", "duration_ms", "uncertainty")
    times = ("created_at", "detected_at", "reviewed_at")
    waits = {"queued_at": utcnow() if status is ImageStatus.QUEUED else None}
    return {"status": status} | waits | {name: getattr(record, name) for name in names + times}


def mapped(
    boxes: Iterable[tuple[str, Corners]], classes: dict[str, str | None]
) -> list[tuple[str, Corners]]:
    """Boxes with the labels that they shall have; those that become the same are one."""
    kept: dict[tuple[str, Corners], None] = {}
    for label, corners in boxes:
        wanted = classes.get(label)
        if wanted is not None:
            kept.setdefault((wanted, corners))
    return list(kept)


def mapped_found(boxes: Iterable[ModelBox], classes: dict[str, str | None]) -> list[ModelBox]:
    """The same for boxes of models; of those that become the same the surest stays."""
    kept: dict[tuple[str, str, Corners], ModelBox] = {}
    for box in boxes:
        wanted = classes.get(box.label)
        if wanted is None:
            continue
        key = (box.model, wanted, box.corners)
        if key not in kept or kept[key].score < box.score:
            kept[key] = replace(box, label=wanted)
    return list(kept.values())


@dataclass(frozen=True)
class RowWriter:
    """Writes pictures with their boxes and tags; nothing here commits."""

    session: scoped_session[Session]
    tags: TagService

    def write(
        self, author_id: int, coming: Sequence[Coming], records: Iterable[NativePicture] = ()
    ) -> None:
        """Insert everything in the order of ``coming``.

        Args:
            records: of a native archive, what else is known of these pictures and of others.
        """
        for start in range(0, len(coming), CHUNK):
            part = coming[start : start + CHUNK]
            self.session.add_all([one.image for one in part])
            self.session.flush()
            words = (word_rows(one.image.id, author_id, one.boxes, one.made_of) for one in part)
            self._insert(Annotation, list(chain.from_iterable(words)))
            self._add_results([one for one in part if one.models], author_id)
        by_digest = {one.image.sha256: one for one in coming}
        for record in records:
            one = by_digest.get(record.sha256)
            if one is not None:
                self._restore(one, record, author_id)
        self._tag(coming)

    def _add_results(self, part: Sequence[Coming], owner_id: int) -> None:
        """What models found, and the tags of what they are sure of."""
        threshold = self.session.scalar(select(User.threshold).where(User.id == owner_id))
        for one in part:
            image = one.image
            values = {"image_id": image.id, "detected_at": image.detected_at}
            self._insert(Result, [values | {"model": model} for model in one.models])
            self._insert(Detection, [_found_row(box, image.id) for box in one.found])
            shown = [box for box in one.found if box.model == one.models[0]]
            sure = {box.label for box in shown if box.score >= (threshold or 0.0)}
            if any(one.made_of):
                sure = self._claim(image.id, one.models[0], threshold or 0.0)
            for label in sorted(sure):
                one.tags.setdefault(label, TagSource.MODEL)

    def _claim(self, image_id: int, model: str, threshold: float) -> set[str]:
        """Let what a person made of models' boxes stand for them.

        Returns:
            The labels of boxes of ``model`` that nobody has spoken about, from ``threshold`` on.
        """
        made = Annotation.image_id == image_id, Annotation.found_model.is_not(None)
        ids = self.session.scalars(select(Annotation.id).where(*made)).all()
        if claim_boxes(self.session, image_id, only=ids):
            weigh(self.session, image_id, model)
        here = Detection.image_id == image_id, Detection.model == model
        free = select(Detection.label).where(*here, Detection.score >= threshold, UNSAID)
        return set(self.session.scalars(free))

    def _restore(self, one: Coming, record: NativePicture, author_id: int) -> None:
        """What people and models said about a picture, exactly."""
        image_id = one.image.id
        self._insert(
            Annotation, [native_row(word, image_id, author_id) for word in record.annotations]
        )
        query = select(Annotation.ref, Annotation.id).where(Annotation.image_id == image_id)
        numbers = {row.ref: row.id for row in self.session.execute(query)}
        for result in record.results:
            values = {"image_id": image_id, "model": result.model}
            kept = {"detected_at": result.detected_at, "duration_ms": result.duration_ms}
            self._insert(Result, [values | kept])
            rows = [_box_row(box, numbers) | values for box in result.boxes]
            self._insert(Detection, rows)
        for tag in record.tags:
            one.tags.setdefault(tag.name, TagSource(tag.source))

    def _tag(self, coming: Sequence[Coming]) -> None:
        names = {name for one in coming for name in one.tags}
        numbers = self._numbers(names)
        rows = []
        for one in coming:
            links: dict[int, TagSource] = {}
            for name, source in one.tags.items():  # a person's word is stronger than a model's
                if links.get(numbers[name]) is not TagSource.PERSON:
                    links[numbers[name]] = source
            for tag_id, source in links.items():
                rows.append({"owner_id": one.image.owner_id, "image_id": one.image.id,
                             "tag_id": tag_id, "source": source})  # fmt: skip
        self._insert(ImageTag, rows)

    def _numbers(self, names: Iterable[str]) -> dict[str, int]:
        """Ids of tags by name; those that are missing are made."""
        wanted = sorted(names)
        folded = sorted({fold(name) for name in wanted})
        known: dict[str, int] = {}
        for start in range(0, len(folded), CHUNK):
            some = Tag.folded.in_(folded[start : start + CHUNK])
            rows = self.session.execute(select(Tag.folded, Tag.id).where(some))
            known.update((row.folded, row.id) for row in rows)
        return {name: known.get(fold(name)) or self.tags.ensure(name).id for name in wanted}

    def _insert(self, model: Any, rows: list[dict[str, Any]]) -> None:
        for start in range(0, len(rows), CHUNK):
            self.session.execute(insert(model.__table__), rows[start : start + CHUNK])


def _box_row(box: NativeBox, numbers: dict[str, int]) -> dict[str, Any]:
    row = {
        "label": box.label,
        "score": box.score,
        "mask": box.mask,
        "annotation_id": None if box.annotation is None else numbers[box.annotation],
    }
    return row | dict(zip(SIDES, box.box, strict=True))


def _found_row(box: ModelBox, image_id: int) -> dict[str, Any]:
    row = {"image_id": image_id, "label": box.label, "score": box.score, "model": box.model}
    return row | dict(zip(SIDES, box.corners, strict=True))
