"""From a waiting clip to stored boxes of its frames, in slices that can be interrupted."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, ConfigError, DetectionError, DeviceLost, OutOfMemory
from apps.jobs import TryLater
from apps.models import Video, VideoFrame, VideoStatus
from apps.services.models import ModelService
from apps.services.reading import from_storage
from apps.services.trying import MAX_ATTEMPTS, Errors, can_work, wait_for_memory, waited_long
from apps.services.videos import MOST_LOOKS
from apps.services.webhooks import Outbox
from apps.services.work_rows import ALMOST, Cancelled, Held, Lost, WorkRows
from apps.storage import Storage
from apps.vision.clips import ClipFrame, frames_of
from apps.vision.types import Box, Engine

logger = logging.getLogger(__name__)

FAILED = N_("Looking at the clip failed three times. The server's log has the details.")
CRASHED = N_("The detector stopped three times while it looked at this clip.")
LOST = N_("The stored file of this clip is gone. Upload it again.")
TOO_MANY = N_("The clip has more frames than its header says. Look at fewer of them.")
TOO_LONG = N_("The clip is longer than its header says, and longer than clips may be.")
SAVE_SECONDS = 0.5  # between two commits of what was found
MOST_BOXES = 100  # of one frame that are kept
Pause = Callable[[], bool]  # asked after each frame


@dataclass(frozen=True)
class _Claim:
    """The right to look at one clip."""

    held: Held
    storage_key: str
    extension: str
    every: int
    frames: int
    duration_ms: int
    model: str  # name in the registry, or "auto"
    after: tuple[int, int] | None  # (number, time_ms) of the last frame that is known already
    queued_at: datetime


@dataclass(frozen=True)
class VideoDetections:
    """The worker's side of clips, as DetectionService is that of pictures.

    Args:
        max_pixels, max_seconds: of a clip, whatever its header said.
        save_seconds: between two commits of what was found.
        local_errors: as DetectionService's.
    """

    session: scoped_session[Session]
    storage: Storage
    engine: Engine
    models: ModelService
    work: WorkRows
    outbox: Outbox
    max_pixels: int
    max_seconds: float
    save_seconds: float = SAVE_SECONDS
    local_errors: Errors = ()

    def run(self, video_id: int, pause: Pause = lambda: False) -> bool:
        """Look at one queued clip. Again, or from two workers at once, does nothing more.

        Args:
            pause: asked after each frame; when true, the clip waits again and the next run goes
                on after that frame.

        Returns:
            Whether it was put back before its end.

        Raises:
            TryLater: as DetectionService.run.
        """
        if not can_work(self.engine):
            return False
        with self.work.busy_with(video_id):
            claim = self._claim(video_id)
            return claim is not None and self._work(claim, pause)

    def next_queued(self, but: Collection[int] = ()) -> int | None:
        """The oldest waiting clip except ``but``; None while the engine cannot work."""
        return self.work.next_queued(but) if can_work(self.engine) else None

    def recover(self) -> int:
        """As DetectionService.recover: what a lost worker left running waits again, or fails."""
        left = self.work.left()
        for row in left:
            if self.work.take_back(row, CRASHED):
                self.outbox.clip(row.id)  # which knows what is worth a word
        self.session.commit()
        if left:
            logger.info("recovered clips=%d", len(left))
        return len(left)

    # -- one clip --------------------------------------------------------------------------

    def _claim(self, video_id: int) -> _Claim | None:
        default = self.models.default()
        taken = self.work.claim(
            video_id, Video.key, Video.extension, Video.every, Video.frames, Video.duration_ms,
            Video.model, Video.wanted_model, Video.queued_at, Video.created_at,
        )  # fmt: skip
        if taken is None:
            return None
        held, row = taken
        last = self.session.execute(
            select(VideoFrame.number, VideoFrame.time_ms)
            .where(VideoFrame.video_id == video_id)
            .order_by(VideoFrame.number.desc())
            .limit(1)
        ).one_or_none()
        self.session.commit()
        return _Claim(
            held,
            f"video/{row.key}.{row.extension}",
            row.extension,
            row.every,
            row.frames or 0,
            row.duration_ms or 0,
            row.model or row.wanted_model or default,  # what it began with, it goes on with
            None if last is None else (last.number, last.time_ms),
            row.queued_at or row.created_at,
        )

    def _work(self, claim: _Claim, pause: Pause) -> bool:
        """Whether the clip was put back."""
        video_id, attempt = claim.held.row_id, claim.held.attempt
        try:
            if self._look(claim, pause):
                self._put_back(claim)
                return True
            self._end(claim, VideoStatus.DONE, progress=1.0)
        except Lost:
            logger.info("claim lost video_id=%d attempt=%d", video_id, attempt)
        except Cancelled:
            self._end(claim, VideoStatus.CANCELLED)
        except TryLater:
            self._put_back(claim)
            raise
        except ConfigError as error:  # of this worker, not of the clip
            self._put_back(claim)
            raise TryLater(str(error)) from error
        except self.local_errors as error:
            self._leave(claim, error)
        except DeviceLost as error:  # a try is counted: the clip itself may have done it
            logger.warning("device lost video_id=%d attempt=%d", video_id, attempt)
            self._fail_or_retry(claim, str(error))
        except OutOfMemory as error:  # a try is counted: a frame may never fit
            self._fail_or_retry(claim, str(error))
            wait_for_memory(error, attempt)
        except AppError as error:  # its text says why, and trying again cannot help
            logger.warning("clip refused video_id=%d reason=%s", video_id, error)
            self._end(claim, VideoStatus.FAILED, error=str(error)[:300])
        except Exception:
            logger.exception("clip failed video_id=%d attempt=%d", video_id, attempt)
            self._fail_or_retry(claim)
        return False

    def _look(self, claim: _Claim, pause: Pause) -> bool:
        """Look at frame after frame; whether ``pause`` ended it."""
        with self._open(claim) as file:
            frames = frames_of(file, claim.extension, claim.every, self.max_pixels, claim.after)
            batch: list[dict[str, Any]] = []
            saved, model = time.monotonic(), None
            for frame in frames:
                self._refuse_endless(claim, frame)
                found = self.engine.detect(frame.picture, claim.model, frame.size, patient=True)
                model = found.model
                batch.append(_row(claim, frame, found.boxes))
                paused = pause()
                if paused or time.monotonic() - saved >= self.save_seconds:
                    self._save(claim, batch, model)
                    saved, batch = time.monotonic(), []
                if paused:
                    return True
            self._save(claim, batch, model)
        return False

    def _open(self, claim: _Claim) -> BinaryIO:
        with from_storage(self.storage, LOST):
            return self.storage.open(claim.storage_key)

    def _refuse_endless(self, claim: _Claim, frame: ClipFrame) -> None:
        if frame.number > MOST_LOOKS * claim.every:
            raise DetectionError(TOO_MANY)
        if frame.time_ms > 1000 * self.max_seconds + 5000:
            raise DetectionError(TOO_LONG)

    def _save(self, claim: _Claim, batch: list[dict[str, Any]], model: str | None) -> None:
        """What was found so far, how far it is and a sign of life, in one commit.

        Raises:
            Lost: the claim is lost.
            Cancelled: its owner cancelled it.
        """
        values: dict[str, object] = {}
        if batch:
            values["progress"] = _progress(claim, batch[-1])
        if model is not None:
            values["model"] = model
        cancelled = self.work.tell(claim.held, **values)
        if batch:
            self.session.execute(insert(VideoFrame), batch)
        self.session.commit()
        if cancelled:
            raise Cancelled

    def _end(self, claim: _Claim, status: VideoStatus, **values: object) -> None:
        ended = self.work.end(claim.held, status, **values)
        told = self.outbox.clip(claim.held.row_id) if ended else 0
        self.session.commit()
        if told:
            self.outbox.wake()

    def _fail_or_retry(self, claim: _Claim, reason: str = FAILED) -> None:
        self.session.rollback()
        if claim.held.attempt >= MAX_ATTEMPTS:
            self._end(claim, VideoStatus.FAILED, error=reason[:300])
        else:
            self.work.wait_again(claim.held)
            self.session.commit()

    def _leave(self, claim: _Claim, error: AppError) -> None:
        """To a worker that has the weights, as DetectionService does."""
        late = waited_long(claim.queued_at)
        what = "refused" if late else "left to other workers"
        logger.warning("clip %s video_id=%d reason=%s", what, claim.held.row_id, error)
        if late:
            self._end(claim, VideoStatus.FAILED, error=str(error)[:300])
        else:
            self._put_back(claim)

    def _put_back(self, claim: _Claim) -> None:
        """As if it had never been claimed, but for what was found."""
        self.session.rollback()
        self.work.wait_again(claim.held, attempts=claim.held.attempt - 1)
        self.session.commit()


def _row(claim: _Claim, frame: ClipFrame, boxes: tuple[Box, ...]) -> dict[str, Any]:
    best = sorted(boxes, key=lambda box: -box.score)[:MOST_BOXES]
    return {
        "video_id": claim.held.row_id,
        "number": frame.number,
        "time_ms": frame.time_ms,
        "boxes": [
            {
                "label": box.label,
                "score": round(box.score, 4),
                "box": [round(side, 1) for side in (box.x1, box.y1, box.x2, box.y2)],
            }
            for box in best
        ],
    }


def _progress(claim: _Claim, row: dict[str, Any]) -> float:
    """How much of the clip was looked at, 0 to 1; never 1 before its end."""
    parts = [row["time_ms"] / claim.duration_ms] if claim.duration_ms else []
    if claim.frames:
        parts.append((row["number"] + 1) / claim.frames)
    return min(ALMOST, max(parts, default=0.0))
