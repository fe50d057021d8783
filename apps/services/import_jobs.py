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
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, cast

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, ConfigError, InvalidImage
from apps.jobs import Queue, TryLater
from apps.models import (
    Image,
    ImageStatus,
    Import,
    ImportedPicture,
    ImportStatus,
    User,
    utcnow,
)
from apps.services.import_files import ImportLimits, ZipFiles, opened
from apps.services.import_native import records
from apps.services.import_plan import Plan, make_plan
from apps.services.import_planned import NATIVE, Planned
from apps.services.import_rows import Coming, RowWriter, new_picture
from apps.services.imports import Choices
from apps.services.keeping import Keeper
from apps.services.native import NativePicture
from apps.services.reading import from_storage
from apps.services.trying import MAX_ATTEMPTS
from apps.services.work_rows import NO_SYNC, Cancelled, Held, Lost, WorkRows
from apps.storage import Storage
from apps.vision.decode import COPY_EXTENSION, DISPLAY_SIDE, decode, derivatives
from apps.vision.formats.incoming.found import Problems

logger = logging.getLogger(__name__)

FAILED = N_("The import failed three times, and nothing came. The server's log has the details.")
CRASHED = N_("The server stopped three times during this import, and nothing came.")
LOST = N_("The stored archive of this import is gone. Upload it again.")
EXPIRED_AFTER = timedelta(days=2)  # for which a checked archive waits for its owner
SAVE_SECONDS = 0.5  # between two words about how far a check is
LOOK = 0.4  # of the work of an import: a second look at the archive, before anything is stored
BLOCK = 2**20  # bytes copied at a time
CHUNK = 500  # values of one IN (...)


@dataclass(frozen=True)
class _Claim:
    """The right to work on one import: to check it, or to bring its pictures."""

    held: Held
    owner_id: int
    file_key: str
    choices: Choices


