"""The trash: deleted pictures, which can come back for some days."""

import enum
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Enum, Select, Table, delete, func, insert, select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import (
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Result,
    Tag,
    TagSource,
    TrashedImage,
    User,
    utcnow,
)
from apps.models.types import UTCDateTime
from apps.services.pictures import delete_pictures
from apps.services.tags import TagService
from apps.storage import Storage

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 1000  # pictures of one request
BATCH = 200  # pictures whose files go together
EVERY = 3600.0  # seconds between two looks for what is old enough
NOT_THERE = N_("This picture is not in the trash. It was restored or deleted for good meanwhile.")
Row = dict[str, Any]


@dataclass(frozen=True)
class Moved:
    """What became of pictures that were deleted or restored."""

    done: int
    missing: int = 0  # gone, or somebody else's
    again: tuple[str, ...] = ()  # titles of those that were uploaded again meanwhile
    deleted_at: datetime | None = None  # of all that one request deleted
    waiting: tuple[int, ...] = ()  # of those that came back: what a queue must be told of


@dataclass
class _Clock:
    """When this process last looked for what is old enough: time.monotonic()."""

    looked: float = float("-inf")


@dataclass(frozen=True)
class TrashService:
    """Takes the rows of pictures out of their tables and puts them back; the files stay."""

    session: scoped_session[Session]
    storage: Storage
    tags: TagService
    days: int
    _clock: _Clock = field(default_factory=_Clock)

    # -- look up ---------------------------------------------------------------------------

    def query(self, owner_id: int) -> Select[TrashedImage]:
        """An account's deleted pictures, the latest first."""
        mine = select(TrashedImage).where(TrashedImage.owner_id == owner_id)
        return mine.order_by(TrashedImage.deleted_at.desc(), TrashedImage.id.desc())

    def count(self, owner_id: int) -> int:
        """How many pictures the account has in its trash."""
        query = select(func.count()).where(TrashedImage.owner_id == owner_id)
        return self.session.scalar(query) or 0

    def goes_at(self, trashed: TrashedImage) -> datetime:
        """When it is deleted for good."""
        return trashed.deleted_at + timedelta(days=self.days)

    # -- delete ----------------------------------------------------------------------------

    def move(self, owner_id: int, image_ids: Iterable[int]) -> Moved:
        """Put pictures of an account into its trash, all of them or none.

        Raises:
            InvalidInput: more than MAX_AT_ONCE.
        """
        ids = sorted(set(image_ids))
        if len(ids) > MAX_AT_ONCE:
            raise InvalidInput(
                N_("Choose at most %(limit)s pictures at once; do the others afterwards."),
                limit=MAX_AT_ONCE,
            )
        mine = select(Image.id).where(Image.owner_id == owner_id, Image.id.in_(ids))
        found = list(self.session.scalars(mine.order_by(Image.id).with_for_update()))
        now = utcnow()
        rows = self._snapshot(found)
        for image_id in found:
            image = rows[image_id]["images"][0]
            names = ("title", "key", "extension", "copy_extension", "bytes", "width", "height")
            kept = {name: image[name] for name in names}
            self.session.add(
                TrashedImage(owner_id=owner_id, deleted_at=now, rows=rows[image_id], **kept)
            )
        delete_pictures(self.session, Image.id.in_(found))
        self.session.commit()
        return Moved(len(found), missing=len(ids) - len(found), deleted_at=now)

    def move_one(self, owner_id: int, image_id: int) -> Moved:
        """Put one picture into the trash.

        Raises:
            NotFound: no such picture of this owner.
        """
        moved = self.move(owner_id, [image_id])
        if not moved.done:
            raise NotFound(N_("There is no such picture."))
        return moved

    def _snapshot(self, image_ids: Sequence[int]) -> dict[int, dict[str, list[Row]]]:
        """Every row that belongs to each picture, by its table."""
        rows: dict[int, dict[str, list[Row]]] = {image_id: {} for image_id in image_ids}
        for model, column in (
            (Image, Image.id),
            (Result, Result.image_id),
            (Annotation, Annotation.image_id),
            (Detection, Detection.image_id),
        ):
            table = _table(model)
            for row in self.session.execute(select(table).where(column.in_(image_ids))):
                values = {name: _plain(value) for name, value in row._mapping.items()}
                image_id = values["id" if model is Image else "image_id"]
                rows[image_id].setdefault(table.name, []).append(values)
        links = select(ImageTag.image_id, Tag.name, ImageTag.source).join(ImageTag.tag)
        for image_id, name, source in self.session.execute(
            links.where(ImageTag.image_id.in_(image_ids))
        ):
            link = {"name": name, "source": source.value}  # the tag may be another row by then
            rows[image_id].setdefault("image_tags", []).append(link)
        return rows

    # -- restore ---------------------------------------------------------------------------

    def restore(
        self, owner_id: int, trashed_ids: Iterable[int] | None, deleted_at: datetime | None = None
    ) -> Moved:
        """Bring pictures of an account back, with all that was known of them.

        Args:
            trashed_ids: which ones; None for all.
            deleted_at: only what one request deleted, at exactly this moment.

        Raises:
            Conflict: none of them can come back, because they were uploaded again.
            NotFound: none of them is in the trash.
        """
        ids = None if trashed_ids is None else sorted(set(trashed_ids))
        query = select(TrashedImage).where(*self._which(owner_id, ids, deleted_at))
        query = query.order_by(TrashedImage.id).with_for_update().limit(MAX_AT_ONCE)
        found = self.session.scalars(query.options(undefer(TrashedImage.rows))).all()
        if not found:
            raise NotFound(NOT_THERE)
        shas = [trashed.rows["images"][0]["sha256"] for trashed in found]
        there = select(Image.sha256).where(Image.owner_id == owner_id, Image.sha256.in_(shas))
        taken = set(self.session.scalars(there))
        back = [each for each in found if each.rows["images"][0]["sha256"] not in taken]
        again = tuple(each.title for each in found if each not in back)
        if not back:
            raise _uploaded_again(again)
        waiting = self._put_back(owner_id, back)
        self.session.commit()
        missing = 0 if ids is None else len(ids) - len(found)
        return Moved(len(back), missing=missing, again=again, waiting=tuple(waiting))

    def _put_back(self, owner_id: int, found: Sequence[TrashedImage]) -> list[int]:
        """Make the rows again; ids of those that wait for detection. Does not commit."""
        wanted = [trashed.rows["images"][0]["id"] for trashed in found]
        taken = set(self.session.scalars(select(Image.id).where(Image.id.in_(wanted))))
        authors = set(self.session.scalars(select(User.id)))
        waiting = []
        for trashed in found:
            image = row_values(Image, trashed.rows["images"][0])
            image["owner_id"] = owner_id
            if image["id"] in taken:  # SQLite gives the number of a deleted last row again
                del image["id"]
            if not image["status"].settled:
                image |= {"status": ImageStatus.QUEUED, "attempts": 0, "queued_at": utcnow()}
                image |= {"claimed_by": None, "claimed_at": None}
            image_id = self.session.scalars(insert(Image).values(**image).returning(Image.id)).one()
            if image["status"] is ImageStatus.QUEUED:
                waiting.append(image_id)
            self._put_back_boxes(image_id, trashed.rows, authors)
            self._put_back_tags(image_id, trashed.rows)
            self.session.delete(trashed)
        self.session.flush()
        return waiting

    def _put_back_boxes(self, image_id: int, rows: dict[str, list[Row]], authors: set[int]) -> None:
        new: dict[int, int] = {}  # id of an annotation then and now
        for row in rows.get("annotations", ()):
            values = row_values(Annotation, row) | {"image_id": image_id}
            if values["author_id"] not in authors:  # left meanwhile
                values["author_id"] = None
            old = values.pop("id")
            query = insert(Annotation).values(**values).returning(Annotation.id)
            new[old] = self.session.scalars(query).one()
        results = [
            row_values(Result, row) | {"image_id": image_id} for row in rows.get("results", ())
        ]
        if results:
            self.session.execute(insert(_table(Result)), results)
        boxes = []
        for row in rows.get("detections", ()):
            values = row_values(Detection, row) | {"image_id": image_id}
            del values["id"]
            values["annotation_id"] = new.get(values["annotation_id"])
            boxes.append(values)
        if boxes:
            self.session.execute(insert(_table(Detection)), boxes)

    def _put_back_tags(self, image_id: int, rows: dict[str, list[Row]]) -> None:
        links: dict[int, Row] = {}
        for row in rows.get("image_tags", ()):
            tag_id = self.tags.ensure(row["name"]).id
            source = TagSource(row["source"])
            links[tag_id] = {"image_id": image_id, "tag_id": tag_id, "source": source}
        if links:
            self.session.execute(insert(ImageTag).values(list(links.values())))

    # -- for good --------------------------------------------------------------------------

    def purge(self, owner_id: int, trashed_ids: Iterable[int] | None) -> int:
        """Delete pictures of an account's trash for good, with their files; None for all."""
        ids = None if trashed_ids is None else sorted(set(trashed_ids))
        return self._purge(self._which(owner_id, ids, None))

    def purge_old(self, *, everything: bool = False) -> int:
        """Delete for good what has been in the trash for ``days``, of every account; how many.

        Args:
            everything: however short it has been there.
        """
        self._clock.looked = time.monotonic()
        before = utcnow() - timedelta(days=0 if everything else self.days)
        return self._purge([TrashedImage.deleted_at <= before])

    def purge_due(self) -> int:
        """The same, at most once an hour in this process: background work calls it often."""
        if time.monotonic() - self._clock.looked < EVERY:
            return 0
        return self.purge_old()

    def _purge(self, which: list[ColumnElement[bool]]) -> int:
        count = 0
        while True:
            query = select(TrashedImage).where(*which).order_by(TrashedImage.id).limit(BATCH)
            found = self.session.scalars(query.with_for_update(skip_locked=True)).all()
            keys = [key for trashed in found for key in trashed.storage_keys]
            gone = TrashedImage.id.in_([trashed.id for trashed in found])
            self.session.execute(
                delete(TrashedImage).where(gone).execution_options(synchronize_session=False)
            )
            self.session.commit()
            self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not
            count += len(found)
            if len(found) < BATCH:
                break
        if count:
            logger.info("purged trash pictures=%d", count)
        return count

    def _which(
        self, owner_id: int, ids: list[int] | None, deleted_at: datetime | None
    ) -> list[ColumnElement[bool]]:
        which: list[ColumnElement[bool]] = [TrashedImage.owner_id == owner_id]
        if ids is not None:
            which.append(TrashedImage.id.in_(ids))
        if deleted_at is not None:
            which.append(TrashedImage.deleted_at == deleted_at)
        return which


def _table(model: Any) -> Table:
    return cast("Table", model.__table__)


def _plain(value: Any) -> Any:
    """A value of a row as JSON can hold it."""
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat() if isinstance(value, datetime) else value


def row_values(model: Any, row: Row) -> Row:
    """A kept row as values of the table as it is today: columns may have come and gone."""
    values: Row = {}
    for column in _table(model).columns:
        if column.name not in row:
            continue
        value = row[column.name]
        if value is not None and isinstance(column.type, UTCDateTime):
            value = datetime.fromisoformat(value)
        elif value is not None and isinstance(column.type, Enum) and column.type.enum_class:
            value = column.type.enum_class(value)
        values[column.name] = value
    return values


def _uploaded_again(titles: tuple[str, ...]) -> Conflict:
    return Conflict(
        N_(
            "“%(title)s” cannot come back: you have uploaded the same file again. "
            "Delete the newer one first, or delete this one for good."
        ),
        title=titles[0],
    )
