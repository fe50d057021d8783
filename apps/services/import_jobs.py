"""From a waiting archive to a preview, and from a confirmed one to pictures: all or none.

The files of each picture are put into the storage one by one, after a row that names them; the
pictures themselves are written in the end, in one transaction. So whatever happens, either all of
them are there, or the rows say which files have to go.
"""

import hashlib
import io
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, cast

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, ConfigError, InvalidImage
from apps.jobs import Queue, TryLater
from apps.models import (
    TURNS,
    Image,
    ImageStatus,
    Import,
    ImportedPicture,
    ImportStatus,
    User,
    utcnow,
)
from apps.services.detections import MAX_ATTEMPTS
from apps.services.import_files import ImportLimits, ZipFiles, opened
from apps.services.import_native import records
from apps.services.import_plan import Plan, make_plan
from apps.services.import_planned import NATIVE, Planned
from apps.services.import_rows import Coming, RowWriter, new_picture
from apps.services.imports import Choices
from apps.services.keeping import Keeper
from apps.services.native import NativePicture
from apps.services.reading import from_storage
from apps.services.workers import WorkerService, worker_name
from apps.storage import Storage
from apps.vision.decode import COPY_EXTENSION, DISPLAY_SIDE, decode, derivatives
from apps.vision.formats.incoming.found import Problems

logger = logging.getLogger(__name__)

FAILED = N_("The import failed three times, and nothing came. The server's log has the details.")
CRASHED = N_("The server stopped three times during this import, and nothing came.")
LOST = N_("The stored archive of this import is gone. Upload it again.")
EXPIRED_AFTER = timedelta(days=2)  # for which a checked archive waits for its owner
WAITS = (ImportStatus.WAITING, ImportStatus.QUEUED)
WORKS = (ImportStatus.CHECKING, ImportStatus.RUNNING)
SAVE_SECONDS = 0.5  # between two words about how far a check is
LOOK = 0.4  # of the work of an import: a second look at the archive, before anything is stored
BLOCK = 2**20  # bytes copied at a time
CHUNK = 500  # values of one IN (...)


@dataclass(frozen=True)
class ImportClaim:
    """The right to work on one import. ``attempt`` tells it from an earlier, lost claim."""

    import_id: int
    owner_id: int
    attempt: int
    status: ImportStatus  # CHECKING or RUNNING
    file_key: str
    choices: Choices


class _Stopped(Exception):
    """The claim was lost: the import or its account is gone, or somebody else has it."""


class _Cancelled(Exception):
    """Its owner does not want it any more."""


