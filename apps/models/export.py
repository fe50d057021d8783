"""Exports that are made in the background, and how far they are."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk, utcnow, word_enum


class ExportStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # its file is gone

    @property
    def settled(self) -> bool:
        return self not in (ExportStatus.QUEUED, ExportStatus.RUNNING)


class Export(Model):
    """One ZIP that an account asked for, and its place in the queue."""

    TURNS: ClassVar = {ExportStatus.QUEUED: ExportStatus.RUNNING}  # when a worker takes the row

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_range"),
        Index(None, "owner_id", "id"),
        Index(None, "status", "queued_at"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))  # of services.export_writers.KINDS
    # Which pictures: these, or what the search finds; neither: all of the account.
    image_ids: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    search: Mapped[str | None] = mapped_column(String(500))
    boxes: Mapped[str] = mapped_column(String(8))  # of services.export_pictures.WHOSE
    threshold: Mapped[float]  # lowest score of a model's box
    with_pictures: Mapped[bool]
    status: Mapped[ExportStatus] = mapped_column(
        word_enum(ExportStatus, "status"), default=ExportStatus.QUEUED
    )
    cancelled: Mapped[bool] = mapped_column(default=False)  # asked for; the worker obeys
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    error: Mapped[str | None] = mapped_column(String(300))  # English message id
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str | None] = mapped_column(String(120))
    claimed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    key: Mapped[str] = mapped_column(String(32), unique=True)  # stem of the stored file
    bytes: Mapped[int | None] = mapped_column(BigInteger)  # of the ZIP
    # {"pictures", "boxes", "files", "missing"}: what reading it back has counted
    counts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[created]
    queued_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime, index=True)

    @property
    def file_key(self) -> str:
        """Of the latest attempt: a key is written once."""
        return self.key_of(self.attempts)

    def key_of(self, attempt: int) -> str:
        return f"export/{self.key}-{attempt}.zip"

    @property
    def storage_keys(self) -> list[str]:
        """Of every attempt that may have left a file."""
        return [self.key_of(attempt) for attempt in range(1, self.attempts + 1)]

    @property
    def filename(self) -> str:
        return f"sightbox-{self.kind}-{self.id}.zip"
