"""Questions about pictures that several services ask."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Integer, Select, bindparam, delete, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, scoped_session
from sqlalchemy.sql.base import ExecutableOption

from apps.errors import N_, NotFound
from apps.models import (
    NOT_DONE,
    VISIBLE,
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    PictureCount,
    TrashedImage,
    Verdict,
    Video,
)

NO_PICTURE = N_("There is no such picture.")
MANY = 1000  # pictures; a search that finds more does not count them all

Order = InstrumentedAttribute[Any] | ColumnElement[Any]
Q = TypeVar("Q", bound=Select[*tuple[Any, ...]])
Part = tuple[ColumnElement[bool], int]  # some pictures of a list, and how many they are


@dataclass(frozen=True)
class Totals:
    """What one account has."""

    pictures: int
    bytes: int  # of the originals, those in the trash too, and of clips
    waiting: int  # pictures that are queued or running


@dataclass(frozen=True)
class Holdings:
    """What some pictures are and bring with them: what is lost when they go."""

    images: int
    boxes: int  # of every model, and those that people drew
    tags: int
    bytes: int


@dataclass(frozen=True)
class Pictures:
    """An ordered list of pictures, which is read page by page.

    A page is found by its ids alone, in an index that has the order, so that a far page costs
    little more than the first; then the rows of that page are read.
    """

    session: scoped_session[Session]
    ids: Select[int]  # without an order
    order: tuple[
        InstrumentedAttribute[Any] | ColumnElement[Any], ...
    ]  # together different for any two pictures
    descending: bool
    total: int  # how many there are
    exact: bool = True  # False: at least so many
    options: tuple[ExecutableOption, ...] = ()  # what is read with each picture
    # What no index orders may be given in parts, one after the other; ``order`` is that of each.
    parts: tuple[Part, ...] = ()

    def slice(self, offset: int, limit: int) -> list[Image]:
        """At most ``limit`` pictures after the first ``offset``."""
        if self.exact and offset >= self.total:
            return []
        found = list(self._from_parts(offset, limit) if self.parts else self._ids(offset, limit))
        query = select(Image).where(Image.id.in_(found)).options(*self.options)
        rows = {image.id: image for image in self.session.scalars(query)}
        return [rows[image_id] for image_id in found if image_id in rows]

    def after(
        self, place: Sequence[Any] | None, limit: int
    ) -> tuple[list[Image], tuple[Any, ...] | None]:
        """At most ``limit`` pictures after a place, which is the values of the order of a picture.

        Returns:
            Them, and the place of the last one, or None where no more follow.
        """
        query = self.ids.add_columns(*self.order)
        if place is not None:
            row, last = tuple_(*self.order), tuple_(*place)
            query = query.where(row < last if self.descending else row > last)
        found = self.session.execute(self._in_order(query, self.descending).limit(limit + 1)).all()
        shown = found[:limit]
        which = select(Image).where(Image.id.in_([each[0] for each in shown]))
        rows = {image.id: image for image in self.session.scalars(which.options(*self.options))}
        images = [rows[each[0]] for each in shown if each[0] in rows]
        return images, tuple(shown[-1])[1:] if len(found) > limit else None

    def around(self, image: Image) -> tuple[Image | None, Image | None]:
        """The pictures before and after ``image``, where it has or would have its place."""
        keys = ["id" if column.key == "image_id" else str(column.key) for column in self.order]
        values = [getattr(image, key, None) for key in keys]  # an order may be a number of boxes
        if None in values:  # it has no place in this order
            return None, None
        row = tuple_(*self.order)
        higher, lower = row > tuple_(*values), row < tuple_(*values)
        sides = (higher, lower) if self.descending else (lower, higher)
        before, after = (
            self.session.scalar(self._ordered(descending, 0, 1).where(side))
            for side, descending in zip(sides, (not self.descending, self.descending), strict=True)
        )
        found = select(Image).where(Image.id.in_([before, after]))
        images = {each.id: each for each in self.session.scalars(found)}
        return images.get(before or 0), images.get(after or 0)

    def _ids(self, offset: int, limit: int) -> Iterable[int]:
        if not self.exact or offset <= self.total // 2:
            return self.session.scalars(self._ordered(self.descending, offset, limit))
        behind = max(self.total - offset - limit, 0)  # nearer to the end: count from there
        limit = min(limit, self.total - offset)
        found = self.session.scalars(self._ordered(not self.descending, behind, limit)).all()
        return reversed(found)

    def _from_parts(self, offset: int, limit: int) -> Iterator[int]:
        for which, pictures in self.parts:
            if limit > 0 and offset < pictures:
                query = self._ordered(self.descending, offset, limit).where(which)
                found = self.session.scalars(query).all()
                yield from found
                limit -= len(found)
            offset = max(offset - pictures, 0)

    def _ordered(self, descending: bool, offset: int, limit: int) -> Select[int]:
        return self._in_order(self.ids, descending).offset(offset).limit(limit)

    def _in_order(self, query: Q, descending: bool) -> Q:
        order = [column.desc() if descending else column.asc() for column in self.order]
        return query.order_by(*order)


def is_waiting() -> ColumnElement[bool]:
    """Queued or running; NOT_DONE says so once more, for its index."""
    return NOT_DONE & Image.status.in_((ImageStatus.QUEUED, ImageStatus.RUNNING))


# Asked with each upload and each look at the gallery, so they are put together only once.
_OWNER = bindparam("owner_id", type_=Integer)


def _sum(owner_id: Any, size: Any) -> Any:
    total = select(func.coalesce(func.sum(size), 0)).where(owner_id == _OWNER)
    return total.scalar_subquery()


_BYTES = select(
    _sum(PictureCount.owner_id, PictureCount.bytes)
    + _sum(TrashedImage.owner_id, TrashedImage.bytes)
    + _sum(Video.owner_id, Video.bytes)
)
_TOTALS = _BYTES.add_columns(
    _sum(PictureCount.owner_id, PictureCount.pictures),
    select(func.count(Image.id)).where(Image.owner_id == _OWNER, is_waiting()).scalar_subquery(),
)


def bytes_of(session: scoped_session[Session], owner_id: int) -> int:
    """Bytes of all that an account keeps: originals, those in its trash too, and clips."""
    return int(session.scalar(_BYTES, {"owner_id": owner_id}) or 0)


def totals_of(session: scoped_session[Session], owner_id: int) -> Totals:
    """What an account has, from the counts that the database keeps."""
    row = session.execute(_TOTALS, {"owner_id": owner_id}).one()
    return Totals(pictures=int(row[1]), bytes=int(row[0]), waiting=row[2])


def counts_by_status(
    session: scoped_session[Session], owner_id: int | None = None
) -> dict[ImageStatus, int]:
    """How many pictures are in each state, of one account or of all.

    Those that are done, which are nearly all, are not read: they are what the others leave.
    """
    everything = select(func.coalesce(func.sum(PictureCount.pictures), 0))
    others = [status for status in ImageStatus if status is not ImageStatus.DONE]
    query = select(*(func.count().filter(Image.status == status) for status in others))
    query = query.select_from(Image).where(NOT_DONE)
    if owner_id is not None:
        everything = everything.where(PictureCount.owner_id == owner_id)
        query = query.where(Image.owner_id == owner_id)
    *numbers, total = session.execute(query.add_columns(everything.scalar_subquery())).one()
    counts = dict(zip(others, numbers, strict=True))
    return counts | {ImageStatus.DONE: total - sum(numbers)}


def holdings_of(session: scoped_session[Session], which: ColumnElement[bool]) -> Holdings:
    """Counts over the pictures that satisfy ``which``, a condition on ``Image``."""
    ids = select(Image.id).where(which).scalar_subquery()
    images, size = session.execute(
        select(func.count(), func.coalesce(func.sum(Image.bytes), 0)).where(which)
    ).one()
    found = select(func.count()).where(Detection.image_id.in_(ids))
    drawn = select(func.count()).where(
        Annotation.image_id.in_(ids), Annotation.verdict == Verdict.DRAWN
    )
    boxes = (session.scalar(found) or 0) + (session.scalar(drawn) or 0)
    tags = select(func.count()).where(ImageTag.image_id.in_(ids), VISIBLE)
    return Holdings(images, boxes, session.scalar(tags) or 0, int(size))


def require_picture(
    session: scoped_session[Session], image_id: int, owner_id: int | None = None
) -> None:
    """Raise NotFound unless the picture exists and, if given, belongs to ``owner_id``."""
    query = select(Image.id).where(Image.id == image_id)
    if owner_id is not None:
        query = query.where(Image.owner_id == owner_id)
    if session.scalar(query) is None:
        raise NotFound(NO_PICTURE)


def delete_pictures(session: scoped_session[Session], which: ColumnElement[bool]) -> None:
    """Delete the rows of the pictures that satisfy ``which`` and all that belongs to them.

    Does not commit. The tags go first and in one statement: when they follow their pictures one
    by one, PostgreSQL counts them one by one too.
    """
    ids = select(Image.id).where(which).scalar_subquery()
    links = delete(ImageTag).where(ImageTag.image_id.in_(ids))
    for statement in (links, delete(Image).where(which)):
        session.execute(statement.execution_options(synchronize_session=False))
