"""Asking for detections: the side of the web, which needs no engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput
from apps.jobs import Queue
from apps.models import NOT_DONE, SETTLED, Image, ImageStatus, utcnow
from apps.services.models import ModelService
from apps.services.pictures import is_waiting, require_picture

RETRY_LIMIT = 1000  # failed pictures that one request queues again
MAX_AT_ONCE = 1000  # pictures of one request to detect again
JOBS = ("waiting", *ImageStatus, "all")  # states by which detections are listed
QUEUED_AGAIN = {"status": ImageStatus.QUEUED, "attempts": 0, "error": None}


@dataclass(frozen=True)
class Queued:
    """What became of a request for many pictures, in numbers."""

    queued: int
    waiting: int  # left alone, because they wait or are being looked at already
    missing: int  # gone, or somebody else's


@dataclass(frozen=True)
class DetectionRequests:
    """Queues settled pictures once more."""

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
        if not self._queue(Image.id == image_id, wanted_model=model):
            raise Conflict(N_("This picture is being looked at already."))

    def again_many(
        self, image_ids: Iterable[int], owner_id: int, model: str | None = None
    ) -> Queued:
        """Queue the settled ones of an owner's pictures once more; see ``again``.

        Raises:
            NotFound: no such model.
            InvalidInput: its weights are not there, or more than MAX_AT_ONCE pictures.
        """
        ids = set(image_ids)
        if len(ids) > MAX_AT_ONCE:
            raise InvalidInput(
                N_("Choose at most %(limit)s pictures at once; do the others afterwards."),
                limit=MAX_AT_ONCE,
            )
        if model is not None:
            self.models.require_ready(model)
        mine = Image.id.in_(ids) & (Image.owner_id == owner_id)
        there = self.session.scalar(select(func.count()).where(mine)) or 0
        queued = len(self._queue(mine, wanted_model=model))
        return Queued(queued, waiting=max(there - queued, 0), missing=len(ids) - there)

    def _queue(self, which: ColumnElement[bool], **changes: str | None) -> Sequence[int]:
        """Queue the settled pictures among ``which``, commit, wake a worker; their ids."""
        ids = self.session.scalars(
            update(Image)
            .where(which, Image.status.in_(SETTLED))
            .values(**QUEUED_AGAIN, queued_at=utcnow(), **changes)
            .returning(Image.id)
            .execution_options(synchronize_session=False)
        ).all()
        self.session.commit()
        for image_id in ids:
            self.queue.enqueue(image_id)
        return ids

    def of_owner(
        self, owner_id: int, status: str, limit: int, after: int | None = None
    ) -> Sequence[Image]:
        """The account's pictures in the state ``status`` (of JOBS).

        What has not ended comes in the order of its upload, the rest the latest first.

        Args:
            after: the picture that was the last one of the page before.
        """
        query = select(Image).where(Image.owner_id == owner_id)
        if status == "waiting":
            query = query.where(is_waiting())
        elif status != "all":
            done = status == ImageStatus.DONE
            query = query.where(Image.status == ImageStatus(status), true() if done else NOT_DONE)
        latest_first = status in ("done", "failed", "all")
        if after is not None:
            query = query.where(Image.id < after if latest_first else Image.id > after)
        order = Image.id.desc() if latest_first else Image.id.asc()
        return self.session.scalars(query.order_by(order).limit(limit)).all()

    def again_failed(self, limit: int = RETRY_LIMIT) -> int:
        """Queue failed pictures once more, the newest ``limit``, each for the model it asked for.

        Returns how many.
        """
        failed = Image.status == ImageStatus.FAILED
        newest = select(Image.id).where(failed).order_by(Image.claimed_at.desc()).limit(limit)
        return len(self._queue(failed & Image.id.in_(newest)))
