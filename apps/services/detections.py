"""From a waiting row to stored boxes and tags."""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, exists, func, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, ConfigError, DeviceLost, OutOfMemory
from apps.jobs import TryLater
from apps.models import Annotation, Image, ImageStatus, User, Webhook, utcnow
from apps.services.models import DEFAULT, ModelService
from apps.services.reading import from_storage
from apps.services.results import shown_now, store_result
from apps.services.tags import TagService
from apps.services.trying import MAX_ATTEMPTS, Errors, can_work, wait_for_memory, waited_long
from apps.services.webhooks import Outbox
from apps.services.workers import WorkerService, worker_name
from apps.storage import Storage
from apps.vision.decode import Decoded, decode
from apps.vision.handover import Handover
from apps.vision.prepare import DETAIL_SIDE
from apps.vision.types import Box, Detections, Engine

logger = logging.getLogger(__name__)

FAILED = N_("Detection failed three times. The server's log has the details.")
CRASHED = N_("The detector stopped three times while it looked at this picture.")
LOST = N_("The stored file of this picture is gone. Upload it again.")

# Read at the end of a detection, in one statement, because each holds up all other writers.
_FACTS = (
    select(
        User.threshold,  # the owner's, in 0..1
        exists().where(Annotation.image_id == Image.id)
        .label("said"),  # whether people have spoken about boxes
        exists().where(Webhook.owner_id == User.id, Webhook.off_at.is_(None))
        .label("told"),  # whether somebody may want to be told
    )
    .join_from(Image, User, User.id == Image.owner_id)
)  # fmt: skip

# Told of each try: model, "done", "lost", "refused", "crashed" or "put back", and its seconds.
Observer = Callable[[str, str, float], None]


def _unobserved(_model: str, _result: str, _seconds: float) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Claim:
    """The right to detect one picture. ``attempt`` tells it from an earlier, lost claim."""

    image_id: int
    attempt: int
    storage_key: str
    model: str  # name in the registry, or "auto"
    queued_at: datetime


