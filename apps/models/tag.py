"""Tags, and which picture has which."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, literal_column
from sqlalchemy.orm import Mapped, mapped_column, relationship

from apps.extensions import Model
from apps.models.types import created, partial, pk, word_enum

if TYPE_CHECKING:
    from apps.models.image import Image

MAX_TAG_LENGTH = 40


class TagSource(enum.StrEnum):
    MODEL = "model"  # a model found it; replaced by the next detection
    PERSON = "person"  # a person added it; no model removes it
    REMOVED = "removed"  # a person took it off; no model brings it back


class Tag(Model):
    """A word for what is in a picture, shared by all accounts; its links are not."""

    __tablename__ = "tags"

    id: Mapped[pk]
    name: Mapped[str] = mapped_column(String(MAX_TAG_LENGTH), unique=True)
    folded: Mapped[str] = mapped_column(String(3 * MAX_TAG_LENGTH), unique=True)  # fold(name)
    created_at: Mapped[created]

    links: Mapped[list[ImageTag]] = relationship(
        back_populates="tag", cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )


class ImageTag(Model):
    """A tag on a picture and who put it there.

    ``owner_id`` is the picture's: the database fills it in, refuses another, and changes it with
    the picture. It stands here so that the pictures of one owner and one tag lie together in an
    index.
    """

    __tablename__ = "image_tags"
    __table_args__ = (
        ForeignKeyConstraint(
            ["owner_id", "image_id"],
            ["images.owner_id", "images.id"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
        Index(
            "ix_image_tags_visible",
            "owner_id", "tag_id", "image_id",
            **partial("source <> 'removed'"),
        ),
    )  # fmt: skip

    image_id: Mapped[int] = mapped_column(primary_key=True)
    tag_id: Mapped[int] = mapped_column(
        ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    owner_id: Mapped[int] = mapped_column(server_default="0")
    source: Mapped[TagSource] = mapped_column(word_enum(TagSource, "source"))

    image: Mapped[Image] = relationship(
        primaryjoin="Image.id == foreign(ImageTag.image_id)",
        back_populates="tag_links",
        lazy="raise",
    )
    tag: Mapped[Tag] = relationship(back_populates="links", lazy="raise")


VISIBLE = ImageTag.source != literal_column("'removed'")  # answered from ix_image_tags_visible
