"""Column types shared by every table."""

import enum
from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, Dialect, Enum, text
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator


def utcnow() -> datetime:
    """The current time, aware of its zone (UTC)."""
    return datetime.now(UTC)


class UTCDateTime(TypeDecorator[datetime]):
    """Zone-aware on every backend; SQLite drops the zone and this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}; use utcnow()")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        found: datetime | None = value
        if found is None or found.tzinfo is not None:
            return found
        return found.replace(tzinfo=UTC)


def fold(name: str) -> str:
    """The spelling by which two names are the same: "Dog" and "dog", "Ünal" and "ünal".

    Kept in a column of its own, because SQLite's lower() knows no letters beyond ASCII.
    """
    return name.casefold()


def word_enum(kind: type[enum.StrEnum], name: str) -> Enum:
    """``kind`` stored as its lower-case words with a CHECK: the same on every database."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


def partial(where: str) -> dict[str, Any]:
    """Arguments of an Index that holds the rows of ``where`` alone, on both databases.

    A query must say the very same words to be answered from it, so write no bound values there.
    """
    return {"sqlite_where": text(where), "postgresql_where": text(where)}


pk = Annotated[int, mapped_column(primary_key=True)]
created = Annotated[datetime, mapped_column(UTCDateTime, default=utcnow)]
