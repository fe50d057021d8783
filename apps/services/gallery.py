"""The gallery: an account's pictures that a search asks for, in the order it asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, literal, or_, select
from sqlalchemy.orm import Session, scoped_session, selectinload

from apps.models import (
    NOT_DONE,
    VISIBLE,
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Tag,
    fold,
)
from apps.services import search as language
from apps.services import terms
from apps.services.boxes import BoxService, number_of, of_model, of_person
from apps.services.images import ImageService
from apps.services.pictures import MANY, Pictures, counts_by_status, is_waiting
from apps.services.search import OPERATORS
from apps.services.terms import Search, Term
from apps.vision.types import Box

RARE = 5 * MANY  # boxes; pictures with a label that has more are found by walking the gallery
MAX_BOXES = 200  # on one tile
ORDERS: dict[str, tuple[tuple[Any, ...], bool]] = {  # columns, and whether the highest is first
    "newest": ((Image.id,), True),
    "oldest": ((Image.id,), False),
    "title": ((Image.folded, Image.id), False),
    "-title": ((Image.folded, Image.id), True),
    "largest": ((Image.bytes, Image.id), True),
    "smallest": ((Image.bytes, Image.id), False),
    "uncertainty": ((Image.uncertainty, Image.id), True),
}


@dataclass(frozen=True)
class Asker:
    """Whose gallery it is."""

    id: int
    threshold: float  # lowest score of a box that is shown
    pictures: int  # that the account has


@dataclass(frozen=True)
class GalleryService:
    session: scoped_session[Session]
    images: ImageService
    boxes: BoxService

    def find(self, asker: Asker, text: str) -> tuple[Search, Pictures]:
        """What ``text`` asks for.

        A text that is a tag of the account, whatever characters it has, is that tag. So is one of
        several words, if a tag has them in a row; else each word is a tag of its own.

        Raises:
            SearchError: the text is no search; it says where the mistake is.
        """
        if not text or self._is_tag(asker.id, text):
            return Search(), self.images.gallery(asker.id, text, total=asker.pictures)
        asked = language.parse(text)
        if asked.plain and (len(asked.terms) == 1 or self._part_of_tag(asker.id, text)):
            return asked, self.images.gallery(asker.id, text, total=asker.pictures)
        return asked, _Query(self, asker, asked).pictures()

    def with_boxes(
        self, owner_id: int, threshold: float, image_ids: list[int]
    ) -> dict[int, tuple[Image, list[Box]]]:
        """The boxes that those of ``image_ids`` show that are the account's."""
        mine = select(Image).where(Image.owner_id == owner_id, Image.id.in_(image_ids))
        images = self.session.scalars(mine).all()
        boxes = self.boxes.effective([image.id for image in images], threshold, masks=False)
        return {image.id: (image, boxes[image.id][:MAX_BOXES]) for image in images}

    def models(self, owner_id: int) -> list[str]:
        """Names of the models that found what the latest pictures show, to choose from."""
        some = select(Image.model).where(Image.owner_id == owner_id).order_by(Image.id.desc())
        recent = some.limit(MANY).subquery()
        names = self.session.scalars(select(recent.c.model).distinct())
        return sorted(name for name in names if name)

    def _is_tag(self, owner_id: int, text: str) -> bool:
        return any(name == fold(text) for name in self.tags_like(owner_id, text).values())

    def _part_of_tag(self, owner_id: int, text: str) -> bool:
        return bool(self.tags_like(owner_id, text))

    def tags_like(self, owner_id: int, text: str) -> dict[int, str]:
        """Ids and folded names of the account's tags that contain ``text``."""
        rows = self.session.execute(self.images.tags_like(owner_id, text))
        return {tag_id: name for tag_id, name in rows}  # noqa: C416 (rows are no pairs to mypy)


