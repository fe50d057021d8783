"""Which boxes of a model a person has already spoken about."""

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session, scoped_session

from apps.models import UNSAID, Annotation, Detection
from apps.vision.agreement import claims
from apps.vision.types import Box


def claim_boxes(
    session: scoped_session[Session],
    image_id: int,
    model: str | None = None,
    only: Collection[int] = (),
) -> bool:
    """Let a picture's annotations stand for the boxes that are the same objects.

    So nothing that a person has decided comes back when a model looks again. Boxes that an
    annotation stands for already are left as they are. Does not commit.

    Args:
        model: whose boxes; None for those of every model.
        only: ids of the annotations; none for all of the picture.

    Returns:
        Whether there was such a box.
    """
    query = select(Annotation).where(Annotation.image_id == image_id).order_by(Annotation.id)
    if only:
        query = query.where(Annotation.id.in_(only))
    words = session.scalars(query).all()
    if not words:
        return False
    free = select(Detection.id, Detection.label, Detection.x1, Detection.y1, Detection.x2)
    free = free.add_columns(Detection.y2).where(Detection.image_id == image_id, UNSAID)
    rows = session.execute(free if model is None else free.where(Detection.model == model)).all()
    boxes = [Box(row.label, 1.0, row.x1, row.y1, row.x2, row.y2) for row in rows]
    claimed = [
        {"id": row.id, "annotation_id": words[place].id}
        for row, place in zip(rows, claims(boxes, [_standing(word) for word in words]), strict=True)
        if place is not None
    ]
    if claimed:
        session.execute(update(Detection), claimed)
    return bool(claimed)


def _standing(word: Annotation) -> list[Box]:
    """The label and place of a word, and those that the model had given: any may come again."""
    labels = {word.label, word.found_label or word.label}
    places = {(word.x1, word.y1, word.x2, word.y2)}
    if word.found_x1 is not None:
        found = (word.found_x1, word.found_y1, word.found_x2, word.found_y2)
        places.add(found)  # type: ignore[arg-type]  # all four are there, or none
    return [Box(label, 1.0, *place) for label in labels for place in places]
