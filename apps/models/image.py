"""Pictures and what was found in them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, fold, partial, pk, utcnow, word_enum

if TYPE_CHECKING:
    from apps.models.tag import ImageTag, Tag
    from apps.models.user import User


class ImageStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def settled(self) -> bool:
        return self in SETTLED


SETTLED = (ImageStatus.DONE, ImageStatus.FAILED)


class Image(Model):
    """One uploaded picture and its place in the queue. The stored original is never changed."""

    __tablename__ = "images"
    __table_args__ = (
        CheckConstraint("width > 0 AND height > 0", name="size_positive"),
        CheckConstraint("bytes > 0", name="bytes_positive"),
        UniqueConstraint("owner_id", "sha256"),
        Index(None, "owner_id", "id", unique=True),  # a gallery; and what ImageTag refers to
        Index("ix_images_not_done", "owner_id", "status", "id", **partial("status <> 'done'")),
        Index(
            "ix_images_to_review",
            "owner_id", "uncertainty", "id",
            **partial("reviewed_at IS NULL AND uncertainty IS NOT NULL"),
        ),
        Index(None, "status", "created_at"),
        Index(None, "status", "queued_at"),
        Index(None, "status", "claimed_at"),
        Index(None, "created_at", "id"),
        Index(None, "bytes", "id"),
        Index(None, "folded", "id"),
    )  # fmt: skip

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(120))  # the uploaded file's name, for people
    folded: Mapped[str] = mapped_column(String(360), server_default="")  # fold(title), set with it
    key: Mapped[str] = mapped_column(String(32), unique=True)  # stem of the three stored files
    extension: Mapped[str] = mapped_column(String(8))  # from the sniffed format: "jpg"
    media_type: Mapped[str] = mapped_column(String(40))
    copy_extension: Mapped[str] = mapped_column(
        String(4), server_default="webp"
    )  # of what pages show: "jpg" or "webp"
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)  # size of the original
    width: Mapped[int]  # pixels, upright (after EXIF orientation)
    height: Mapped[int]
    status: Mapped[ImageStatus] = mapped_column(
        word_enum(ImageStatus, "status"), default=ImageStatus.QUEUED
    )
    error: Mapped[str | None] = mapped_column(String(300))  # English message id
    attempts: Mapped[int] = mapped_column(default=0)  # how often it was claimed since queued
    claimed_by: Mapped[str | None] = mapped_column(String(120))  # services.workers.worker_name()
    claimed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    wanted_model: Mapped[str | None] = mapped_column(String(80))  # None: the default one
    # The present result, which is what pages show, count, tag and export; see Result.
    model: Mapped[str | None] = mapped_column(String(80))
    duration_ms: Mapped[int | None]
    created_at: Mapped[created]
    queued_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utcnow)  # last time
    detected_at: Mapped[datetime | None] = mapped_column(UTCDateTime, index=True)
    # What people make of the boxes; see Annotation.
    version: Mapped[int] = mapped_column(default=1, server_default="1")  # grows with every change
    last_change: Mapped[str | None] = mapped_column(String(36))  # UUID: a repeated one is known
    reviewed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    uncertainty: Mapped[float | None]  # 0 to 1 of the present result; NULL: none yet

    # lazy="raise": a page that forgets to ask for a collection fails in a test instead of
    # sending one query for each picture.
    owner: Mapped[User] = relationship(back_populates="images", lazy="raise")
    detections: Mapped[list[Detection]] = relationship(  # of the present result alone
        primaryjoin="and_(Image.id == foreign(Detection.image_id), "
        "Image.model == foreign(Detection.model))",
        order_by="Detection.score.desc(), Detection.id",
        viewonly=True,
        lazy="raise",
    )
    tag_links: Mapped[list[ImageTag]] = relationship(
        primaryjoin="Image.id == foreign(ImageTag.image_id)",
        back_populates="image",
        cascade="all, delete-orphan",
        passive_deletes=True,
        lazy="raise",
    )
    tags: Mapped[list[Tag]] = relationship(
        secondary="image_tags",
        primaryjoin="and_(Image.id == ImageTag.image_id, ImageTag.source != 'removed')",
        order_by="Tag.name",
        viewonly=True,
        lazy="raise",
    )

    @validates("title")
    def _fold_title(self, _key: str, title: str) -> str:
        self.folded = fold(title)
        return title

    @property
    def original_key(self) -> str:
        return f"original/{self.key}.{self.extension}"

    @property
    def display_key(self) -> str:
        return f"display/{self.key}.{self.copy_extension}"

    @property
    def thumbnail_key(self) -> str:
        return f"thumbnail/{self.key}.{self.copy_extension}"

    @property
    def storage_keys(self) -> tuple[str, str, str]:
        return self.original_key, self.display_key, self.thumbnail_key

    @property
    def original_name(self) -> str:
        """File name in an address, ``/images/<filename>``."""
        return f"{self.key}.{self.extension}"

    @property
    def display_name(self) -> str:
        return f"{self.key}-display.{self.copy_extension}"

    @property
    def thumbnail_name(self) -> str:
        return f"{self.key}-thumbnail.{self.copy_extension}"


NOT_DONE = Image.status != literal_column("'done'")  # answered from ix_images_not_done


class Result(Model):
    """That one model has looked at one picture: the latest time, also if it found nothing.

    Its boxes are the rows of Detection with the same picture and model.
    """

    __tablename__ = "results"

    image_id: Mapped[int] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True
    )
    model: Mapped[str] = mapped_column(String(80), primary_key=True)
    detected_at: Mapped[datetime] = mapped_column(UTCDateTime)
    duration_ms: Mapped[int | None]  # decoding included


class Detection(Model):
    """One box. Every box above the engine's floor is kept, so the slider needs no inference."""

    __tablename__ = "detections"
    __table_args__ = (
        CheckConstraint("score BETWEEN 0 AND 1", name="score_range"),
        CheckConstraint("x1 < x2 AND y1 < y2", name="box_order"),
        Index(None, "image_id", "model"),
        Index(
            "ix_detections_annotation_id", "annotation_id", **partial("annotation_id IS NOT NULL")
        ),
    )

    id: Mapped[pk]
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(60), index=True)
    score: Mapped[float]
    x1: Mapped[float]  # pixels of the upright picture
    y1: Mapped[float]
    x2: Mapped[float]
    y2: Mapped[float]
    model: Mapped[str] = mapped_column(String(80))
    # The person's word that stands for this box, which is not shown any more; NULL: none.
    annotation_id: Mapped[int | None] = mapped_column(
        ForeignKey("annotations.id", ondelete="SET NULL")
    )
    # COCO RLE at the picture's size, see vision.masks: some kilobytes, read where it is drawn.
    mask: Mapped[str | None] = mapped_column(Text, deferred=True, deferred_raiseload=True)

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)


UNSAID = Detection.annotation_id.is_(None)  # a model's box that no person has spoken about
