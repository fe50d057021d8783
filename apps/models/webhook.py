"""Addresses that want to be told, and what they were told or are still to be."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, partial, pk, utcnow, word_enum

ANSWER_TEXT = 500  # characters of what an address answered
URL_LENGTH = 1000


class OffReason(enum.StrEnum):
    """Why nothing is sent any more."""

    OWNER = "owner"  # its owner switched it off
    FAILING = "failing"  # no answer was good for long
    GONE = "gone"  # it answered 410: do not ask again


TOKEN_ENDED = "token"  # as those, of a webhook whose token works no more


class Webhook(Model):
    """An address of an account's owner. The secret signs, so it has to be kept as it is."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "owner_id", "id"),)

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(URL_LENGTH))
    events: Mapped[str] = mapped_column(String(100))  # words of services.webhooks.EVENTS
    secret: Mapped[str] = mapped_column(String(60))
    old_secret: Mapped[str | None] = mapped_column(String(60))  # signs too until old_until
    old_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[created]
    off_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    off_reason: Mapped[OffReason | None] = mapped_column(word_enum(OffReason, "off_reason"))
    failing_since: Mapped[datetime | None] = mapped_column(UTCDateTime)  # NULL: the last was good
    paused_until: Mapped[datetime | None] = mapped_column(UTCDateTime)  # nothing is sent before
    # The prefix of the token that gave the address, and when that works no more; NULL: a person
    # gave it on the page, and it never ends.
    token: Mapped[str | None] = mapped_column(String(16))
    ends_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @property
    def has_ended(self) -> bool:
        """Whether the token that gave the address was revoked or has expired."""
        return self.ends_at is not None and self.ends_at <= utcnow()

    @property
    def is_on(self) -> bool:
        return self.off_at is None and not self.has_ended

    @property
    def why_off(self) -> str | None:
        """A word of OffReason, or TOKEN_ENDED; None while it is on."""
        if self.off_reason is not None:
            return self.off_reason.value
        return TOKEN_ENDED if self.has_ended else None

    @property
    def event_list(self) -> list[str]:
        return self.events.split()


class DeliveryStatus(enum.StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(Model):
    """One message for one address, and what came of the last try. The row is the queue entry."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "webhook_id", "id"),
        Index("ix_deliveries_waiting", "next_at", "id", **partial("status = 'waiting'")),
    )

    id: Mapped[pk]
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    uid: Mapped[str] = mapped_column(String(40), unique=True)  # the same in each try
    event: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)  # JSON, as it is signed
    status: Mapped[DeliveryStatus] = mapped_column(
        word_enum(DeliveryStatus, "status"), default=DeliveryStatus.WAITING
    )
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    claimed_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[created]
    tried_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    answer_status: Mapped[int | None]  # of HTTP; NULL: there was no answer
    answer: Mapped[str | None] = mapped_column(String(ANSWER_TEXT))  # its first characters
    error: Mapped[str | None] = mapped_column(String(300))  # why there was no good answer
    duration_ms: Mapped[int | None]