@dataclass(frozen=True)
class ImportJobs:
    """The worker's side of imports."""

    session: scoped_session[Session]
    storage: Storage
    work: WorkRows
    keeper: Keeper
    rows: RowWriter
    detections: Queue  # of pictures
    limits: ImportLimits

    def run(self, import_id: int) -> None:
        """Do what an import waits for. Again, or from two workers at once, does nothing more.

        Raises:
            TryLater: the storage is away, and the import waits again with no try counted.
        """
        with self.work.busy_with(import_id):
            claim = self._claim(import_id)
            if claim is not None:
                self._work(claim)

    # -- what others left ------------------------------------------------------------------

    def recover(self) -> int:
        """What a lost worker left half done goes, and its import waits again, or fails.

        Archives that nobody confirmed for EXPIRED_AFTER go too. Returns how many rows were moved.
        """
        left = self.work.left(Import.key)
        for row in left:
            self._take_back(row)
        expired = self._expire()
        if left or expired:
            logger.info("recovered imports=%d expired=%d", len(left), expired)
        return len(left) + expired

    def _take_back(self, row: Any) -> None:
        taken = self.work.take_back(row, CRASHED, progress=0.0)
        # After the row: a worker that is there after all and ends just now has won or lost by it.
        keys = self._clear(row.id) if taken else []
        self.session.commit()
        if taken and (row.cancelled or row.attempts >= MAX_ATTEMPTS):
            keys.append(f"import/{row.key}.zip")
        self.storage.delete(*keys)

    def _expire(self) -> int:
        old = Import.queued_at < utcnow() - EXPIRED_AFTER
        rows = self.session.scalars(
            update(Import)
            .where(Import.status == ImportStatus.READY, old)
            .values(status=ImportStatus.CANCELLED, finished_at=utcnow())
            .returning(Import.key)
            .execution_options(**NO_SYNC)
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

    def _claim(self, import_id: int) -> _Claim | None:
        taken = self.work.claim(import_id, Import.owner_id, Import.key, Import.options)
        if taken is None:
            return None
        held, row = taken
        return _Claim(held, row.owner_id, f"import/{row.key}.zip", Choices.of(row.options))

    def _work(self, claim: _Claim) -> None:
        held = claim.held
        try:
            if held.status is ImportStatus.CHECKING:
                self._check(claim)
            else:
                self._bring(claim)
        except Lost:
            self._drop(claim)
            logger.info("claim lost import_id=%d attempt=%d", held.row_id, held.attempt)
        except Cancelled:
            self._end(claim, ImportStatus.CANCELLED)
        except TryLater:
            self._put_back(claim, held.attempt - 1)
            raise
        except ConfigError as error:  # of this worker, not of the archive
            self._put_back(claim, held.attempt - 1)
            raise TryLater(str(error)) from error
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("import refused import_id=%d reason=%s", held.row_id, error)
            params = {name: str(value)[:200] for name, value in error.params.items()}
            self._end(claim, ImportStatus.FAILED, error=error.message[:500], error_params=params)
        except Exception:
            logger.exception("import crashed import_id=%d", held.row_id)
            if held.attempt < MAX_ATTEMPTS:
                self._put_back(claim, held.attempt)
            else:
                self._end(claim, ImportStatus.FAILED, error=FAILED)

    def _check(self, claim: _Claim) -> None:
        """Make the preview."""
        with self._archive(claim) as stream:
            problems = Problems()
            with opened(stream, self.limits, problems) as files:
                plan = self._plan(claim, files, problems, 1.0)
        report = plan.report()
        ready = {"status": ImportStatus.READY, "progress": 1.0, "claimed_by": None}
        if self.work.tell(claim.held, report=report, queued_at=utcnow(), **ready):
            raise Cancelled
        self.session.commit()

    @contextmanager
    def _archive(self, claim: _Claim) -> Iterator[BinaryIO]:
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

    def _plan(self, claim: _Claim, files: ZipFiles, problems: Problems, share: float) -> Plan:
        """Look at everything; its share of the progress is from 0 to ``share``."""
        said = time.monotonic()

        def progress(part: float) -> None:
            nonlocal said
            if time.monotonic() - said >= SAVE_SECONDS:
                said = time.monotonic()
                self.work.save(claim.held, part * share)

        def here(digests: Collection[str]) -> Collection[str]:
            found = self._there_now(claim.owner_id, list(digests))
            self.session.commit()
            return found

        plan = make_plan(files, self.limits, problems, here, progress)
        self.work.save(claim.held, share)
        return plan

    def _bring(self, claim: _Claim) -> None:
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
        except Lost:  # nobody else may know of these files any more
            self.session.rollback()
            self.storage.delete(*(key for one in coming for key in one.keys))
            raise
        self.storage.delete(claim.file_key)
        for image_id in waiting:
            self.detections.enqueue(image_id)

    def _store(
        self, claim: _Claim, files: ZipFiles, planned: Planned, problems: Problems,
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
            self.work.save(claim.held, progress)
            return
        one = new_picture(claim.owner_id, planned, decoded, uuid.uuid4().hex, claim.choices)
        image = one.image
        names = {"key": image.key, "extension": image.extension, "copy_extension": COPY_EXTENSION}
        self.session.add(ImportedPicture(import_id=claim.held.row_id, **names))
        self.work.save(claim.held, progress)
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
        claim: _Claim,
        plan: Plan,
        coming: list[Coming],
        again: Iterable[NativePicture],
    ) -> list[int]:
        """Everything becomes visible in one commit; ids of pictures that wait for detection."""
        owner = select(User.id).where(User.id == claim.owner_id).with_for_update()
        if self.session.scalar(owner) is None:
            raise Lost
        there = self._there_now(claim.owner_id, [one.image.sha256 for one in coming])
        late = [one for one in coming if one.image.sha256 in there]  # uploaded meanwhile
        coming = [one for one in coming if one.image.sha256 not in there]
        self.keeper.require_room(claim.owner_id, sum(one.image.bytes for one in coming))
        self.rows.write(claim.owner_id, coming, again)
        boxes = sum(len(one.boxes) + len(one.found) + one.count for one in coming)
        report = plan.report() | {"here": plan.here + len(late)}
        ended = {"status": ImportStatus.DONE, "progress": 1.0, "finished_at": utcnow()}
        counts = {"pictures": len(coming), "boxes": boxes, "report": report, "claimed_by": None}
        cancelled = self.work.change(claim.held, Import.cancelled, **ended, **counts)
        if cancelled is None:
            raise Lost
        if cancelled:
            raise Cancelled
        waiting = [one.image.id for one in coming if one.image.status is ImageStatus.QUEUED]
        keys = self._clear(claim.held.row_id)
        self.session.commit()
        self.storage.delete(*keys)
        logger.info("imported import_id=%d pictures=%d boxes=%d", claim.held.row_id, len(coming),
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

    def _end(self, claim: _Claim, status: ImportStatus, **values: object) -> None:
        """Nothing of it stays but its row."""
        self.session.rollback()
        self._leave(claim, self.work.end(claim.held, status, **values), claim.file_key)

    def _put_back(self, claim: _Claim, attempts: int) -> None:
        """It waits again; nothing of this try stays."""
        self.session.rollback()
        self._leave(claim, self.work.wait_again(claim.held, attempts=attempts, progress=0.0))

    def _leave(self, claim: _Claim, told: bool, *keys: str) -> None:
        """Commit what the row was told, and let what was stored for it go, with ``keys``."""
        if not told:
            self._drop(claim)
            return
        stored = self._clear(claim.held.row_id)
        self.session.commit()
        self.storage.delete(*stored, *keys)

    def _drop(self, claim: _Claim) -> None:
        """Of a lost claim: where the import is gone altogether, so are the files it named."""
        self.session.rollback()
        there = self.session.scalar(select(Import.id).where(Import.id == claim.held.row_id))
        self.session.commit()
        if there is None:
            self.storage.delete(claim.file_key)
