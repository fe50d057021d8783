"""The boxes of pictures as they stand: a model's, and over them what people made of them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.models import STANDS, UNSAID, Annotation, Detection, Image, User, Verdict
from apps.vision.formats.dataset import LabelledBox, LabelledPicture
from apps.vision.types import Box

PRESENT = and_(Image.id == Detection.image_id, Image.model == Detection.model)


@dataclass(frozen=True)
class BoxService:
    session: scoped_session[Session]

    def effective(
        self, image_ids: Collection[int], threshold: float, *, masks: bool = True
    ) -> dict[int, list[Box]]:
        """For each picture a person's boxes, which are certain, then the model's, best first.

        Those of its present result count from ``threshold`` on (0..1) where nobody has spoken
        about them; rejected ones are absent.

        Args:
            masks: whether they are needed, which are some kilobytes each.
        """
        return self._boxes(image_ids, Detection.score >= threshold, masks)

    def truth(self, image_ids: Collection[int]) -> Iterator[LabelledPicture]:
        """The reviewed ones among the pictures, as examples to learn from, by id.

        Whoever marks a picture reviewed has seen what it shows: boxes that nobody touched, at and
        above the owner's threshold, are right by that, and those below it are not there. Each is
        named by its original's file name; ``file`` is left to who reads the storage.
        """
        query = select(Image).where(Image.id.in_(image_ids), Image.reviewed_at.is_not(None))
        images = self.session.scalars(query.order_by(Image.id)).all()
        shown = Detection.score >= User.threshold
        boxes = self._boxes([image.id for image in images], shown, masks=False)
        for image in images:
            yield LabelledPicture(
                image.original_name,
                None,
                image.width,
                image.height,
                tuple(_labelled(box) for box in boxes[image.id]),
            )

    def _boxes(
        self, image_ids: Collection[int], shown: ColumnElement[bool], masks: bool
    ) -> dict[int, list[Box]]:
        found: dict[int, list[Box]] = {image_id: [] for image_id in image_ids}
        outlines = self._masks(image_ids) if masks else {}
        said = select(Annotation).where(Annotation.image_id.in_(image_ids), STANDS)
        for word in self.session.scalars(said.order_by(Annotation.id)):
            mask = outlines.get(word.id) if word.verdict is Verdict.ACCEPTED else None
            corners = (word.x1, word.y1, word.x2, word.y2)
            found[word.image_id].append(Box(word.label, 1.0, *corners, mask, by_person=True))
        query = (
            select(Detection)
            .join(Image, PRESENT)
            .join(User, User.id == Image.owner_id)
            .where(Image.id.in_(image_ids), UNSAID, shown)
            .order_by(Detection.score.desc(), Detection.id)
        )
        if masks:
            query = query.options(undefer(Detection.mask))
        for row in self.session.scalars(query):
            mask = row.mask if masks else None
            box = Box(row.label, row.score, row.x1, row.y1, row.x2, row.y2, mask)
            found[row.image_id].append(box)
        return found

    def _masks(self, image_ids: Collection[int]) -> dict[int, str]:
        """Annotation to the mask of the best present box that it stands for."""
        rows = self.session.execute(
            select(Detection.annotation_id, Detection.mask)
            .join(Image, PRESENT)
            .where(Image.id.in_(image_ids), ~UNSAID, Detection.mask.is_not(None))
            .order_by(Detection.score)
        )
        return {word: mask for word, mask in rows if word is not None and mask is not None}


def _labelled(box: Box) -> LabelledBox:
    return LabelledBox(box.label, (box.x1, box.y1, box.x2, box.y2))
