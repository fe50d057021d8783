"""Deleted pictures that can still be restored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, pk, utcnow


class TrashedImage(Model):
    """A deleted picture: its rows of all tables as values, while its files stay where they are.

    They are taken out of their tables, so nothing that counts, lists or searches pictures has to
    know that there is a trash.
    """

    __tablename__ = "trashed_images"
    __table_args__ = (
        Index(None, "owner_id", "deleted_at", "id"),
        Index(None, "owner_id", "bytes"),
        Index(None, "deleted_at"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(120))
    key: Mapped[str] = mapped_column(String(32), unique=True)
    extension: Mapped[str] = mapped_column(String(8))
    copy_extension: Mapped[str] = mapped_column(String(4))
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    deleted_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    rows: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)  # table to its rows

    @property
    def thumbnail_name(self) -> str:
        """File name in an address, as that of Image."""
        return f"{self.key}-thumbnail.{self.copy_extension}"

    @property
    def storage_keys(self) -> tuple[str, str, str]:
        return (
            f"original/{self.key}.{self.extension}",
            f"display/{self.key}.{self.copy_extension}",
            f"thumbnail/{self.key}.{self.copy_extension}",
        )
