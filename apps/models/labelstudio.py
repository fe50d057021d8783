"""Label Studio servers that ask for boxes, each below a secret address of its own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk


class LabelStudio(Model):
    """One connection. The secret of its address is nowhere: only what it hashes to."""

    __tablename__ = "label_studios"
    __table_args__ = (
        CheckConstraint("min_score BETWEEN 0 AND 1", name="min_score_range"),
        Index(None, "owner_id", "id"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of the secret, in hex
    prefix: Mapped[str] = mapped_column(String(16))  # the first characters, to tell them apart
    host: Mapped[str] = mapped_column(String(300))  # http(s)://name:port and a path, if it has one
    token: Mapped[str] = mapped_column(String(4000))  # of Label Studio, encrypted; empty: none
    model: Mapped[str] = mapped_column(String(200))  # empty: the default one
    min_score: Mapped[float]
    created_at: Mapped[created]
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # to within a minute
