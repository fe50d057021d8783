"""Pictures of every account: what administrators list, rename and move."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, contains_eager, scoped_session

from apps.errors import N_, Conflict, NotFound
from apps.models import Image, ImageStatus, User, fold
from apps.services.pictures import NO_PICTURE, Holdings, holdings_of
from apps.services.tags import TagService
from apps.vision.decode import safe_title


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

    def all_query(
        self,
        search: str = "",
        sort: str = "-created",
        status: str = "",
        owner_id: int | None = None,
    ) -> Select[Image]:
        """Pictures with their owners, for paging."""
        query = select(Image).join(Image.owner).options(contains_eager(Image.owner))
        if search:
            query = query.where(
                or_(
                    Image.title.icontains(search, autoescape=True),
                    User.folded.contains(fold(search), autoescape=True),
                )
            )
        if status in {member.value for member in ImageStatus}:
            query = query.where(Image.status == ImageStatus(status))
        if owner_id is not None:
            query = query.where(Image.owner_id == owner_id)
        columns: dict[str, Any] = {
            "created": Image.created_at,
            "title": func.lower(Image.title),
            "owner": User.folded,
            "status": Image.status,
            "bytes": Image.bytes,
        }
        column = columns.get(sort.lstrip("-"), Image.created_at)
        return query.order_by(column.desc() if sort.startswith("-") else column.asc(), Image.id)

    def several(self, image_ids: Iterable[int]) -> list[Image]:
        """Those of ``image_ids`` that exist, with their owners."""
        query = self.all_query(sort="title").where(Image.id.in_(list(image_ids)))
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
        self.session.commit()
        if moved:
            threshold = self.session.scalar(select(User.threshold).where(User.id == owner_id))
            self.tags.retag(owner_id, threshold or 0.0)
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