@dataclass(frozen=True)
class DetectionService:
    session: scoped_session[Session]
    storage: Storage
    engine: Engine
    tags: TagService
    models: ModelService
    workers: WorkerService
    outbox: Outbox
    observe: Observer = _unobserved
    reading: Callable[[], AbstractContextManager[object]] = nullcontext  # around what only reads
    handover: Handover = field(default_factory=lambda: Handover(limit=0))
    busy: list[int] = field(default_factory=list)  # what threads of this process run just now
    local_errors: Errors = ()  # of files that another worker may have; see the container

    def run(self, image_id: int) -> None:
        """Detect one queued picture. Again, or from two workers at once, does nothing more.

        While the engine cannot work the picture stays queued, for another worker or a later one;
        so it does for a day where this process lacks weights that another one may have.

        Raises:
            TryLater: the storage is away, or this process has not its device; the picture waits
                again with no try counted. Or memory was short for the moment; a try is counted.
        """
        if not can_work(self.engine):
            return
        self.busy.append(image_id)  # a list: two threads may try the same picture
        try:
            if claim := self._claim(image_id):
                self._work(claim)
        finally:
            self.busy.remove(image_id)

    def _work(self, claim: Claim) -> None:
        image_id = claim.image_id
        started = time.perf_counter()
        model, result = claim.model, "crashed"
        try:
            found = self._detect(claim)
            model = found.model
            kept = self._record(claim, found, round((time.perf_counter() - started) * 1000))
            result = "done" if kept else "lost"
        except TryLater:
            result = "put back"
            self._put_back(claim)
            raise
        except ConfigError as error:  # of this worker, not of the picture
            result = "put back"
            self._put_back(claim)
            raise TryLater(str(error)) from error
        except self.local_errors as error:
            result = self._leave(claim, error)
        except DeviceLost as error:  # a try is counted: the picture itself may have done it
            result = "put back"
            logger.warning("device lost image_id=%d attempt=%d", image_id, claim.attempt)
            self._fail_or_retry(claim, str(error))
        except OutOfMemory as error:  # a try is counted: the picture may never fit
            result = "put back"
            self._fail_or_retry(claim, str(error))
            wait_for_memory(error, claim.attempt)
        except AppError as error:  # its text says why, and trying again cannot help
            result = "refused"
            logger.warning("detection refused image_id=%d reason=%s", image_id, error)
            self._fail(claim, str(error))
        except Exception:
            logger.exception("detection failed image_id=%d attempt=%d", image_id, claim.attempt)
            self._fail_or_retry(claim)
        finally:
            self.observe(model, result, time.perf_counter() - started)

    def warm(self) -> None:
        """Load the default model now, so that the first picture need not wait for it."""
        default = self.models.default()
        self.session.commit()
        try:
            logger.info("warm model=%s", self.engine.warm(default))
        except AppError as error:
            logger.warning("not warm reason=%s", error)

    def next_queued(self, but: Collection[int] = ()) -> int | None:
        """The oldest waiting picture except ``but``; ``run`` settles who gets it.

        None while the engine cannot work.
        """
        return next(iter(self.next_few(1, but)), None)

    def next_few(self, limit: int, but: Collection[int] = ()) -> list[int]:
        """As ``next_queued``, at most ``limit`` of them."""
        return self.queued(limit, but) if can_work(self.engine) else []

    def queued(self, limit: int, but: Collection[int] = ()) -> list[int]:
        """The waiting pictures except ``but``, oldest first, at most ``limit``."""
        query = (
            select(Image.id)
            .where(Image.status == ImageStatus.QUEUED, Image.id.not_in(but))
            .order_by(Image.created_at, Image.id)
            .limit(limit)
        )
        with self.reading():
            found = self.session.scalars(query).all()
            self.session.commit()
        return list(found)

    def waiting(self) -> int:
        """How many pictures wait."""
        query = select(func.count()).where(Image.status == ImageStatus.QUEUED)
        found = self.session.scalar(query)
        self.session.commit()
        return found or 0

    def recover(self) -> int:
        """Queue again what a worker that is gone left running, and what is stuck.

        Also what this process claimed and no longer works on: its end could not be written. Any
        thread may call it at any time. A picture that took its process down three times fails for
        good. Returns how many rows were moved.
        """
        running = Image.status == ImageStatus.RUNNING
        rows = self.session.execute(
            select(Image.id, Image.claimed_by, Image.claimed_at, Image.attempts).where(running)
        ).all()
        left = self.workers.left_behind(rows, self.busy)
        for row in left:
            again = row.attempts < MAX_ATTEMPTS
            moved = self.session.scalar(
                update(Image)
                .where(Image.id == row.id, running, Image.attempts == row.attempts)
                .values(
                    status=ImageStatus.QUEUED if again else ImageStatus.FAILED,
                    error=None if again else CRASHED,
                    claimed_by=None,
                )
                .returning(Image.id)
            )
            if moved is not None and not again:
                self.outbox.picture(row.id)
        self.session.commit()
        if left:
            logger.info("recovered rows=%d", len(left))
        return len(left)

    # -- one detection ---------------------------------------------------------------------

    def _claim(self, image_id: int) -> Claim | None:
        """Take the row, or nothing if it does not wait; commits, so no transaction stays open."""
        default = DEFAULT.scalar_subquery()
        row = self.session.execute(
            update(Image)
            .where(Image.id == image_id, Image.status == ImageStatus.QUEUED)
            .values(
                status=ImageStatus.RUNNING,
                attempts=Image.attempts + 1,
                claimed_by=worker_name(),
                claimed_at=utcnow(),
                error=None,
            )
            .returning(
                Image.attempts, Image.key, Image.extension, Image.wanted_model, default,
                Image.queued_at, Image.created_at,
            )
        ).one_or_none()  # fmt: skip
        self.session.commit()
        if row is None:
            return None
        attempt, name, extension, wanted, chosen, queued_at, created_at = row
        model = wanted or self.models.usable(chosen)
        key = f"original/{name}.{extension}"
        return Claim(image_id, attempt, key, model, queued_at or created_at)

    def _detect(self, claim: Claim) -> Detections:
        decoded = self.handover.take(claim.storage_key) or self._read(claim.storage_key)
        return self.engine.detect(decoded.picture, claim.model, decoded.size, patient=True)

    def _read(self, storage_key: str) -> Decoded:
        with from_storage(self.storage, LOST), self.storage.open(storage_key) as file:
            data = file.read()
        return decode(data, side=DETAIL_SIDE)

    def _record(self, claim: Claim, found: Detections, duration_ms: int) -> bool:
        """Boxes, tags and status in one commit; False if the claim was lost meanwhile."""
        now = utcnow()
        if not self._settle(
            claim,
            status=ImageStatus.DONE,
            model=found.model,
            duration_ms=duration_ms,
            detected_at=now,
            **shown_now(box.score for box in found.boxes),
        ):
            return False
        facts = self._facts(claim.image_id)
        store_result(self.session, claim.image_id, found, now, duration_ms, said=facts.said)
        if facts.said:
            self.tags.follow_result(claim.image_id)
        else:  # what follow_result would read is all here
            sure = [box.label for box in found.boxes if box.score >= facts.threshold]
            self.tags.set_model_tags(claim.image_id, sure)
        self._commit_and_tell(claim.image_id, found.boxes, told=facts.told)
        return True

    def _commit_and_tell(self, image_id: int, boxes: Iterable[Box] = (), *, told: bool) -> None:
        """What is told of the end of a detection is in the same transaction.

        Args:
            told: whether somebody may want to be told.
        """
        told = told and bool(self.outbox.picture(image_id, boxes))
        self.session.commit()
        if told:
            self.outbox.wake()

    def _fail(self, claim: Claim, reason: str) -> None:
        if self._settle(claim, status=ImageStatus.FAILED, error=reason[:300]):
            self._commit_and_tell(claim.image_id, told=True)

    def _fail_or_retry(self, claim: Claim, reason: str = FAILED) -> None:
        self.session.rollback()
        if claim.attempt >= MAX_ATTEMPTS:
            self._fail(claim, reason)
        else:
            self._settle(claim, status=ImageStatus.QUEUED)
            self.session.commit()

    def _leave(self, claim: Claim, error: AppError) -> str:
        """To a worker that has the weights, as soon as a sweep names the picture again.

        Returns "put back", or "refused" when it has waited for one long enough.
        """
        late = waited_long(claim.queued_at)
        what = "refused" if late else "left to other workers"
        logger.warning("detection %s image_id=%d reason=%s", what, claim.image_id, error)
        if late:
            self._fail(claim, str(error))
            return "refused"
        self._put_back(claim)
        return "put back"

    def _put_back(self, claim: Claim) -> None:
        """As if it had never been claimed."""
        self._settle(claim, status=ImageStatus.QUEUED, attempts=claim.attempt - 1)
        self.session.commit()

    def _facts(self, image_id: int) -> "Row[float, bool, bool]":
        """``threshold``, ``said`` and ``told`` of ``_FACTS``.

        Asked after the row was changed, in a statement of its own: what PostgreSQL's UPDATE reads
        beside its row is older than the wait for that row.
        """
        return self.session.execute(_FACTS.where(Image.id == image_id)).one()

    def _settle(self, claim: Claim, **values: object) -> bool:
        """Write the end of a claim; False if the row is gone or claimed by somebody else."""
        changed = self.session.scalar(
            update(Image)
            .where(
                Image.id == claim.image_id,
                Image.status == ImageStatus.RUNNING,
                Image.attempts == claim.attempt,
            )
            .values(claimed_by=None, **values)
            .returning(Image.id)
        )
        if changed is None:
            self.session.rollback()
            logger.info("claim lost image_id=%d attempt=%d", claim.image_id, claim.attempt)
        return changed is not None
