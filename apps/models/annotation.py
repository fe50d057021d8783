"""What a person says about the boxes of a picture."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk, utcnow, word_enum

MAX_LABEL_LENGTH = 60


class Verdict(enum.StrEnum):
    DRAWN = "drawn"  # a person's own box
    ACCEPTED = "accepted"  # a model's box, right as it is
    CHANGED = "changed"  # a model's box with another label or other corners
    REJECTED = "rejected"  # a model's box that should not be there


class Annotation(Model):
    """A person's word on one box; no detection removes it.

    What a model had found stands beside what the person made of it, because the rows of Detection
    are replaced when the model looks again, and because both are what a model can learn from.
    """

    __tablename__ = "annotations"
    __table_args__ = (
        CheckConstraint("x1 < x2 AND y1 < y2", name="box_order"),
        CheckConstraint("(verdict = 'drawn') = (found_model IS NULL)", name="drawn_or_found"),
        UniqueConstraint("image_id", "ref"),
    )

    id: Mapped[pk]
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    ref: Mapped[str] = mapped_column(String(36))  # UUID of the browser: the same after an undo
    author_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    verdict: Mapped[Verdict] = mapped_column(word_enum(Verdict, "verdict"))
    label: Mapped[str] = mapped_column(String(MAX_LABEL_LENGTH), index=True)
    x1: Mapped[float]  # pixels of the upright picture
    y1: Mapped[float]
    x2: Mapped[float]
    y2: Mapped[float]
    # The model's box; all of them are NULL for a drawn one.
    found_model: Mapped[str | None] = mapped_column(String(80))
    found_label: Mapped[str | None] = mapped_column(String(MAX_LABEL_LENGTH))
    found_score: Mapped[float | None]
    found_x1: Mapped[float | None]
    found_y1: Mapped[float | None]
    found_x2: Mapped[float | None]
    found_y2: Mapped[float | None]
    created_at: Mapped[created]
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow, onupdate=utcnow)


STANDS = Annotation.verdict != Verdict.REJECTED  # a box that is there, whatever a model thinks
