"""From a waiting row to stored boxes and tags."""

import logging
import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, Conflict, DetectionError
from apps.jobs import Queue, TryLater
from apps.models import Detection, Image, ImageStatus, User, utcnow
from apps.services.models import ModelService
from apps.services.pictures import require_picture
from apps.services.tags import TagService
from apps.storage import Storage
from apps.vision.decode import decode
from apps.vision.types import Detections, Engine

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
STUCK_AFTER = timedelta(minutes=30)  # no detection takes that long; its worker is gone
FAILED = N_("Detection failed three times. The server's log has the details.")
CRASHED = N_("The detector stopped three times while it looked at this picture.")
LOST = N_("The stored file of this picture is gone. Upload it again.")


@dataclass(frozen=True)
class Claim:
    """The right to detect one picture. ``attempt`` tells it from an earlier, lost claim."""

    image_id: int
    attempt: int
    storage_key: str
    owner_id: int
    model: str  # name in the registry, or "auto"


@dataclass(frozen=True)
class DetectionService:
    session: scoped_session[Session]
    storage: Storage
    engine: Engine
    tags: TagService
    models: ModelService

    def run(self, image_id: int) -> None:
        """Detect one queued picture. Again, or from two workers at once, does nothing more.

        Raises:
            TryLater: the storage is away, and the picture waits again with no try counted.
        """
        claim = self._claim(image_id)
        if claim is None:
            return
        started = time.perf_counter()
        try:
            found = self._detect(claim)
            self._record(claim, found, round((time.perf_counter() - started) * 1000))
        except TryLater:
            self._put_back(claim)
            raise
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("detection refused image_id=%d reason=%s", image_id, error)
            self._fail(claim, str(error))
        except Exception:
            logger.exception("detection failed image_id=%d attempt=%d", image_id, claim.attempt)
            self._fail_or_retry(claim)

    def next_queued(self) -> int | None:
        """The oldest waiting picture; ``run`` settles who gets it."""
        query = (
            select(Image.id)
            .where(Image.status == ImageStatus.QUEUED)
            .order_by(Image.created_at, Image.id)
            .limit(1)
        )
        found = self.session.scalar(query)
        self.session.commit()
        return found

    def recover(self) -> int:
        """Queue again what a stopped process of this machine left running, and what is stuck.

        A picture that took its process down three times fails for good. Returns how many rows
        were moved.
        """
        running = Image.status == ImageStatus.RUNNING
        rows = self.session.execute(
            select(Image.id, Image.claimed_by, Image.claimed_at, Image.attempts).where(running)
        ).all()
        local = self.session.get_bind().dialect.name == "sqlite"
        left = [r for r in rows if _abandoned(r.claimed_by, r.claimed_at, one_host=local)]
        for row in left:
            again = row.attempts < MAX_ATTEMPTS
            self.session.execute(
                update(Image)
                .where(Image.id == row.id, running, Image.attempts == row.attempts)
                .values(
                    status=ImageStatus.QUEUED if again else ImageStatus.FAILED,
                    error=None if again else CRASHED,
                    claimed_by=None,
                )
            )
        self.session.commit()
        if left:
            logger.info("recovered rows=%d", len(left))
        return len(left)

    # -- one detection ---------------------------------------------------------------------

    def _claim(self, image_id: int) -> Claim | None:
        """Take the row, or nothing if it does not wait; commits, so no transaction stays open."""
        default = self.models.default()
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
                Image.attempts, Image.key, Image.extension, Image.owner_id, Image.wanted_model
            )
        ).one_or_none()
        self.session.commit()
        if row is None:
            return None
        key = f"original/{row.key}.{row.extension}"
        return Claim(image_id, row.attempts, key, row.owner_id, row.wanted_model or default)

    def _detect(self, claim: Claim) -> Detections:
        try:
            with self.storage.open(claim.storage_key) as file:
                data = file.read()
        except FileNotFoundError as error:
            raise DetectionError(LOST) from error
        except OSError:
            self._wait_for_storage()
            raise  # the storage is there: this one file cannot be read
        return self.engine.detect(decode(data).picture, claim.model)

    def _wait_for_storage(self) -> None:
        """Raise TryLater if no file at all can be reached."""
        try:
            self.storage.check()
        except OSError as error:
            raise TryLater(f"the storage is away: {error}") from error

    def _record(self, claim: Claim, found: Detections, duration_ms: int) -> None:
        """Boxes, tags and status in one commit; nothing if the claim was lost meanwhile."""
        if not self._settle(
            claim,
            status=ImageStatus.DONE,
            model=found.model,
            duration_ms=duration_ms,
            detected_at=utcnow(),
        ):
            return
        self.session.execute(delete(Detection).where(Detection.image_id == claim.image_id))
        rows = [
            {
                "image_id": claim.image_id,
                "label": box.label,
                "score": box.score,
                "x1": box.x1,
                "y1": box.y1,
                "x2": box.x2,
                "y2": box.y2,
                "model": found.model,
            }
            for box in found.boxes
        ]
        if rows:
            self.session.execute(insert(Detection), rows)
        threshold = self.session.scalar(select(User.threshold).where(User.id == claim.owner_id))
        sure = {box.label for box in found.boxes if box.score >= (threshold or 0.0)}
        self.tags.set_model_tags(claim.image_id, sure)
        self.session.commit()

    def _fail(self, claim: Claim, reason: str) -> None:
        self._settle(claim, status=ImageStatus.FAILED, error=reason[:300])
        self.session.commit()

    def _fail_or_retry(self, claim: Claim) -> None:
        self.session.rollback()
        if claim.attempt >= MAX_ATTEMPTS:
            self._fail(claim, FAILED)
        else:
            self._settle(claim, status=ImageStatus.QUEUED)
            self.session.commit()

    def _put_back(self, claim: Claim) -> None:
        """As if it had never been claimed."""
        self._settle(claim, status=ImageStatus.QUEUED, attempts=claim.attempt - 1)
        self.session.commit()

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


