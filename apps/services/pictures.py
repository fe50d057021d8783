"""Questions about pictures that several services ask."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, NotFound
from apps.models import Detection, Image, ImageTag, TagSource

NO_PICTURE = N_("There is no such picture.")


@dataclass(frozen=True)
class Holdings:
    """What some pictures are and bring with them: what is lost when they go."""

    images: int
    boxes: int
    tags: int
    bytes: int


def holdings_of(session: scoped_session[Session], which: ColumnElement[bool]) -> Holdings:
    """Counts over the pictures that satisfy ``which``, a condition on ``Image``."""
    ids = select(Image.id).where(which).scalar_subquery()
    images, size = session.execute(
        select(func.count(), func.coalesce(func.sum(Image.bytes), 0)).where(which)
    ).one()
    boxes = select(func.count()).where(Detection.image_id.in_(ids))
    tags = select(func.count()).where(
        ImageTag.image_id.in_(ids), ImageTag.source != TagSource.REMOVED
    )
    return Holdings(images, session.scalar(boxes) or 0, session.scalar(tags) or 0, int(size))


def require_picture(
    session: scoped_session[Session], image_id: int, owner_id: int | None = None
) -> None:
    """Raise NotFound unless the picture exists and, if given, belongs to ``owner_id``."""
    query = select(Image.id).where(Image.id == image_id)
    if owner_id is not None:
        query = query.where(Image.owner_id == owner_id)
    if session.scalar(query) is None:
        raise NotFound(NO_PICTURE)
