"""The worker's side of exports: from a waiting row to a checked file in the storage."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, AppError
from apps.jobs import TryLater
from apps.models import Export, ExportStatus, Image, User, utcnow
from apps.services.detections import MAX_ATTEMPTS
from apps.services.export_making import ExportMaker, Made, Order
from apps.services.export_pictures import Boxes
from apps.services.gallery import Asker, GalleryService
from apps.services.pictures import MANY
from apps.services.workers import WorkerService, worker_name
from apps.storage import Storage

logger = logging.getLogger(__name__)

FAILED = N_("Making the export failed three times. The server's log has the details.")
CRASHED = N_("The server stopped three times while it made this export.")
NOTHING = N_("None of the pictures is there any more.")
SAVE_SECONDS = 0.5  # between two commits of how far it is
MADE = 0.95  # of the work is done when the file goes to the storage
EVERY = 600.0  # seconds between two looks for expired ones, in one process
FORGOTTEN_AFTER = timedelta(days=30)  # until then people see what became of an export
NO_SYNC = {"synchronize_session": False}


@dataclass(frozen=True)
class ExportClaim:
    """The right to make one export. ``attempt`` tells it from an earlier, lost claim."""

    export_id: int
    attempt: int
    key: str  # where its file goes
    earlier: tuple[str, ...]  # where attempts before may have left one


class _Stopped(Exception):
    """The claim was lost: the export or its account is gone, or somebody else has it."""


class _Cancelled(Exception):
    """Its owner does not want it any more."""


class _Interrupted(Exception):
    """This process ends; the export waits again with no try counted."""


@dataclass
class _Clock:
    looked: float = float("-inf")  # time.monotonic()


@dataclass(frozen=True)
class ExportJobs:
    """Claims, makes and forgets exports.

    Args:
        days: for which a file is kept.
        save_seconds: between two commits of how far it is.
    """

    session: scoped_session[Session]
    storage: Storage
    workers: WorkerService
    maker: ExportMaker
    gallery: GalleryService
    days: int
    save_seconds: float = SAVE_SECONDS
    busy: list[int] = field(default_factory=list)  # what threads of this process run just now
    _clock: _Clock = field(default_factory=_Clock)

    def run(self, export_id: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Make one queued export. Again, or from two workers at once, does nothing more.

        Args:
            stop: whether this process ends; the export waits again then.

        Raises:
            TryLater: the storage is away, and the export waits again with no try counted.
        """
        self.busy.append(export_id)
        try:
            claim = self._claim(export_id)
            if claim is not None:
                self._work(claim, stop)
        finally:
            self.busy.remove(export_id)

    def next_queued(self, but: Collection[int] = ()) -> int | None:
        """The oldest waiting export except ``but``."""
        return next(iter(self.queued(1, but)), None)

    def queued(self, limit: int, but: Collection[int] = ()) -> list[int]:
        """The waiting exports except ``but``, oldest first, at most ``limit``."""
        waits = Export.status == ExportStatus.QUEUED
        query = select(Export.id).where(waits, Export.id.not_in(but))
        found = self.session.scalars(query.order_by(Export.queued_at, Export.id).limit(limit)).all()
        self.session.commit()
        return list(found)

    def waiting(self) -> int:
        """How many exports wait."""
        found = self.session.scalar(
            select(func.count()).where(Export.status == ExportStatus.QUEUED)
        )
        self.session.commit()
        return found or 0

    def recover(self) -> int:
        """What a lost worker left running waits again, or fails after three tries; how many."""
        running = Export.status == ExportStatus.RUNNING
        rows = self.session.execute(
            select(
                Export.id,
                Export.claimed_by,
                Export.claimed_at,
                Export.attempts,
                Export.cancelled,
            ).where(running)
        ).all()
        left = self.workers.left_behind(rows, self.busy)
        for row in left:
            values: dict[str, object] = {"status": ExportStatus.QUEUED}
            if row.cancelled:
                values = {"status": ExportStatus.CANCELLED, "finished_at": utcnow()}
            elif row.attempts >= MAX_ATTEMPTS:
                values = {
                    "status": ExportStatus.FAILED,
                    "error": CRASHED,
                    "finished_at": utcnow(),
                }
            self.session.execute(
                update(Export)
                .where(Export.id == row.id, running, Export.attempts == row.attempts)
                .values(claimed_by=None, **values)
                .execution_options(**NO_SYNC)
            )
        self.session.commit()
        if left:
            logger.info("recovered exports=%d", len(left))
        return len(left)

    # -- forgetting ------------------------------------------------------------------------

    def purge_due(self) -> int:
        """purge(), at most every ten minutes in this process: background work calls it often."""
        if time.monotonic() - self._clock.looked < EVERY:
            return 0
        return self.purge()

    def purge(self) -> int:
        """Delete files that were kept for ``days``, and rows that tell nothing any more.

        Returns:
            How many files.
        """
        self._clock.looked = time.monotonic()
        now = utcnow()
        over = select(Export).where(Export.status == ExportStatus.READY, Export.expires_at <= now)
        rows = self.session.scalars(over.with_for_update(skip_locked=True)).all()
        keys = [key for row in rows for key in row.storage_keys]
        for row in rows:
            row.status = ExportStatus.EXPIRED
        old = Export.created_at < now - FORGOTTEN_AFTER - timedelta(days=self.days)
        ended = Export.status.in_(
            (ExportStatus.EXPIRED, ExportStatus.FAILED, ExportStatus.CANCELLED)
        )
        self.session.flush()
        self.session.execute(delete(Export).where(old, ended).execution_options(**NO_SYNC))
        self.session.commit()
        self.storage.delete(*keys)
        if rows:
            logger.info("expired exports=%d", len(rows))
        return len(rows)

    # -- one export ------------------------------------------------------------------------

    def _claim(self, export_id: int) -> ExportClaim | None:
        """Take the row, or nothing if it does not wait; commits, so no transaction stays open."""
        row = self.session.execute(
            update(Export)
            .where(Export.id == export_id, Export.status == ExportStatus.QUEUED)
            .values(
                status=ExportStatus.RUNNING,
                attempts=Export.attempts + 1,
                claimed_by=worker_name(),
                claimed_at=utcnow(),
                progress=0.0,
                error=None,
            )
            .returning(Export.attempts, Export.key)
            .execution_options(**NO_SYNC)
        ).one_or_none()
        self.session.commit()
        if row is None:
            return None
        keys = [f"export/{row.key}-{attempt}.zip" for attempt in range(1, row.attempts + 1)]
        return ExportClaim(export_id, row.attempts, keys[-1], tuple(keys[:-1]))

    def _work(self, claim: ExportClaim, stop: Callable[[], bool]) -> None:
        self.storage.delete(*claim.earlier)
        try:
            self._make(claim, stop)
        except _Stopped:
            self.session.rollback()
            self.storage.delete(claim.key)
            logger.info("claim lost export_id=%d attempt=%d", claim.export_id, claim.attempt)
        except _Cancelled:
            self._end(claim, ExportStatus.CANCELLED)
        except _Interrupted:
            self._put_back(claim)
        except TryLater:
            self._put_back(claim)
            raise
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("export refused export_id=%d reason=%s", claim.export_id, error)
            self._end(claim, ExportStatus.FAILED, error=str(error)[:300])
        except OSError as error:
            self._after_trouble(claim, error)
        except Exception:
            logger.exception("export failed id=%d attempt=%d", claim.export_id, claim.attempt)
            self._fail_or_retry(claim)

    def _after_trouble(self, claim: ExportClaim, error: OSError) -> None:
        """A storage that is away costs no try; a full disk does."""
        try:
            self.storage.check()
        except OSError:
            self._put_back(claim)
            raise TryLater(f"the storage is away: {error}") from error
        logger.exception("export failed id=%d attempt=%d", claim.export_id, claim.attempt)
        self._fail_or_retry(claim)

    def _make(self, claim: ExportClaim, stop: Callable[[], bool]) -> None:
        row = self.session.get(Export, claim.export_id, options=[undefer(Export.image_ids)])
        if row is None:
            raise _Stopped
        boxes = Boxes(row.boxes, row.threshold)
        order = Order(row.owner_id, row.kind, boxes, row.with_pictures)
        ids = self._ids(row)
        self.session.commit()
        if not ids and order.kind != "account":
            self._end(claim, ExportStatus.FAILED, error=NOTHING)
            return
        saved = time.monotonic()

        def tick(done: float) -> None:
            nonlocal saved
            if stop():
                raise _Interrupted
            if time.monotonic() - saved >= self.save_seconds:
                saved = time.monotonic()
                self._save(claim, MADE * done)

        made = self.maker.make(order, ids, tick)
        with made.file:
            self._save(claim, MADE)
            self.storage.put_file(claim.key, made.file)
        self._ready(claim, made)

    def _ids(self, row: Export) -> list[int]:
        if row.image_ids is not None:
            return sorted(row.image_ids)
        mine = Image.owner_id == row.owner_id
        query = select(Image.id).where(mine)
        if row.search:
            threshold = self.session.scalar(select(User.threshold).where(User.id == row.owner_id))
            asker = Asker(row.owner_id, threshold or 0.0, MANY)
            found = self.gallery.find(asker, row.search)[1]
            query = query.where(Image.id.in_(found.ids.order_by(None)))
        return list(self.session.scalars(query.order_by(Image.id)))

    def _save(self, claim: ExportClaim, progress: float) -> None:
        """How far it is and a sign of life.

        Raises:
            _Stopped: the claim is lost.
            _Cancelled: its owner cancelled it.
        """
        cancelled = self._update(claim, Export.cancelled, progress=progress, claimed_at=utcnow())
        self.session.commit()
        if cancelled is None:
            raise _Stopped
        if cancelled:
            raise _Cancelled

    def _ready(self, claim: ExportClaim, made: Made) -> None:
        counts = made.counts
        told = self._update(
            claim,
            Export.id,
            status=ExportStatus.READY,
            progress=1.0,
            claimed_by=None,
            bytes=made.size,
            counts={
                "pictures": counts.pictures,
                "boxes": counts.boxes,
                "files": counts.files,
                "missing": counts.missing,
            },
            finished_at=utcnow(),
            expires_at=utcnow() + timedelta(days=self.days),
        )
        self.session.commit()
        if told is None:
            raise _Stopped

    def _update(self, claim: ExportClaim, column: Any, **values: object) -> Any:
        """Change the row of a claim that still holds; ``column`` of it, or None."""
        return self.session.scalar(
            update(Export)
            .where(
                Export.id == claim.export_id,
                Export.status == ExportStatus.RUNNING,
                Export.attempts == claim.attempt,
            )
            .values(**values)
            .returning(column)
            .execution_options(**NO_SYNC)
        )

    def _end(self, claim: ExportClaim, status: ExportStatus, **values: object) -> None:
        self.session.rollback()
        self.storage.delete(claim.key)
        ended = {"claimed_by": None, "finished_at": utcnow(), "status": status}
        self._update(claim, Export.id, **ended, **values)
        self.session.commit()

    def _fail_or_retry(self, claim: ExportClaim) -> None:
        if claim.attempt >= MAX_ATTEMPTS:
            self._end(claim, ExportStatus.FAILED, error=FAILED)
            return
        self.session.rollback()
        self._update(claim, Export.id, status=ExportStatus.QUEUED, claimed_by=None)
        self.session.commit()

    def _put_back(self, claim: ExportClaim) -> None:
        """As if it had never been claimed."""
        self.session.rollback()
        self._update(
            claim,
            Export.id,
            status=ExportStatus.QUEUED,
            attempts=claim.attempt - 1,
            claimed_by=None,
        )
        self.session.commit()