@dataclass(frozen=True)
class DetectionRequests:
    """Asking for detections: the side of the web, which needs no engine."""

    session: scoped_session[Session]
    queue: Queue
    models: ModelService

    def again(self, image_id: int, owner_id: int | None = None, model: str | None = None) -> None:
        """Queue a settled picture once more.

        Args:
            owner_id: whose picture it must be; None for an administrator.
            model: which detector looks at it; None for the default one.

        Raises:
            NotFound: no such picture of this owner, or no such model.
            InvalidInput: the weights of ``model`` are not there.
            Conflict: it waits or runs already.
        """
        require_picture(self.session, image_id, owner_id)
        if model is not None:
            self.models.require_ready(model)
        changed = self.session.scalar(
            update(Image)
            .where(
                Image.id == image_id,
                or_(Image.status == ImageStatus.DONE, Image.status == ImageStatus.FAILED),
            )
            .values(status=ImageStatus.QUEUED, attempts=0, error=None, wanted_model=model)
            .returning(Image.id)
        )
        self.session.commit()
        if changed is None:
            raise Conflict(N_("This picture is being looked at already."))
        self.queue.enqueue(image_id)


def worker_name() -> str:
    """Who claims: "host:pid:birth". A later process with the same number has another birth."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{_birth(os.getpid())}"


def _abandoned(claimed_by: str | None, claimed_at: datetime | None, *, one_host: bool) -> bool:
    """Whether the worker of a running row is surely gone.

    A process asks between its jobs, so a row under its own name was left by a job whose end could
    not be written.

    Args:
        one_host: whether no other machine can be at work (the database is a local file), so that
            another host name is this machine's earlier one.
    """
    host, _, rest = (claimed_by or "").partition(":")
    number, _, birth = rest.partition(":")
    if not number.isdigit() or claimed_at is None or claimed_at < utcnow() - STUCK_AFTER:
        return True
    if host != socket.gethostname()[:60]:
        return one_host
    return int(number) == os.getpid() or _birth(int(number)) != birth


def _birth(pid: int) -> str:
    """When a process began, in this boot of this machine; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:  # gone, or a system without /proc
        return "" if not _alive(pid) else "alive"
    return f"{boot}-{stat.rpartition(')')[2].split()[19]}"  # field 22: start time in clock ticks


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
