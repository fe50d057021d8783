"""Searches that people keep."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, validates

from apps.extensions import Model
from apps.models.types import created, fold, pk


class SavedFilter(Model):
    """A search of the gallery under a name."""

    __tablename__ = "saved_filters"
    __table_args__ = (UniqueConstraint("owner_id", "folded"),)

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(60))
    folded: Mapped[str] = mapped_column(String(180))  # fold(name), set with it
    address: Mapped[str] = mapped_column(String(1000))  # the query string of the gallery
    created_at: Mapped[created]

    @validates("name")
    def _fold_name(self, _key: str, name: str) -> str:
        self.folded = fold(name)
        return name
