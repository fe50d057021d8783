"""The boxes of a picture as people see them: the model's sure ones, and the person's own word.

They are the boxes of its present model with at least the account's threshold that no person's word
stands for, and what people drew, accepted or changed, however sure any model is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal, null, select, union_all
from sqlalchemy.orm import Session, scoped_session

from apps.models import STANDS, UNSAID, Annotation, Detection, Image


@dataclass(frozen=True)
class EffectiveBox:
    """One box; corners in pixels of the upright picture."""

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float | None  # None: a person says so


def of_model(threshold: float | None) -> ColumnElement[bool]:
    """Condition on a Detection of the Image of the query; None: however unsure it is."""
    present = and_(
        Detection.image_id == Image.id,
        Detection.model == Image.model,
        UNSAID,
    )
    return present if threshold is None else present & (Detection.score >= threshold)


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


def boxes_of(
    session: scoped_session[Session], image_ids: Iterable[int], threshold: float
) -> Mapping[int, list[EffectiveBox]]:
    """The boxes of each picture that has some: a person's first, then the surest ones."""
    ids = list(image_ids)
    corners = ("x1", "y1", "x2", "y2")
    said = (
        select(
            Annotation.image_id,
            Annotation.label,
            *(getattr(Annotation, name) for name in corners),
            null().label("score"),
        )
        .select_from(Image)
        .join(Annotation, of_person())
        .where(Image.id.in_(ids))
    )
    found = (
        select(
            Detection.image_id,
            Detection.label,
            *(getattr(Detection, name) for name in corners),
            Detection.score,
        )
        .select_from(Image)
        .join(Detection, of_model(threshold))
        .where(Image.id.in_(ids))
    )
    boxes: dict[int, list[EffectiveBox]] = {}
    for image_id, *values in session.execute(union_all(said, found)):
        boxes.setdefault(image_id, []).append(EffectiveBox(*values))
    for rows in boxes.values():
        rows.sort(key=lambda box: 2.0 if box.score is None else box.score, reverse=True)
    return boxes
