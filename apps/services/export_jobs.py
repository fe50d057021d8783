"""The worker's side of exports: from a waiting row to a checked file in the storage."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, AppError
from apps.jobs import TryLater
from apps.models import Export, ExportStatus, Image, User, utcnow
from apps.services.export_making import ExportMaker, Made, Order
from apps.services.export_pictures import Boxes
from apps.services.export_writers import ACCOUNT
from apps.services.gallery import Asker, GalleryService
from apps.services.pictures import MANY
from apps.services.room import ExportRoom
from apps.services.trying import MAX_ATTEMPTS
from apps.services.work_rows import NO_SYNC, Cancelled, Held, Lost, WorkRows
from apps.storage import Storage

logger = logging.getLogger(__name__)

FAILED = N_("Making the export failed three times. The server's log has the details.")
CRASHED = N_("The server stopped three times while it made this export.")
NOTHING = N_("None of the pictures is there any more.")
SAVE_SECONDS = 0.5  # between two commits of how far it is
MADE = 0.95  # of the work is done when the file goes to the storage
EVERY = 600.0  # seconds between two looks for expired ones, in one process
FORGOTTEN_AFTER = timedelta(days=30)  # until then people see what became of an export


@dataclass(frozen=True)
class _Claim:
    """The right to make one export."""

    held: Held
    key: str  # where its file goes
    earlier: tuple[str, ...]  # where attempts before may have left one


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
    work: WorkRows
    maker: ExportMaker
    gallery: GalleryService
    room: ExportRoom
    days: int
    save_seconds: float = SAVE_SECONDS
    _clock: _Clock = field(default_factory=_Clock)

    def run(self, export_id: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Make one queued export. Again, or from two workers at once, does nothing more.

        Args:
            stop: whether this process ends; the export waits again then.

        Raises:
            TryLater: the storage is away, and the export waits again with no try counted.
        """
        with self.work.busy_with(export_id):
            claim = self._claim(export_id)
            if claim is not None:
                self._work(claim, stop)

    def recover(self) -> int:
        """What a lost worker left running waits again, or fails after three tries; how many."""
        left = self.work.left()
        for row in left:
            self.work.take_back(row, CRASHED)
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

    def _claim(self, export_id: int) -> _Claim | None:
        taken = self.work.claim(export_id, Export.key, progress=0.0)
        if taken is None:
            return None
        held, row = taken
        keys = [f"export/{row.key}-{attempt}.zip" for attempt in range(1, held.attempt + 1)]
        return _Claim(held, keys[-1], tuple(keys[:-1]))

    def _work(self, claim: _Claim, stop: Callable[[], bool]) -> None:
        held = claim.held
        self.storage.delete(*claim.earlier)
        try:
            self._make(claim, stop)
        except Lost:
            self.session.rollback()
            self.storage.delete(claim.key)
            logger.info("claim lost export_id=%d attempt=%d", held.row_id, held.attempt)
        except Cancelled:
            self._end(claim, ExportStatus.CANCELLED)
        except _Interrupted:
            self._put_back(claim)
        except TryLater:
            self._put_back(claim)
            raise
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("export refused export_id=%d reason=%s", held.row_id, error)
            self._end(claim, ExportStatus.FAILED, error=str(error)[:300])
        except OSError as error:
            self._after_trouble(claim, error)
        except Exception:
            logger.exception(
                "export failed id=%d attempt=%d", claim.held.row_id, claim.held.attempt
            )
            self._fail_or_retry(claim)

    def _after_trouble(self, claim: _Claim, error: OSError) -> None:
        """A storage that is away costs no try; a full disk does."""
        try:
            self.storage.check()
        except OSError:
            self._put_back(claim)
            raise TryLater(f"the storage is away: {error}") from error
        logger.exception("export failed id=%d attempt=%d", claim.held.row_id, claim.held.attempt)
        self._fail_or_retry(claim)

    def _make(self, claim: _Claim, stop: Callable[[], bool]) -> None:
        row = self.session.get(Export, claim.held.row_id, options=[undefer(Export.image_ids)])
        if row is None:
            raise Lost
        boxes = Boxes(row.boxes, row.threshold)
        order = Order(row.owner_id, row.kind, boxes, row.with_pictures)
        ids = self._ids(row)
        self._require_room(order, ids)
        self.session.commit()
        if not ids and order.kind != ACCOUNT:
            self._end(claim, ExportStatus.FAILED, error=NOTHING)
            return
        saved = time.monotonic()

        def tick(done: float) -> None:
            nonlocal saved
            if stop():
                raise _Interrupted
            if time.monotonic() - saved >= self.save_seconds:
                saved = time.monotonic()
                self.work.save(claim.held, MADE * done)

        made = self.maker.make(order, ids, tick)
        with made.file:
            self.room.require(order.owner_id, made.size)  # others may have ended meanwhile
            self.work.save(claim.held, MADE)
            self.storage.put_file(claim.key, made.file)
        self._ready(claim, made)

    def _require_room(self, order: Order, ids: list[int]) -> None:
        """Raises Conflict or Unavailable, before any work is done."""
        coming = 0
        if order.kind == ACCOUNT:
            coming = self.room.size_of_account(order.owner_id)
        elif order.with_pictures:
            coming = self.room.size_of(order.owner_id, ids)
        self.room.require(order.owner_id, coming)
        self.room.require_disk(coming)

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

    def _ready(self, claim: _Claim, made: Made) -> None:
        counts = made.counts
        cancelled = self.work.tell(
            claim.held,
            status=ExportStatus.READY,
            claimed_by=None,
            finished_at=utcnow(),
            progress=1.0,
            bytes=made.size,
            counts={
                "pictures": counts.pictures,
                "boxes": counts.boxes,
                "files": counts.files,
                "missing": counts.missing,
            },
            expires_at=utcnow() + timedelta(days=self.days),
        )
        if cancelled:
            raise Cancelled
        self.session.commit()

    def _end(self, claim: _Claim, status: ExportStatus, **values: object) -> None:
        self.session.rollback()
        self.storage.delete(claim.key)
        self.work.end(claim.held, status, **values)
        self.session.commit()

    def _fail_or_retry(self, claim: _Claim) -> None:
        if claim.held.attempt >= MAX_ATTEMPTS:
            self._end(claim, ExportStatus.FAILED, error=FAILED)
            return
        self.session.rollback()
        self.work.wait_again(claim.held)
        self.session.commit()

    def _put_back(self, claim: _Claim) -> None:
        """As if it had never been claimed."""
        self.session.rollback()
        self.work.wait_again(claim.held, attempts=claim.held.attempt - 1)
        self.session.commit()
