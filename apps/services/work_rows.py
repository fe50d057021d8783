"""Rows that wait for a worker, are worked on by one, and end: clips, exports and imports.

A claim is the row's own change of status, so of two workers one gets it; and whatever a worker
writes later names its try, so that one which was taken for lost changes nothing any more.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.models import Export, Import, Video, utcnow
from apps.services.trying import MAX_ATTEMPTS
from apps.services.workers import WorkerService, worker_name

ALMOST = 0.999  # progress is below 1 until the end
NO_SYNC = {"synchronize_session": False}  # a commit follows, and what is loaded is read anew


class Lost(Exception):
    """The claim was lost: the row or its account is gone, or somebody else has it."""


class Cancelled(Exception):
    """Its owner does not want it any more."""


@dataclass(frozen=True)
class Held:
    """The right to work on one row. ``attempt`` tells it from an earlier, lost claim."""

    row_id: int
    attempt: int
    status: StrEnum  # what the row has while it is held


@dataclass(frozen=True)
class WorkRows:
    """The rows of one kind.

    Args:
        model: of them; its ``TURNS`` are what a worker makes of a status when it takes the row.
        busy: what threads of this process work on just now.
    """

    session: scoped_session[Session]
    workers: WorkerService
    model: type[Video] | type[Export] | type[Import]
    busy: list[int] = field(default_factory=list)  # a list: two threads may try the same row

    @contextmanager
    def busy_with(self, row_id: int) -> Iterator[None]:
        """Around a thread's work on a row: it is not left behind."""
        self.busy.append(row_id)
        try:
            yield
        finally:
            self.busy.remove(row_id)

    def next_queued(self, but: Collection[int] = ()) -> int | None:
        """The oldest waiting row except ``but``."""
        return next(iter(self.queued(1, but)), None)

    def queued(self, limit: int, but: Collection[int] = ()) -> list[int]:
        """The waiting rows except ``but``, oldest first, at most ``limit``."""
        model = self.model
        query = select(model.id).where(self._waits, model.id.not_in(but))
        found = self.session.scalars(query.order_by(model.queued_at, model.id).limit(limit)).all()
        self.session.commit()
        return list(found)

    def waiting(self) -> int:
        """How many rows wait."""
        query = select(func.count()).select_from(self.model).where(self._waits)
        found = self.session.scalar(query)
        self.session.commit()
        return found or 0

    def claim(self, row_id: int, *columns: Any, **values: object) -> tuple[Held, Any] | None:
        """Take the row and read ``columns`` of it; None if it does not wait.

        Commits, so no transaction stays open.
        """
        for waits, works in self.model.TURNS.items():
            row = self.session.execute(
                update(self.model)
                .where(self.model.id == row_id, self.model.status == waits)
                .values(
                    status=works,
                    attempts=self.model.attempts + 1,
                    claimed_by=worker_name(),
                    claimed_at=utcnow(),
                    error=None,
                    **values,
                )
                .returning(self.model.attempts.label("attempt"), *columns)
                .execution_options(**NO_SYNC)
            ).one_or_none()
            self.session.commit()
            if row is not None:
                return Held(row_id, row.attempt, works), row
        return None

    def change(self, held: Held, column: Any, **values: object) -> Any:
        """Change the row of a claim that still holds; ``column`` of it, or None. No commit."""
        model = self.model
        return self.session.scalar(
            update(model)
            .where(model.id == held.row_id, model.attempts == held.attempt)
            .where(model.status == held.status)
            .values(**values)
            .returning(column)
            .execution_options(**NO_SYNC)
        )

    def tell(self, held: Held, **values: object) -> bool:
        """A sign of life and ``values``; whether its owner cancelled it. No commit.

        Raises:
            Lost: and whatever else this transaction had is undone.
        """
        cancelled = self.change(held, self.model.cancelled, claimed_at=utcnow(), **values)
        if cancelled is None:
            self.session.rollback()
            raise Lost
        return bool(cancelled)

    def save(self, held: Held, progress: float) -> None:
        """How far it is and a sign of life, with whatever else this transaction has.

        Raises:
            Lost: as :meth:`tell`.
            Cancelled: its owner cancelled it.
        """
        cancelled = self.tell(held, progress=min(progress, ALMOST))
        self.session.commit()
        if cancelled:
            raise Cancelled

    def wait_again(self, held: Held, **values: object) -> bool:
        """The row waits as before; False if the claim was lost. No commit."""
        status = self._before(held.status)
        told = self.change(held, self.model.id, status=status, claimed_by=None, **values)
        return told is not None

    def end(self, held: Held, status: StrEnum, **values: object) -> bool:
        """The row ends; False if the claim was lost. No commit."""
        ended = {"status": status, "claimed_by": None, "finished_at": utcnow()}
        return self.change(held, self.model.id, **ended, **values) is not None

    # -- what others left ------------------------------------------------------------------

    def left(self, *columns: Any) -> list[Any]:
        """Rows that nobody works on any more, with ``columns`` of them."""
        model = self.model
        claim = model.id, model.status, model.claimed_by, model.claimed_at
        query = select(*claim, model.attempts, model.cancelled, *columns)
        rows = self.session.execute(query.where(model.status.in_(self.model.TURNS.values()))).all()
        left = self.workers.left_behind(rows, self.busy)
        self.session.commit()
        return left

    def take_back(self, row: Any, crashed: str, **values: object) -> bool:
        """Let a row of :meth:`left` wait again with ``values``, or end; False if it moved on.

        It ends where its owner cancelled it, and with the error ``crashed`` after the last try.
        No commit.
        """
        kinds: Any = type(row.status)
        if row.cancelled:
            values = {"status": kinds.CANCELLED, "finished_at": utcnow()}
        elif row.attempts >= MAX_ATTEMPTS:
            values = {"status": kinds.FAILED, "error": crashed, "finished_at": utcnow()}
        else:
            values = {"status": self._before(row.status)} | values
        held = Held(row.id, row.attempts, row.status)
        return self.change(held, self.model.id, claimed_by=None, **values) is not None

    @property
    def _waits(self) -> ColumnElement[bool]:
        return self.model.status.in_(self.model.TURNS)

    def _before(self, status: StrEnum) -> Any:
        return next(waits for waits, works in self.model.TURNS.items() if works == status)
