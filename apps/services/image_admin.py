"""Pictures of every account: what administrators list, rename and move."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Select, String, column, func, or_, select, table
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, scoped_session

from apps.errors import N_, Conflict, NotFound
from apps.models import Image, ImageStatus, PictureCount, User, fold
from apps.services.pictures import (
    MANY,
    NO_PICTURE,
    Holdings,
    Part,
    Pictures,
    counts_by_status,
    holdings_of,
)
from apps.services.tags import TagService
from apps.vision.decode import safe_title

TRIGRAM = 3  # letters: a shorter text has no trigram to be found by
TITLES = table("image_titles", column("rowid", Integer), column("folded", String))
WITH_OWNER = (joinedload(Image.owner, innerjoin=True),)
ORDERS: dict[str, tuple[InstrumentedAttribute[Any], ...]] = {
    "created": (Image.created_at, Image.id),
    "title": (Image.folded, Image.id),
    "owner": (User.folded, Image.id),
    "status": (Image.status, Image.created_at, Image.id),
    "bytes": (Image.bytes, Image.id),
}


@dataclass(frozen=True)
class ImageAdminService:
    session: scoped_session[Session]
    tags: TagService

    def find(self, image_id: int) -> Image:
        """The bare row of any picture.

        Raises:
            NotFound: no such picture.
        """
        image = self.session.get(Image, image_id)
        if image is None:
            raise NotFound(NO_PICTURE)
        return image

    def all(
        self,
        search: str = "",
        sort: str = "-created",
        status: str = "",
        owner_id: int | None = None,
    ) -> Pictures:
        """Pictures with their owners.

        Args:
            search: part of a title or of an owner's name, in any case.
            sort: ``created``, ``title``, ``owner``, ``status`` or ``bytes``; "-" reverses it.
            status: empty for all.
            owner_id: None for all.
        """
        known = ImageStatus(status) if status in {member.value for member in ImageStatus} else None
        ids = select(Image.id)
        if known is not None:
            ids = ids.where(Image.status == known)
        if owner_id is not None:
            ids = ids.where(Image.owner_id == owner_id)
        counts = counts_by_status(self.session, owner_id)
        total, exact = counts[known] if known is not None else sum(counts.values()), True
        if search:
            ids, total, exact = self._search(ids, fold(search))
        name, descending = sort.lstrip("-"), sort.startswith("-")
        order = ORDERS.get(name, ORDERS["created"])
        parts: tuple[Part, ...] = ()
        if owner_id is not None and name in ("created", "owner"):
            order = (Image.id,)  # rises with the time of upload
        elif name == "owner" and (search or status):
            ids = ids.join(Image.owner)
        elif name == "owner":
            order, parts = (Image.id,), self._by_owner(descending)
        return Pictures(self.session, ids, order, descending, total, exact, WITH_OWNER, parts)

    def _by_owner(self, descending: bool) -> tuple[Part, ...]:
        """The pictures of each account, by its name, and how many they are."""
        query = (
            select(User.id, func.sum(PictureCount.pictures))
            .join(PictureCount, PictureCount.owner_id == User.id)
            .group_by(User.id)
            .order_by(User.folded.desc() if descending else User.folded)
        )
        rows = self.session.execute(query)
        return tuple((Image.owner_id == user_id, pictures) for user_id, pictures in rows)

    def _search(self, ids: Select[int], folded: str) -> tuple[Select[int], int, bool]:
        """``ids`` narrowed to those that match, how many there are, and whether that is exact."""
        owners = self.session.scalars(
            select(User.id).where(User.folded.contains(folded, autoescape=True))
        ).all()
        theirs = Image.owner_id.in_(owners)
        found = set(self.session.scalars(self._titled(ids, folded).limit(MANY + 1)))
        if owners:
            found.update(self.session.scalars(ids.where(theirs).limit(MANY + 1)))
        if len(found) <= MANY:
            return ids.where(Image.id.in_(found)), len(found), True
        # So many that a page is soon full of them: read in the order of the list, and do not count.
        titled = Image.folded.contains(folded, autoescape=True)
        return ids.where(or_(titled, theirs)), MANY + 1, False

    def _titled(self, ids: Select[int], folded: str) -> Select[int]:
        """Those whose title contains ``folded``, found by its trigrams where there are any."""
        if self.session.get_bind().dialect.name != "sqlite" or len(folded) < TRIGRAM:
            return ids.where(Image.folded.contains(folded, autoescape=True))
        phrase = '"' + folded.replace('"', '""') + '"'
        return ids.join(TITLES, TITLES.c.rowid == Image.id).where(TITLES.c.folded.match(phrase))

    def several(self, image_ids: Iterable[int]) -> list[Image]:
        """Those of ``image_ids`` that exist, with their owners, by title."""
        query = select(Image).where(Image.id.in_(list(image_ids)))
        query = query.options(*WITH_OWNER).order_by(Image.folded, Image.id)
        return list(self.session.scalars(query))

    def holdings(self, image_ids: Iterable[int]) -> Holdings:
        """What is lost with these pictures."""
        return holdings_of(self.session, Image.id.in_(list(image_ids)))

    def owners(self) -> list[tuple[int, str]]:
        """(id, user name) of every account, for choosing one."""
        query = select(User.id, User.username).order_by(User.folded)
        return [(user_id, name) for user_id, name in self.session.execute(query)]

    def update(self, image_id: int, *, title: str, owner_id: int) -> Image:
        """Rename a picture or give it to another account.

        Its model's tags then follow the new owner's threshold. The new owner's quota is not
        asked: an administrator decides.

        Raises:
            NotFound: no such picture.
            Conflict: the other account has the same picture already.
        """
        image = self.find(image_id)
        moved = owner_id != image.owner_id
        if moved:
            self._refuse_duplicate(owner_id, image.sha256)
        image.title = safe_title(title)
        image.owner_id = owner_id
        if moved:
            self.session.flush()
            self.tags.follow_result(image_id)
        self.session.commit()
        return image

    def _refuse_duplicate(self, owner_id: int, digest: str) -> None:
        query = (
            select(User.username)
            .join(Image, Image.owner_id == User.id)
            .where(User.id == owner_id, Image.sha256 == digest)
        )
        name = self.session.scalar(query)
        if name is not None:
            raise Conflict(
                N_(
                    "%(name)s has the same picture already. "
                    "Choose another owner, or delete one of the two."
                ),
                name=name,
            )
