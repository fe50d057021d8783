"""The review inbox: pictures that nobody has marked reviewed, the most useful one first."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session, scoped_session

from apps.models import NOT_DONE, Image, PictureCount
from apps.services.pictures import Pictures

COUNTED = 100  # pictures; beyond so many the link in the navigation does not count


@dataclass(frozen=True)
class Progress:
    """How far an account is, in pictures."""

    reviewed: int
    waiting: int  # not reviewed, and looked at by a model
    unseen: int  # not reviewed, and no model has looked at them yet

    @property
    def pictures(self) -> int:
        """All that the account has."""
        return self.reviewed + self.waiting + self.unseen

    @property
    def percent(self) -> int:
        """Reviewed, of all; 100 only when nothing is left."""
        return 100 * self.reviewed // self.pictures if self.pictures else 0


@dataclass(frozen=True)
class ReviewService:
    session: scoped_session[Session]

    def progress(self, owner_id: int) -> Progress:
        """Exact numbers, for the inbox itself.

        The reviewed pictures, which are many in the end, are not read: they are what is left.
        """
        pictures = select(func.coalesce(func.sum(PictureCount.pictures), 0))
        pictures = pictures.where(PictureCount.owner_id == owner_id)
        unseen = select(func.count(Image.id)).where(
            Image.owner_id == owner_id,
            NOT_DONE,
            Image.reviewed_at.is_(None),
            Image.uncertainty.is_(None),
        )
        waiting = _waiting(owner_id, func.count())
        total, waits, none = self.session.execute(
            select(*(part.scalar_subquery() for part in (pictures, waiting, unseen)))
        ).one()
        return Progress(max(int(total) - waits - none, 0), waits, none)

    def waiting(self, owner_id: int) -> int:
        """How many pictures wait; at most COUNTED, because every page asks."""
        some = _waiting(owner_id, Image.id).limit(COUNTED).subquery()
        return self.session.scalar(select(func.count()).select_from(some)) or 0

    def inbox(self, owner_id: int, total: int) -> Pictures:
        """The pictures that wait, the one that the model is least sure of first.

        Args:
            total: how many they are, see ``progress``.
        """
        ids = _waiting(owner_id, Image.id)
        return Pictures(self.session, ids, (Image.uncertainty, Image.id), True, total)

    def next_to_review(self, owner_id: int, after: int | None = None) -> int | None:
        """Id of the picture that follows ``after`` in the inbox, or None if no other one waits.

        Behind the last one it goes on with the first: pictures that were passed over come again.

        Args:
            after: a picture of this owner, reviewed or not; of any other one, or None, the answer
                is the first of the inbox.
        """
        ids = _waiting(owner_id, Image.id)
        ids = ids.order_by(Image.uncertainty.desc(), Image.id.desc()).limit(1)
        place = None
        if after is not None:
            ids = ids.where(Image.id != after)
            mine = select(Image.uncertainty).where(Image.id == after, Image.owner_id == owner_id)
            place = self.session.scalar(mine)
        if place is not None:
            behind = tuple_(Image.uncertainty, Image.id) < tuple_(place, after)
            following: int | None = self.session.scalar(ids.where(behind))
            if following is not None:
                return following
        first: int | None = self.session.scalar(ids)
        return first


def _waiting(owner_id: int, what: Any) -> Select[*tuple[Any, ...]]:
    """Of an owner's pictures that wait; said in the words of ix_images_to_review."""
    return select(what).select_from(Image).where(Image.owner_id == owner_id, *to_review())


def to_review() -> tuple[ColumnElement[bool], ...]:
    """Conditions on ``Image``: a model has looked at it, and no person has marked it reviewed."""
    return Image.reviewed_at.is_(None), Image.uncertainty.is_not(None)
