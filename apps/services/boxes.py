"""The boxes of pictures as people see them: a model's sure ones, and over them what people said.

They are the boxes of the present model with at least a threshold that no person's word stands for,
and what people drew, accepted or changed, however sure any model is.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.models import STANDS, UNSAID, Annotation, Detection, Image, Verdict
from apps.vision.types import Box

PRESENT = and_(Detection.image_id == Image.id, Detection.model == Image.model)


def of_model(threshold: float | None) -> ColumnElement[bool]:
    """Condition on a Detection of the Image of the query; None: however unsure it is."""
    shown = PRESENT & UNSAID
    return shown if threshold is None else shown & (Detection.score >= threshold)


def of_person() -> ColumnElement[bool]:
    """Condition on an Annotation of the Image of the query."""
    return and_(Annotation.image_id == Image.id, STANDS)


def number_of(threshold: float, labels: Iterable[str] | None = None) -> ColumnElement[int]:
    """How many boxes the Image of the query has, of ``labels`` or of all."""
    found: Select[Any] = select(func.count()).select_from(Detection).where(of_model(threshold))
    said: Select[Any] = select(func.count()).select_from(Annotation).where(of_person())
    if labels is not None:
        names = list(labels)
        found = found.where(Detection.label.in_(names))
        said = said.where(Annotation.label.in_(names))
    numbers = (each.correlate(Image).scalar_subquery() for each in (found, said))
    total: ColumnElement[int] = sum(numbers, start=literal(0))
    return total


@dataclass(frozen=True)
class BoxService:
    session: scoped_session[Session]

    def effective(
        self, image_ids: Collection[int], threshold: float, *, masks: bool = True
    ) -> dict[int, list[Box]]:
        """For each picture a person's boxes, which are certain, then the model's, best first.

        Args:
            threshold: of the model's boxes, 0..1.
            masks: whether they are needed, which are some kilobytes each.
        """
        boxes: dict[int, list[Box]] = {image_id: [] for image_id in image_ids}
        outlines = self._masks(image_ids) if masks else {}
        said = select(Annotation).where(Annotation.image_id.in_(image_ids), STANDS)
        for word in self.session.scalars(said.order_by(Annotation.id)):
            mask = outlines.get(word.id) if word.verdict is Verdict.ACCEPTED else None
            corners = (word.x1, word.y1, word.x2, word.y2)
            boxes[word.image_id].append(Box(word.label, 1.0, *corners, mask, by_person=True))
        found = (
            select(Detection)
            .join(Image, of_model(threshold))
            .where(Image.id.in_(image_ids))
            .order_by(Detection.score.desc(), Detection.id)
        )
        if masks:
            found = found.options(undefer(Detection.mask))
        for row in self.session.scalars(found):
            mask = row.mask if masks else None
            box = Box(row.label, row.score, row.x1, row.y1, row.x2, row.y2, mask)
            boxes[row.image_id].append(box)
        return boxes

    def _masks(self, image_ids: Collection[int]) -> dict[int, str]:
        """Annotation to the mask of the best present box that it stands for."""
        rows = self.session.execute(
            select(Detection.annotation_id, Detection.mask)
            .join(Image, PRESENT)
            .where(Image.id.in_(image_ids), ~UNSAID, Detection.mask.is_not(None))
            .order_by(Detection.score)
        )
        return {word: mask for word, mask in rows if word is not None and mask is not None}
