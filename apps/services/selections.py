"""What people do with many of their pictures at once, in a few statements each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, InvalidInput, NotFound
from apps.models import (
    VISIBLE,
    Image,
    ImageTag,
    TagSource,
    utcnow,
)
from apps.services.tags import TagService, clean_name

MAX_AT_ONCE = 1000  # pictures of one request
NO_SYNC = {"synchronize_session": False}


@dataclass(frozen=True)
class Changed:
    """What became of a request for many pictures, in numbers."""

    done: int
    same: int  # were so already
    missing: int  # gone, or somebody else's


@dataclass(frozen=True)
class SelectionService:
    session: scoped_session[Session]
    tags: TagService

    def add_tag(self, owner_id: int, image_ids: Iterable[int], text: str) -> Changed:
        """Put a person's tag on pictures of theirs.

        Raises:
            InvalidInput: not a usable tag, or more than MAX_AT_ONCE pictures.
        """
        name = clean_name(text)
        ids, mine, there = self._there(owner_id, image_ids)
        tag_id = self.tags.ensure(name).id
        links = (ImageTag.tag_id == tag_id, ImageTag.image_id.in_(ids))
        same = self._number(*links, ImageTag.owner_id == owner_id, VISIBLE)
        self.session.execute(
            update(ImageTag)
            .where(*links, ImageTag.owner_id == owner_id)
            .values(source=TagSource.PERSON)
            .execution_options(**NO_SYNC)
        )
        has = exists().where(ImageTag.image_id == Image.id, ImageTag.tag_id == tag_id)
        new = select(
            Image.owner_id, Image.id, literal(tag_id), literal(TagSource.PERSON.value)
        ).where(mine, ~has)
        names = ["owner_id", "image_id", "tag_id", "source"]
        self.session.execute(insert(ImageTag).from_select(names, new))
        self.session.commit()
        return Changed(there - same, same, len(ids) - there)

    def remove_tag(self, owner_id: int, image_ids: Iterable[int], text: str) -> Changed:
        """Take a tag off pictures; where a box says the same, no model brings it back.

        Raises:
            InvalidInput: not a usable tag, or more than MAX_AT_ONCE pictures.
            NotFound: there is no such tag at all.
        """
        ids, mine, there = self._there(owner_id, image_ids)
        tag = self.tags.find(text)
        if tag is None:
            raise NotFound(N_("There is no such tag."))
        links = (
            ImageTag.tag_id == tag.id,
            ImageTag.owner_id == owner_id,
            ImageTag.image_id.in_(ids),
            VISIBLE,
        )
        done = self._number(*links)
        stays = self.tags.with_box(mine, tag.name)
        self.session.execute(
            update(ImageTag)
            .where(*links, ImageTag.image_id.in_(stays))
            .values(source=TagSource.REMOVED)
            .execution_options(**NO_SYNC)
        )
        self.session.execute(delete(ImageTag).where(*links).execution_options(**NO_SYNC))
        self.session.commit()
        return Changed(done, there - done, len(ids) - there)

    def review(self, owner_id: int, image_ids: Iterable[int], *, yes: bool) -> Changed:
        """Mark pictures as reviewed, or as not.

        Raises:
            InvalidInput: more than MAX_AT_ONCE pictures.
        """
        ids, mine, there = self._there(owner_id, image_ids)
        other = Image.reviewed_at.is_(None) if yes else Image.reviewed_at.is_not(None)
        changed = self.session.scalars(
            update(Image)
            .where(mine, other)
            .values(reviewed_at=utcnow() if yes else None, version=Image.version + 1)
            .returning(Image.id)
            .execution_options(**NO_SYNC)
        ).all()
        self.session.commit()
        return Changed(len(changed), there - len(changed), len(ids) - there)

    def _there(
        self, owner_id: int, image_ids: Iterable[int]
    ) -> tuple[list[int], ColumnElement[bool], int]:
        """The ids, the condition that picks the owner's among them, and how many there are."""
        ids = sorted(set(image_ids))
        if len(ids) > MAX_AT_ONCE:
            raise InvalidInput(
                N_("Choose at most %(limit)s pictures at once; do the others afterwards."),
                limit=MAX_AT_ONCE,
            )
        mine = Image.id.in_(ids) & (Image.owner_id == owner_id)
        return ids, mine, self.session.scalar(select(func.count()).where(mine)) or 0

    def _number(self, *which: Any) -> int:
        query = select(func.count()).select_from(ImageTag).where(*which)
        return self.session.scalar(query) or 0
