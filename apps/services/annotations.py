"""What people say about boxes: read as a whole, kept as a whole. See decision 0015."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session, scoped_session, selectinload, undefer

from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import Annotation, Detection, Image, ImageTag, User, Verdict, utcnow
from apps.services.changes import Change, Corners, Found, Said, clipped
from apps.services.pictures import NO_PICTURE
from apps.services.tags import TagService
from apps.services.words import claim_boxes

logger = logging.getLogger(__name__)

SAME_PLACE = 0.05  # pixels: corners that differ by less are the same, however they were rounded
SAID_COLUMNS = (
    *("image_id", "ref", "author_id", "verdict", "label", "x1", "y1", "x2", "y2"),
    *("found_model", "found_label", "found_score"),
    *("found_x1", "found_y1", "found_x2", "found_y2"),
)
GONE = N_("That box of the model is not there any more. Load the picture again.")
TAKEN = N_("Somebody said something about that box of the model already. Load the picture again.")
FOUND_STAYS = N_("A box that a model found can be accepted, changed or rejected, but not drawn.")
NOTHING_FOUND = N_("No model found this box, so it can only be drawn. Name the model's box.")


Signed = tuple[Annotation, str | None]  # with the name of its author, if there is one still


class Outdated(Conflict):
    """The picture has changed since the version that a change was made for."""

    def __init__(self) -> None:
        super().__init__(
            N_(
                "This picture was changed meanwhile, in another tab or by another detection. "
                "Choose which version to keep."
            )
        )


@dataclass(frozen=True)
class State:
    """A picture, its present boxes, and the person's layer over them."""

    image: Image  # with its tag links
    detections: Sequence[Detection]  # of the present model, with masks, best first
    annotations: Sequence[Signed]  # oldest first


@dataclass(frozen=True)
class AnnotationService:
    session: scoped_session[Session]
    tags: TagService

    def require(self, owner_id: int, image_id: int) -> None:
        """Raise NotFound unless the picture is this owner's."""
        self._image(owner_id, image_id)

    def state(self, owner_id: int, image_id: int) -> State:
        """Everything that the editor shows of a picture.

        Raises:
            NotFound: no such picture of this owner.
        """
        query = (
            select(Image)
            .where(Image.id == image_id, Image.owner_id == owner_id)
            .options(selectinload(Image.tag_links).joinedload(ImageTag.tag))
            .execution_options(populate_existing=True)
        )
        image = self.session.scalar(query)
        if image is None:
            raise NotFound(NO_PICTURE)
        boxes = (
            select(Detection)
            .where(Detection.image_id == image_id, Detection.model == image.model)
            .order_by(Detection.score.desc(), Detection.id)
            .options(undefer(Detection.mask))
        )
        return State(image, self.session.scalars(boxes).all(), self.said(image_id))

    def said(self, image_id: int) -> list[Signed]:
        """Every word about the picture with its author's name, oldest first."""
        query = (
            select(Annotation, User.username)
            .outerjoin(User, User.id == Annotation.author_id)
            .where(Annotation.image_id == image_id)
            .order_by(Annotation.id)
        )
        return [(row[0], row[1]) for row in self.session.execute(query)]

    def save(self, owner_id: int, image_id: int, change: Change) -> bool:
        """Make the person's layer what ``change`` says; False if this very change was kept before.

        The row of the picture decides which of two writers comes first: one UPDATE asks for the
        version and counts it up. Commits.

        Raises:
            NotFound: no such picture of this owner.
            Outdated: ``change`` was made for another version.
            InvalidInput: it speaks of a model's box that is gone or spoken for.
        """
        image = self._image(owner_id, image_id)
        if image.last_change == change.batch:
            return False
        if not self._take(image_id, change):
            self.session.rollback()
            if self._image(owner_id, image_id).last_change == change.batch:
                return False  # the same change came twice at once
            raise Outdated
        self._merge(image, owner_id, change)
        self.tags.follow_result(image_id)
        self.session.commit()
        return True

    def _image(self, owner_id: int, image_id: int) -> Image:
        query = select(Image).where(Image.id == image_id, Image.owner_id == owner_id)
        image = self.session.scalar(query.execution_options(populate_existing=True))
        if image is None:
            raise NotFound(NO_PICTURE)
        return image

    def _take(self, image_id: int, change: Change) -> bool:
        """Count the version up; False if it is another one by now."""
        reviewed = func.coalesce(Image.reviewed_at, utcnow()) if change.reviewed else None
        taken = self.session.scalar(
            update(Image)
            .where(Image.id == image_id, Image.version == change.version)
            .values(version=Image.version + 1, last_change=change.batch, reviewed_at=reviewed)
            .returning(Image.id)
            .execution_options(synchronize_session=False)
        )
        return taken is not None

    def _merge(self, image: Image, author_id: int, change: Change) -> None:
        """Insert, change and delete rows until they say what ``change`` says."""
        query = select(Annotation).where(Annotation.image_id == image.id)
        present = {row.ref: row for row in self.session.scalars(query)}
        kept = {one.ref for one in change.said}
        leaving = [row for ref, row in present.items() if ref not in kept]
        gone = [row.id for row in leaving]
        new = [one for one in change.said if one.ref not in present]
        boxes = self._boxes(image.id, new, gone)
        if gone:  # the database takes them off the model's boxes that they stood for
            for row in leaving:  # SQLite gives their ids to new ones
                self.session.expunge(row)
            self.session.execute(
                delete(Annotation)
                .where(Annotation.id.in_(gone))
                .execution_options(synchronize_session=False)
            )
        size = (image.width, image.height)
        changed = 0
        for one in change.said:
            if one.ref in present:
                changed += _put(present[one.ref], one, clipped(one.box, *size), author_id)
        made = [self._make(image, one, boxes, author_id) for one in new]
        self.session.flush()
        if made:
            self._insert(made)
            self._connect(image.id, new, boxes)
        logger.info(
            "annotated image_id=%d author_id=%d version=%d new=%d changed=%d gone=%d reviewed=%s",
            *(image.id, author_id, change.version + 1, len(new), changed, len(gone)),
            change.reviewed,
        )

    def _boxes(
        self, image_id: int, new: Iterable[Said], gone: Iterable[int]
    ) -> dict[int, Detection]:
        """The model's boxes that ``new`` ones are about, by id.

        A box that is not what the browser says was found is another one: SQLite gives the ids of
        deleted rows to new ones.

        Raises:
            InvalidInput: what stands for one of them already is not among ``gone``.
        """
        asked = {one.detection: one.found for one in new if one.detection is not None}
        if not asked:
            return {}
        query = select(Detection).where(Detection.image_id == image_id, Detection.id.in_(asked))
        boxes = {
            box.id: box for box in self.session.scalars(query) if _is_still(box, asked[box.id])
        }
        if any(box.annotation_id not in {None, *gone} for box in boxes.values()):
            raise InvalidInput(TAKEN)
        return boxes

    def _make(
        self, image: Image, one: Said, boxes: dict[int, Detection], author_id: int
    ) -> Annotation:
        row = Annotation(image_id=image.id, ref=one.ref)
        if one.verdict is not Verdict.DRAWN:
            found = _found_by(boxes.get(one.detection or 0)) or one.found
            if found is None:
                raise InvalidInput(GONE if one.detection else NOTHING_FOUND)
            row.found_model, row.found_label, row.found_score = (
                found.model,
                found.label,
                found.score,
            )
            box = clipped(found.box, image.width, image.height)
            row.found_x1, row.found_y1, row.found_x2, row.found_y2 = box
        _put(row, one, clipped(one.box, image.width, image.height), author_id)
        return row

    def _insert(self, made: Iterable[Annotation]) -> None:
        """All in one statement; as objects of the session SQLite would insert them one by one."""
        rows = [{name: getattr(row, name) for name in SAID_COLUMNS} for row in made]
        self.session.execute(insert(Annotation), rows)

    def _connect(self, image_id: int, new: Sequence[Said], boxes: Collection[int]) -> None:
        """Let new annotations stand for the model's boxes that they are about.

        Those whose box was replaced meanwhile, as when an undo brings one back after another
        detection, stand for what is the same object now.
        """
        about = [one for one in new if one.verdict is not Verdict.DRAWN]
        refs = [one.ref for one in about]
        if not refs:
            return
        query = select(Annotation.ref, Annotation.id)
        query = query.where(Annotation.image_id == image_id, Annotation.ref.in_(refs))
        ids = {row.ref: row.id for row in self.session.execute(query)}
        taken = [
            {"id": one.detection, "annotation_id": ids[one.ref]}
            for one in about
            if one.detection in boxes
        ]
        if taken:
            self.session.execute(update(Detection), taken)
        lost = [ids[one.ref] for one in about if one.detection not in boxes]
        if lost:
            claim_boxes(self.session, image_id, only=lost)