@dataclass(frozen=True)
class ImportJobs:
    """The worker's side of imports."""

    session: scoped_session[Session]
    storage: Storage
    workers: WorkerService
    keeper: Keeper
    rows: RowWriter
    detections: Queue  # of pictures
    limits: ImportLimits
    busy: list[int] = field(default_factory=list)  # what threads of this process run just now

    def run(self, import_id: int) -> None:
        """Do what an import waits for. Again, or from two workers at once, does nothing more.

        Raises:
            TryLater: the storage is away, and the import waits again with no try counted.
        """
        self.busy.append(import_id)
        try:
            claim = self._claim(import_id)
            if claim is not None:
                self._work(claim)
        finally:
            self.busy.remove(import_id)

    def next_queued(self, but: Collection[int] = ()) -> int | None:
        """The oldest waiting import except ``but``."""
        return next(iter(self.queued(1, but)), None)

    def queued(self, limit: int, but: Collection[int] = ()) -> list[int]:
        """The waiting imports except ``but``, oldest first, at most ``limit``."""
        query = select(Import.id).where(Import.status.in_(WAITS), Import.id.not_in(but))
        found = self.session.scalars(query.order_by(Import.queued_at, Import.id).limit(limit)).all()
        self.session.commit()
        return list(found)

    def waiting(self) -> int:
        """How many imports wait for a worker."""
        found = self.session.scalar(select(func.count()).where(Import.status.in_(WAITS)))
        self.session.commit()
        return found or 0

    # -- what others left ------------------------------------------------------------------

    def recover(self) -> int:
        """What a lost worker left half done goes, and its import waits again, or fails.

        Archives that nobody confirmed for EXPIRED_AFTER go too. Returns how many rows were moved.
        """
        running = Import.status.in_(WORKS)
        columns = (Import.id, Import.key, Import.claimed_by, Import.claimed_at, Import.attempts)
        rows = self.session.execute(
            select(*columns, Import.status, Import.cancelled).where(running)
        ).all()
        left = self.workers.left_behind(rows, self.busy)
        self.session.commit()
        for row in left:
            self._take_back(row)
        expired = self._expire()
        if left or expired:
            logger.info("recovered imports=%d expired=%d", len(left), expired)
        return len(left) + expired

    def _take_back(self, row: Any) -> None:
        values: dict[str, Any] = {"status": _before(row.status), "progress": 0.0}
        ends = row.cancelled or row.attempts >= MAX_ATTEMPTS
        if row.cancelled:
            values = {"status": ImportStatus.CANCELLED, "finished_at": utcnow()}
        elif ends:
            values = {"status": ImportStatus.FAILED, "error": CRASHED, "finished_at": utcnow()}
        taken = self.session.scalar(
            update(Import)
            .where(Import.id == row.id, Import.status == row.status)
            .where(Import.attempts == row.attempts)
            .values(claimed_by=None, **values)
            .returning(Import.id)
            .execution_options(synchronize_session=False)
        )
        # After the row: a worker that is there after all and ends just now has won or lost by it.
        keys = self._clear(row.id) if taken is not None else []
        self.session.commit()
        if taken is None:
            return
        self.storage.delete(*keys, *([f"import/{row.key}.zip"] if ends else []))

    def _expire(self) -> int:
        old = Import.queued_at < utcnow() - EXPIRED_AFTER
        rows = self.session.scalars(
            update(Import)
            .where(Import.status == ImportStatus.READY, old)
            .values(status=ImportStatus.CANCELLED, finished_at=utcnow())
            .returning(Import.key)
            .execution_options(synchronize_session=False)
        ).all()
        self.session.commit()
        self.storage.delete(*(f"import/{key}.zip" for key in rows))
        return len(rows)

    def _clear(self, import_id: int) -> list[str]:
        """Forget the pictures that have no row of their own; keys of their files. No commit."""
        mine = ImportedPicture.import_id == import_id
        stays = exists().where(Image.key == ImportedPicture.key)
        gone = self.session.scalars(select(ImportedPicture).where(mine, ~stays)).all()
        keys = [key for picture in gone for key in picture.storage_keys]
        for picture in gone:
            self.session.delete(picture)
        self.session.flush()
        return keys

    # -- one import ------------------------------------------------------------------------

    def _claim(self, import_id: int) -> ImportClaim | None:
        """Take the row, or nothing if it does not wait; commits, so no transaction stays open."""
        for waits, works in TURNS.items():
            row = self.session.execute(
                update(Import)
                .where(Import.id == import_id, Import.status == waits)
                .values(
                    status=works,
                    attempts=Import.attempts + 1,
                    claimed_by=worker_name(),
                    claimed_at=utcnow(),
                    error=None,
                )
                .returning(Import.owner_id, Import.attempts, Import.key, Import.options)
                .execution_options(synchronize_session=False)
            ).one_or_none()
            self.session.commit()
            if row is not None:
                choices = Choices.of(row.options)
                key = f"import/{row.key}.zip"
                return ImportClaim(import_id, row.owner_id, row.attempts, works, key, choices)
        return None

    def _work(self, claim: ImportClaim) -> None:
        try:
            if claim.status is ImportStatus.CHECKING:
                self._check(claim)
            else:
                self._bring(claim)
        except _Stopped:
            self._drop(claim)
            logger.info("claim lost import_id=%d attempt=%d", claim.import_id, claim.attempt)
        except _Cancelled:
            self._end(claim, ImportStatus.CANCELLED)
        except TryLater:
            self._put_back(claim, claim.attempt - 1)
            raise
        except ConfigError as error:  # of this worker, not of the archive
            self._put_back(claim, claim.attempt - 1)
            raise TryLater(str(error)) from error
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("import refused import_id=%d reason=%s", claim.import_id, error)
            params = {name: str(value)[:200] for name, value in error.params.items()}
            self._end(claim, ImportStatus.FAILED, error=error.message[:500], error_params=params)
        except Exception:
            logger.exception("import crashed import_id=%d", claim.import_id)
            if claim.attempt < MAX_ATTEMPTS:
                self._put_back(claim, claim.attempt)
            else:
                self._end(claim, ImportStatus.FAILED, error=FAILED)

    def _check(self, claim: ImportClaim) -> None:
        """Make the preview."""
        with self._archive(claim) as stream:
            problems = Problems()
            with opened(stream, self.limits, problems) as files:
                plan = self._plan(claim, files, problems, 1.0)
        report = plan.report()
        ready = {"status": ImportStatus.READY, "progress": 1.0, "claimed_by": None}
        if self._update(claim, Import.id, report=report, queued_at=utcnow(), **ready) is None:
            self.session.rollback()
            raise _Stopped
        self.session.commit()

    @contextmanager
    def _archive(self, claim: ImportClaim) -> Iterator[BinaryIO]:
        """The archive as a file of this machine: a storage that goes away shall not look like one
        damaged picture after the other."""
        with from_storage(self.storage, LOST):
            stream = self.storage.open(claim.file_key)
        with stream:
            if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
                yield stream
                return
            with tempfile.TemporaryFile() as copy:
                with from_storage(self.storage, LOST):
                    shutil.copyfileobj(stream, copy, BLOCK)
                yield cast("BinaryIO", copy)

    def _plan(self, claim: ImportClaim, files: ZipFiles, problems: Problems, share: float) -> Plan:
        """Look at everything; its share of the progress is from 0 to ``share``."""
        said = time.monotonic()

        def progress(part: float) -> None:
            nonlocal said
            if time.monotonic() - said >= SAVE_SECONDS:
                said = time.monotonic()
                self._save(claim, part * share)

        def here(digests: Collection[str]) -> Collection[str]:
            found = self._there_now(claim.owner_id, list(digests))
            self.session.commit()
            return found

        plan = make_plan(files, self.limits, problems, here, progress)
        self._save(claim, share)
        return plan

    def _bring(self, claim: ImportClaim) -> None:
        """Store all files, then write all rows."""
        coming: list[Coming] = []
        try:
            with self._archive(claim) as stream:
                problems = Problems()
                with opened(stream, self.limits, problems) as files:
                    plan = self._plan(claim, files, problems, LOOK)
                    self.keeper.require_room(claim.owner_id, plan.bytes)
                    self.session.commit()
                    for number, planned in enumerate(plan.pictures):
                        share = LOOK + (1 - LOOK) * number / len(plan.pictures)
                        self._store(claim, files, planned, problems, share, coming)
                    again = records(files) if plan.kind == NATIVE else ()
                    waiting = self._write(claim, plan, coming, again)
        except _Stopped:  # nobody else may know of these files any more
            self.session.rollback()
            self.storage.delete(*(key for one in coming for key in one.keys))
            raise
        self.storage.delete(claim.file_key)
        for image_id in waiting:
            self.detections.enqueue(image_id)

    def _store(
        self, claim: ImportClaim, files: ZipFiles, planned: Planned, problems: Problems,
        progress: float, coming: list[Coming],
    ) -> None:  # fmt: skip
        """Put the files of one picture into the storage, unless it cannot be read after all."""
        try:
            data = files.read(planned.file, self.limits.picture_bytes)
            if hashlib.sha256(data).hexdigest() != planned.sha256:
                raise ValueError("the archive changed while it was read")
            decoded = decode(data, self.limits.picture_pixels, DISPLAY_SIDE)
            display, thumbnail = derivatives(decoded.picture)
        except InvalidImage as error:
            problems.note(planned.file, error)
            self._save(claim, progress)
            return
        one = new_picture(claim.owner_id, planned, decoded, uuid.uuid4().hex, claim.choices)
        image = one.image
        names = {"key": image.key, "extension": image.extension, "copy_extension": COPY_EXTENSION}
        self.session.add(ImportedPicture(import_id=claim.import_id, **names))
        self._save(claim, progress)
        coming.append(one)
        try:
            for key, content in zip(one.keys, (data, display, thumbnail), strict=True):
                self.storage.put(key, content)
        except OSError:
            try:
                self.storage.check()
            except OSError as error:
                raise TryLater(f"the storage is away: {error}") from error
            raise  # full, perhaps: a try is counted

    def _write(
        self,
        claim: ImportClaim,
        plan: Plan,
        coming: list[Coming],
        again: Iterable[NativePicture],
    ) -> list[int]:
        """Everything becomes visible in one commit; ids of pictures that wait for detection."""
        owner = select(User.id).where(User.id == claim.owner_id).with_for_update()
        if self.session.scalar(owner) is None:
            raise _Stopped
        there = self._there_now(claim.owner_id, [one.image.sha256 for one in coming])
        late = [one for one in coming if one.image.sha256 in there]  # uploaded meanwhile
        coming = [one for one in coming if one.image.sha256 not in there]
        self.keeper.require_room(claim.owner_id, sum(one.image.bytes for one in coming))
        self.rows.write(claim.owner_id, coming, again)
        boxes = sum(len(one.boxes) + len(one.found) + one.count for one in coming)
        report = plan.report() | {"here": plan.here + len(late)}
        ended = {"status": ImportStatus.DONE, "progress": 1.0, "finished_at": utcnow()}
        counts = {"pictures": len(coming), "boxes": boxes, "report": report, "claimed_by": None}
        cancelled = self._update(claim, Import.cancelled, **ended, **counts)
        if cancelled is None:
            raise _Stopped
        if cancelled:
            raise _Cancelled
        waiting = [one.image.id for one in coming if one.image.status is ImageStatus.QUEUED]
        keys = self._clear(claim.import_id)
        self.session.commit()
        self.storage.delete(*keys)
        logger.info("imported import_id=%d pictures=%d boxes=%d", claim.import_id, len(coming),
                    boxes)  # fmt: skip
        return waiting

    def _there_now(self, owner_id: int, digests: Sequence[str]) -> set[str]:
        """Which of these pictures the account has already. No commit."""
        found: set[str] = set()
        for start in range(0, len(digests), CHUNK):
            some = Image.sha256.in_(digests[start : start + CHUNK])
            query = select(Image.sha256).where(Image.owner_id == owner_id, some)
            found.update(self.session.scalars(query))
        return found

    # -- the row ---------------------------------------------------------------------------

    def _save(self, claim: ImportClaim, progress: float) -> None:
        """How far it is and a sign of life, with whatever else this transaction has.

        Raises:
            _Stopped: the claim is lost.
            _Cancelled: its owner cancelled it.
        """
        values = {"progress": min(progress, 0.999), "claimed_at": utcnow()}
        cancelled = self._update(claim, Import.cancelled, **values)
        if cancelled is None:
            self.session.rollback()
            raise _Stopped
        self.session.commit()
        if cancelled:
            raise _Cancelled

    def _update(self, claim: ImportClaim, column: Any, **values: object) -> Any:
        """Change the row of a claim that still holds; ``column`` of it, or None."""
        return self.session.scalar(
            update(Import)
            .where(*self._holds(claim))
            .values(**values)
            .returning(column)
            .execution_options(synchronize_session=False)
        )

    def _holds(self, claim: ImportClaim) -> tuple[ColumnElement[bool], ...]:
        mine = Import.id == claim.import_id, Import.attempts == claim.attempt
        return (*mine, Import.status == claim.status)

    def _end(self, claim: ImportClaim, status: ImportStatus, **values: object) -> None:
        """Nothing of it stays but its row."""
        self.session.rollback()
        ended = {"status": status, "claimed_by": None, "finished_at": utcnow()}
        if self._update(claim, Import.id, **ended, **values) is None:
            self._drop(claim)
            return
        keys = self._clear(claim.import_id)
        self.session.commit()
        self.storage.delete(*keys, claim.file_key)

    def _put_back(self, claim: ImportClaim, attempts: int) -> None:
        """It waits again; nothing of this try stays."""
        self.session.rollback()
        values = {"status": _before(claim.status), "attempts": attempts, "progress": 0.0}
        if self._update(claim, Import.id, claimed_by=None, **values) is None:
            self._drop(claim)
            return
        keys = self._clear(claim.import_id)
        self.session.commit()
        self.storage.delete(*keys)

    def _drop(self, claim: ImportClaim) -> None:
        """Of a lost claim: where the import is gone altogether, so are the files it named."""
        self.session.rollback()
        there = self.session.scalar(select(Import.id).where(Import.id == claim.import_id))
        self.session.commit()
        if there is None:
            self.storage.delete(claim.file_key)


def _before(status: ImportStatus) -> ImportStatus:
    return next(waits for waits, works in TURNS.items() if works is status)
