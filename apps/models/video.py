"""Clips, and what was found in their frames."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk, utcnow, word_enum


class VideoStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        return self not in (VideoStatus.QUEUED, VideoStatus.RUNNING)


class Video(Model):
    """One uploaded clip and its place in the queue. The stored file is never changed."""

    TURNS: ClassVar = {VideoStatus.QUEUED: VideoStatus.RUNNING}  # when a worker takes the row

    __tablename__ = "videos"
    __table_args__ = (
        CheckConstraint("width > 0 AND height > 0", name="size_positive"),
        CheckConstraint("bytes > 0", name="bytes_positive"),
        CheckConstraint("every > 0", name="every_positive"),
        UniqueConstraint("owner_id", "sha256"),
        Index(None, "owner_id", "id"),
        Index(None, "owner_id", "bytes"),
        Index(None, "status", "queued_at"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(120))  # the uploaded file's name, for people
    key: Mapped[str] = mapped_column(String(32), unique=True)  # stem of the stored files
    extension: Mapped[str] = mapped_column(String(8))  # from the sniffed container: "mp4"
    media_type: Mapped[str] = mapped_column(String(40))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]  # pixels, upright
    height: Mapped[int]
    duration_ms: Mapped[int | None]
    frames: Mapped[int | None]  # in the clip, as its header says
    every: Mapped[int]  # one frame of so many is looked at
    status: Mapped[VideoStatus] = mapped_column(
        word_enum(VideoStatus, "status"), default=VideoStatus.QUEUED
    )
    cancelled: Mapped[bool] = mapped_column(default=False)  # asked for; the worker obeys
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    error: Mapped[str | None] = mapped_column(String(300))  # English message id
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str | None] = mapped_column(String(120))
    claimed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # or last sign of life
    wanted_model: Mapped[str | None] = mapped_column(String(80))  # None: the default one
    model: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[created]
    queued_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @property
    def file_key(self) -> str:
        return f"video/{self.key}.{self.extension}"

    @property
    def poster_key(self) -> str:
        """The first frame, a JPEG that lists show."""
        return f"poster/{self.key}.jpg"

    @property
    def storage_keys(self) -> tuple[str, str]:
        return self.file_key, self.poster_key


class VideoFrame(Model):
    """What was found in one frame of a clip."""

    __tablename__ = "video_frames"

    video_id: Mapped[int] = mapped_column(
        ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)  # from 0
    time_ms: Mapped[int]  # from the beginning of the clip
    # {"label", "score", "box": [x1, y1, x2, y2] in pixels of the upright clip}, best first
    boxes: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
