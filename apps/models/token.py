"""What programs show instead of a password, and what they asked lately."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, pk, utcnow

CALL_TEXT = 200  # characters of what the log keeps of a call
TEST_START = "sbt_"  # of tokens that the page that connects programs makes for one test


class Token(Model):
    """A personal token. The secret itself is nowhere: only what it hashes to."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("max_boxes > 0", name="max_boxes_positive"),
        Index(None, "owner_id", "id"),
    )

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(60))
    # The first characters, to tell tokens apart.
    prefix: Mapped[str] = mapped_column(String(16), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of the whole, in hex
    scopes: Mapped[str] = mapped_column(String(60))  # words of services.tokens.SCOPES
    # For clients that break on more boxes than they have room for; NULL: all of them.
    max_boxes: Mapped[int | None]
    created_at: Mapped[created]
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # to within a minute
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @property
    def scope_list(self) -> list[str]:
        return self.scopes.split()

    @property
    def state(self) -> str:
        """``revoked``, ``expired`` or ``active``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= utcnow():
            return "expired"
        return "active"


FOR_A_TEST = Token.prefix.startswith(TEST_START, autoescape=True)  # which no list shows


class ClientCall(Model):
    """Calls of programs that were alike in everything, and how many they were."""

    __tablename__ = "client_calls"
    __table_args__ = (Index(None, "owner_id", "last_at"), Index(None, "last_at"))

    id: Mapped[pk]
    # NULL: nobody's, because no account could be told from the call.
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token: Mapped[str] = mapped_column(String(16))  # its prefix; empty: none was given
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(String(CALL_TEXT))
    status: Mapped[int]
    # As the client got it, or a message id; empty: none.
    error: Mapped[str] = mapped_column(String(CALL_TEXT))
    client: Mapped[str] = mapped_column(String(CALL_TEXT))  # what it says it is (User-Agent)
    address: Mapped[str] = mapped_column(String(45))
    calls: Mapped[int]
    first_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_at: Mapped[datetime] = mapped_column(UTCDateTime)


class KeptAnswer(Model):
    """What a request with an Idempotency-Key was answered, for the same request once more."""

    __tablename__ = "kept_answers"
    __table_args__ = (UniqueConstraint("owner_id", "key"), Index(None, "created_at"))

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))  # SHA-256 of what was sent, in hex
    status: Mapped[int | None]  # NULL: the first request has not been answered yet
    body: Mapped[Any | None] = mapped_column(JSON)
    created_at: Mapped[created]
