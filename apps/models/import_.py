"""Archives of labelled pictures that people bring, and which pictures came with them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk, utcnow, word_enum


class ImportStatus(enum.StrEnum):
    WAITING = "waiting"  # for somebody to look into the archive
    CHECKING = "checking"
    READY = "ready"  # its owner has to say what shall come
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNDONE = "undone"

    @property
    def settled(self) -> bool:
        """Nothing will happen any more unless its owner asks for it."""
        return self not in OPEN

    @property
    def busy(self) -> bool:
        """Somebody works on it, or will soon."""
        return self in OPEN and self is not ImportStatus.READY


OPEN = (
    ImportStatus.WAITING,
    ImportStatus.CHECKING,
    ImportStatus.READY,
    ImportStatus.QUEUED,
    ImportStatus.RUNNING,
)


class Import(Model):
    """One archive and its place in the queue. Its file goes as soon as it has ended."""

    TURNS: ClassVar = {  # what a worker makes of a status when it takes the row
        ImportStatus.WAITING: ImportStatus.CHECKING,
        ImportStatus.QUEUED: ImportStatus.RUNNING,
    }

    __tablename__ = "imports"
    __table_args__ = (
        Index(None, "owner_id", "id"),
        Index(None, "status", "queued_at"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(120))  # the uploaded file's name, for people
    key: Mapped[str] = mapped_column(String(32), unique=True)  # stem of the stored archive
    bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[ImportStatus] = mapped_column(
        word_enum(ImportStatus, "status"), default=ImportStatus.WAITING
    )
    cancelled: Mapped[bool] = mapped_column(default=False)  # asked for; the worker obeys
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1, of checking or of coming in
    error: Mapped[str | None] = mapped_column(String(500))  # English message id
    error_params: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    # What would come, and later what came: see services.import_plan.
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON, deferred=True)
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # see services.imports.Choices
    pictures: Mapped[int] = mapped_column(default=0)  # that came
    boxes: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str | None] = mapped_column(String(120))
    claimed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # or last sign of life
    created_at: Mapped[created]
    queued_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @property
    def file_key(self) -> str:
        return f"import/{self.key}.zip"


class ImportedPicture(Model):
    """A picture of an import, written before its files are: so that they can always be found.

    While the import runs, the files of these keys belong to nobody else. Afterwards the row says
    which picture came with which import, for as long as the picture exists anywhere.
    """

    __tablename__ = "imported_pictures"

    key: Mapped[str] = mapped_column(String(32), primary_key=True)  # that of Image
    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), index=True)
    extension: Mapped[str] = mapped_column(String(8))
    copy_extension: Mapped[str] = mapped_column(String(4))

    @property
    def storage_keys(self) -> tuple[str, str, str]:
        return (
            f"original/{self.key}.{self.extension}",
            f"display/{self.key}.{self.copy_extension}",
            f"thumbnail/{self.key}.{self.copy_extension}",
        )
