"""What each model said about a picture: kept side by side, one of them the present one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, Conflict, NotFound
from apps.models import SETTLED, Detection, Image, ImageStatus, Result
from apps.services.pictures import require_picture
from apps.services.tags import TagService
from apps.vision.types import Detections


@dataclass(frozen=True)
class ResultService:
    session: scoped_session[Session]
    tags: TagService

    def kept(self, image_id: int) -> Sequence[Result]:
        """One for each model that has looked at the picture, the latest first."""
        query = (
            select(Result)
            .where(Result.image_id == image_id)
            .order_by(Result.detected_at.desc(), Result.model)
        )
        return self.session.scalars(query).all()

    def find(self, image_id: int, model: str) -> Result:
        """Raises NotFound if ``model`` has not looked at the picture."""
        known = "\0" not in model  # which PostgreSQL takes in no text
        result = self.session.get(Result, (image_id, model)) if known else None
        if result is None:
            raise NotFound(N_("“%(name)s” has not looked at this picture."), name=model)
        return result

    def boxes(self, image_id: int, model: str) -> Sequence[Detection]:
        """What ``model`` found in the picture, with masks, best box first."""
        query = (
            select(Detection)
            .where(Detection.image_id == image_id, Detection.model == model)
            .order_by(Detection.score.desc(), Detection.id)
            .options(undefer(Detection.mask))
        )
        return self.session.scalars(query).all()

    def counts(self, image_id: int) -> dict[str, int]:
        """Model to number of boxes, without the models that found nothing."""
        query = (
            select(Detection.model, func.count())
            .where(Detection.image_id == image_id)
            .group_by(Detection.model)
        )
        return {row[0]: row[1] for row in self.session.execute(query)}

    def use(self, image_id: int, owner_id: int, model: str) -> None:
        """Make the kept result of ``model`` the present one; tags follow, nothing is detected.

        Raises:
            NotFound: no such picture of this owner, or no such result.
            Conflict: the picture waits or is being looked at, which will change its result.
        """
        require_picture(self.session, image_id, owner_id)
        result = self.find(image_id, model)
        changed = self.session.scalar(
            update(Image)
            .where(Image.id == image_id, Image.status.in_(SETTLED))
            .values(
                status=ImageStatus.DONE,
                error=None,
                model=model,
                detected_at=result.detected_at,
                duration_ms=result.duration_ms,
            )
            .returning(Image.id)
        )
        if changed is None:
            raise Conflict(N_("This picture is being looked at already."))
        self.tags.follow_result(image_id)
        self.session.commit()


def store_result(
    session: scoped_session[Session],
    image_id: int,
    found: Detections,
    detected_at: datetime,
    duration_ms: int,
) -> None:
    """Replace what the same model said before; the results of other models stay.

    Does not commit: it is a part of recording a detection.
    """
    session.execute(
        delete(Detection).where(Detection.image_id == image_id, Detection.model == found.model)
    )
    rows = [
        {
            "image_id": image_id,
            "label": box.label,
            "score": box.score,
            "x1": box.x1,
            "y1": box.y1,
            "x2": box.x2,
            "y2": box.y2,
            "model": found.model,
            "mask": box.mask,
        }
        for box in found.boxes
    ]
    if rows:
        session.execute(insert(Detection), rows)
    session.merge(
        Result(
            image_id=image_id,
            model=found.model,
            detected_at=detected_at,
            duration_ms=duration_ms,
        )
    )
    session.flush()
