"""Numbers that pages show of many rows, kept by the database itself: see decision 0011.

The triggers of apps/models/triggers.py write these tables and nothing else does. What an owner has
is the sum of the rows: PostgreSQL keeps several for a while when two transactions count at once.
"""

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model
from apps.models.types import pk


class PictureCount(Model):
    """How many pictures an account owns, and the bytes of their originals."""

    __tablename__ = "picture_counts"

    id: Mapped[pk]
    owner_id: Mapped[int] = mapped_column(index=True)
    pictures: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)


class TagCount(Model):
    """On how many pictures of an account a tag is; those it was taken off do not count."""

    __tablename__ = "tag_counts"
    __table_args__ = (Index(None, "owner_id", "tag_id"),)

    id: Mapped[pk]
    owner_id: Mapped[int]
    tag_id: Mapped[int] = mapped_column(index=True)
    pictures: Mapped[int]