class _Query:
    """One search of one account, as a list of pictures."""

    def __init__(self, gallery: GalleryService, asker: Asker, asked: Search) -> None:
        self.gallery, self.asker, self.asked = gallery, asker, asked
        self.session = gallery.session
        self.rare: list[ColumnElement[bool]] = []  # conditions that few pictures fulfil

    def pictures(self) -> Pictures:
        """Found exactly where few can match; else read along the order and not counted."""
        where = [self._term(term) for term in self.asked.terms]
        order, descending = ORDERS.get(self.asked.sort, ((), True))
        if self.asked.sort == "boxes":
            order = (number_of(self.asker.threshold), Image.id)
        if self.asked.sort == "uncertainty":
            where.append(Image.uncertainty.is_not(None))
        total, exact = self._known_total(where)
        if self.rare:
            narrowed = select(Image.id).where(self._mine, *self.rare, *where)
            found = list(self.session.scalars(narrowed.limit(MANY + 1)))
            if len(found) <= MANY:
                where, total, exact = [Image.id.in_(found)], len(found), True
            else:
                where = [*self.rare, *where]
        ids = select(Image.id).where(self._walked(order), *where)
        tags = (selectinload(Image.tags),)
        return Pictures(self.session, ids, order, descending, total, exact, tags)

    @property
    def _mine(self) -> ColumnElement[bool]:
        return Image.owner_id == self.asker.id

    def _walked(self, order: tuple[Any, ...]) -> ColumnElement[bool]:
        """The account's pictures, such that a large gallery is read along the order's index.

        The indices of titles and sizes know no owner. As a sum, the owner is no reason for SQLite
        to gather all pictures by the index that does, and to sort them for each page.
        """
        by_other = order[:1] in ((Image.folded,), (Image.bytes,))
        if by_other and self.asker.pictures > MANY:
            return Image.owner_id + 0 == self.asker.id
        return self._mine

    def _known_total(self, where: list[ColumnElement[bool]]) -> tuple[int, bool]:
        """How many they are, where that costs nothing: all, or those of one state."""
        if not where:
            return self.asker.pictures, True
        only = self.asked.terms[0].condition if len(self.asked.terms) == 1 == len(where) else None
        if isinstance(only, terms.InState) and not self.asked.terms[0].negated:
            counts = counts_by_status(self.session, self.asker.id)
            return sum(counts[status] for status in _statuses(only.status)), True
        return 0, False

    # -- terms -----------------------------------------------------------------------------

    def _term(self, term: Term) -> ColumnElement[bool]:
        make: Callable[[Any, bool], ColumnElement[bool]] = self._makers[type(term.condition)]
        made = make(term.condition, not term.negated)
        # NULL is neither: a picture that nothing is known of is not what was asked for.
        return func.coalesce(~made, False) if term.negated else made

    @cached_property
    def _makers(self) -> dict[type, Any]:
        return {
            terms.Tagged: self._tagged,
            terms.Counted: self._counted,
            terms.Scored: self._scored,
            terms.Measured: self._measured,
            terms.Named: self._named,
            terms.InState: self._in_state,
            terms.Reviewed: self._reviewed,
            terms.Uploaded: self._uploaded,
        }

    def _tagged(self, asked: terms.Tagged, wanted: bool) -> ColumnElement[bool]:
        found = self.gallery.tags_like(self.asker.id, asked.text)
        exact = [tag_id for tag_id, name in found.items() if name == fold(asked.text)]
        ids = exact or list(found)
        if not ids:
            if wanted:
                self.rare.append(false())
            return false()
        links = and_(ImageTag.owner_id == self.asker.id, ImageTag.tag_id.in_(ids), VISIBLE)
        if wanted and self.gallery.images.uses(self.asker.id, ids) <= MANY:
            self.rare.append(Image.id.in_(select(ImageTag.image_id).where(links)))
        links = and_(ImageTag.image_id == Image.id, links)
        return exists().where(links) if wanted else _is_there(ImageTag, links)

    def _counted(self, asked: terms.Counted, wanted: bool) -> ColumnElement[bool]:
        labels = self._spellings(asked.label)
        holds = OPERATORS[asked.op]
        if wanted and not holds(0, asked.number):
            self._narrow(labels)
        made: Any = holds(number_of(self.asker.threshold, labels), asked.number)
        return made  # type: ignore[no-any-return]

    def _scored(self, asked: terms.Scored, wanted: bool) -> ColumnElement[bool]:
        """The best box compares so: one is as good, or there is one and none is better."""
        labels = None if asked.label is None else self._spellings(asked.label)
        if wanted and labels is not None:
            self._narrow(labels)
        if asked.op in (">", ">="):
            return self._any_box(labels, asked.op, asked.score)
        if asked.op in ("<", "<="):
            better = ">=" if asked.op == "<" else ">"
            return self._any_box(labels, ">=", 0) & ~self._any_box(labels, better, asked.score)
        worse = ~self._any_box(labels, ">", asked.score)
        return self._any_box(labels, ">=", asked.score) & worse

    def _any_box(self, labels: list[str] | None, op: str, score: float) -> ColumnElement[bool]:
        compare: Any = OPERATORS[op](Detection.score, score)
        found, said = and_(of_model(None), compare), of_person()
        if labels is not None:
            found, said = found & Detection.label.in_(labels), said & Annotation.label.in_(labels)
        if not OPERATORS[op](1.0, score):
            return _is_there(Detection, found)
        return or_(_is_there(Detection, found), _is_there(Annotation, said))

    def _measured(self, asked: terms.Measured, wanted: bool) -> ColumnElement[bool]:
        columns: dict[str, Any] = {
            "width": Image.width,
            "height": Image.height,
            "size": Image.bytes,
            "uncertainty": Image.uncertainty,
        }
        column = columns.get(asked.key)
        if column is None:
            column = number_of(self.asker.threshold)
        number = asked.number if asked.key == "uncertainty" else round(asked.number)
        made: Any = OPERATORS[asked.op](column, number)
        return made  # type: ignore[no-any-return]

    def _named(self, asked: terms.Named, wanted: bool) -> ColumnElement[bool]:
        if asked.key == "model":
            return func.coalesce(Image.model.icontains(asked.text, autoescape=True), False)
        return Image.folded.contains(fold(asked.text), autoescape=True)

    def _in_state(self, asked: terms.InState, wanted: bool) -> ColumnElement[bool]:
        if asked.status == "waiting":
            return is_waiting()
        if asked.status == ImageStatus.DONE:
            return Image.status == ImageStatus.DONE
        return NOT_DONE & (Image.status == ImageStatus(asked.status))

    def _reviewed(self, asked: terms.Reviewed, wanted: bool) -> ColumnElement[bool]:
        return Image.reviewed_at.is_not(None) if asked.yes else Image.reviewed_at.is_(None)

    def _uploaded(self, asked: terms.Uploaded, wanted: bool) -> ColumnElement[bool]:
        bounds = []
        if asked.since is not None:
            bounds.append(Image.created_at >= asked.since)
        if asked.before is not None:
            bounds.append(Image.created_at < asked.before)
        return and_(*bounds)

    # -- labels ----------------------------------------------------------------------------

    def _spellings(self, label: str) -> list[str]:
        """The label as models may write it: labels are kept as they are, with capitals."""
        tag = self.session.scalar(select(Tag.name).where(Tag.folded == fold(label)))
        spelled = (label, tag or label, label.lower(), label.upper(), label.capitalize())
        return sorted({*spelled, label.title()})

    def _narrow(self, labels: list[str]) -> None:
        """Let the boxes of a rare label lead to its pictures."""
        found = select(Detection.image_id).where(Detection.label.in_(labels))
        said = select(Annotation.image_id).where(Annotation.label.in_(labels))
        for query in (found, said):
            some = query.limit(RARE + 1).subquery()
            if (self.session.scalar(select(func.count()).select_from(some)) or 0) > RARE:
                return
        self.rare.append(Image.id.in_(found) | Image.id.in_(said))


def _is_there(kind: Any, *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """As EXISTS, but asked of one picture after the other: PostgreSQL gathers what an EXISTS beside
    OR or NOT is true of for all pictures first, also where a page of them is wanted."""
    one = select(literal(1)).select_from(kind).where(*where).limit(1)
    return one.correlate(Image).scalar_subquery().is_not(None)


def _statuses(word: str) -> tuple[ImageStatus, ...]:
    if word == "waiting":
        return ImageStatus.QUEUED, ImageStatus.RUNNING
    return (ImageStatus(word),)