def _found_by(box: Detection | None) -> Found | None:
    if box is None:
        return None
    return Found(box.model, box.label, box.score, (box.x1, box.y1, box.x2, box.y2))


def _is_still(box: Detection, found: Found | None) -> bool:
    if found is None:
        return True
    there = (box.x1, box.y1, box.x2, box.y2)
    return (box.model, box.label) == (found.model, found.label) and is_near(there, found.box)


def is_near(one: Sequence[float | None], other: Corners) -> bool:
    """Whether two boxes have the same corners, however they were rounded."""
    return all(
        there is not None and abs(there - here) < SAME_PLACE
        for there, here in zip(one, other, strict=True)
    )


def _put(row: Annotation, one: Said, box: Corners, author_id: int) -> bool:
    """Make ``row`` say what ``one`` says; False if it does already.

    Raises:
        InvalidInput: a model's box shall be a drawn one, or the other way round.
    """
    drawn = one.verdict is Verdict.DRAWN
    if drawn and row.found_model is not None:
        raise InvalidInput(FOUND_STAYS)
    if not drawn and row.found_model is None:
        raise InvalidInput(NOTHING_FOUND)
    verdict = one.verdict
    if verdict is Verdict.ACCEPTED and not _as_found(row, one.label, box):
        verdict = Verdict.CHANGED  # whatever it is called, it is not what the model had found
    before = (row.verdict, row.label, row.x1, row.y1, row.x2, row.y2)
    if before == (verdict, one.label, *box):
        return False
    row.verdict, row.label, row.author_id = verdict, one.label, author_id
    row.x1, row.y1, row.x2, row.y2 = box
    return True


def _as_found(row: Annotation, label: str, box: Corners) -> bool:
    found = (row.found_x1, row.found_y1, row.found_x2, row.found_y2)
    return label == row.found_label and is_near(found, box)
