"""What each model said about a picture: kept side by side, one of them the present one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, Conflict, NotFound
from apps.models import SETTLED, UNSAID, Detection, Image, ImageStatus, Result
from apps.services.pictures import require_picture
from apps.services.tags import TagService
from apps.services.words import claim_boxes
from apps.vision.types import Detections
from apps.vision.uncertainty import uncertainty


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

        What people have said since then stands for its boxes too.

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
                version=Image.version + 1,
            )
            .returning(Image.id)
        )
        if changed is None:
            raise Conflict(N_("This picture is being looked at already."))
        claim_boxes(self.session, image_id, model)
        weigh(self.session, image_id, model)
        self.tags.follow_result(image_id)
        self.session.commit()


def shown_now(scores: Iterable[float]) -> dict[str, Any]:
    """What changes in the row of a picture that gets a new present result, beside that result.

    Args:
        scores: of the boxes.
    """
    return {"version": Image.version + 1, "uncertainty": uncertainty(scores)}


def weigh(session: scoped_session[Session], image_id: int, model: str) -> None:
    """Set how unsure ``model``, the present one, is of what nobody has decided. No commit."""
    scores = session.scalars(
        select(Detection.score).where(
            Detection.image_id == image_id,
            Detection.model == model,
            UNSAID,
        )
    )
    session.execute(
        update(Image)
        .where(Image.id == image_id)
        .values(uncertainty=uncertainty(scores))
        .execution_options(synchronize_session=False)
    )


def store_result(
    session: scoped_session[Session],
    image_id: int,
    found: Detections,
    detected_at: datetime,
    duration_ms: int,
    *,
    said: bool = True,
) -> None:
    """Replace what the same model said before; the results of other models stay.

    Boxes that a person has spoken about come back as such. Does not commit: it is a part of
    recording a detection, after the picture's row has got ``shown_now``.

    Args:
        said: whether people may have spoken about boxes of the picture.
    """
    result = session.get(Result, (image_id, found.model))
    if result is None:
        result = Result(image_id=image_id, model=found.model)
        session.add(result)
    else:
        old = (Detection.image_id == image_id, Detection.model == found.model)
        session.execute(delete(Detection).where(*old))
    result.detected_at, result.duration_ms = detected_at, duration_ms
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
        if said and claim_boxes(session, image_id, found.model):
            weigh(session, image_id, found.model)
    session.flush()
