"""Accounts."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from flask_security.core import UserMixin
from sqlalchemy import BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship, validates

from apps.extensions import Model
from apps.models.types import UTCDateTime, created, fold, pk, word_enum

if TYPE_CHECKING:
    from apps.models.image import Image


class Role(enum.StrEnum):
    USER = "user"
    ADMIN = "admin"


def new_session_key() -> str:
    """A fresh ``fs_uniquifier``: sessions made with the old one end."""
    return uuid.uuid4().hex


class User(Model, UserMixin):
    """A person who can log in. ``fs_uniquifier`` is what a session remembers, not the id."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_range"),
        CheckConstraint("quota_bytes >= 0", name="quota_positive"),
    )

    id: Mapped[pk]
    username: Mapped[str] = mapped_column(String(32), unique=True)
    folded: Mapped[str] = mapped_column(String(96), unique=True)  # fold(username), set with it
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password: Mapped[str] = mapped_column(String(255))  # argon2 hash
    active: Mapped[bool] = mapped_column(default=True)
    fs_uniquifier: Mapped[str] = mapped_column(String(64), unique=True, default=new_session_key)
    confirmed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    role: Mapped[Role] = mapped_column(word_enum(Role, "role"), default=Role.USER)
    threshold: Mapped[float] = mapped_column(default=0.5)  # lowest score that makes a tag
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)  # None: the setting decides
    created_at: Mapped[created]

    images: WriteOnlyMapped[Image] = relationship(back_populates="owner", passive_deletes=True)

    @validates("username")
    def _fold_username(self, _key: str, name: str) -> str:
        self.folded = fold(name)
        return name

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN
