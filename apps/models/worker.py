"""Processes that detect."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime


class Worker(Model):
    """A process that detects, as long as it says so again and again (``seen_at``)."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)  # as in Image.claimed_by
    host: Mapped[str] = mapped_column(String(60))
    pid: Mapped[int]
    device: Mapped[str | None] = mapped_column(String(80))  # for people; None: not known yet
    engine: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # EngineStatus
    started_at: Mapped[datetime] = mapped_column(UTCDateTime)  # both by the database's clock
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime)
