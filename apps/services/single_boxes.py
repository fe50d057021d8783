"""One box of a picture at a time, for programs: made, changed, accepted, rejected.

Each step is a whole change as a browser would send it (``AnnotationService``), so that versions,
tags and what models said before follow the same rules.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from apps.errors import N_, InvalidInput, Mismatch, NotFound, TooLarge
from apps.models import Annotation, Detection, Verdict
from apps.services.annotations import AnnotationService, Outdated, State
from apps.services.changes import MAX_SAID, Change, Corners, Found, Said, clean_label

TRIES = 5  # of a change that is made for whatever version is there
_MODELS = re.compile(r"m([0-9]{1,10})", re.ASCII)

NO_BOX = N_("There is no such box in this picture.")
OF_NOBODY = N_("A box that was drawn can be changed or deleted; only a model’s can be judged.")
CHANGED = N_("This picture was changed meanwhile. Read its boxes again, then repeat the change.")


@dataclass(frozen=True)
class OneBox:
    """A box as people see it, or one that they rejected."""

    id: str  # a person's: UUID; a model's that nobody has spoken about: "m" and its number
    label: str
    corners: Corners
    verdict: str | None  # of Verdict; None: nobody has spoken about it
    score: float | None  # of the model that found it
    model: str | None
    author: str | None


@dataclass(frozen=True)
class Boxes:
    """The boxes of one version of a picture: a person's, oldest first, then a model's by score."""

    image_id: int
    version: int
    reviewed: bool
    items: Sequence[OneBox]


Step = Callable[[State, list[Said]], tuple[list[Said], str]]  # what is said then, of which box


@dataclass(frozen=True)
class SingleBoxService:
    annotations: AnnotationService

    def all(self, owner_id: int, image_id: int) -> Boxes:
        """Every box of a picture. Raises NotFound."""
        return _boxes(self.annotations.state(owner_id, image_id))

    def create(
        self, owner_id: int, image_id: int, version: int | None, label: str, corners: Corners
    ) -> tuple[Boxes, str]:
        """Draw a box; the boxes then, and its id.

        Args:
            version: that the caller has seen; None: whichever there is.

        Raises:
            NotFound: no such picture of this owner.
            Mismatch: the picture has another version.
            InvalidInput: not a label, or a box without any area inside of the picture.
            TooLarge: the picture has MAX_SAID boxes of people already.
        """
        ref, word = str(uuid.uuid4()), clean_label(label)

        def step(state: State, said: list[Said]) -> tuple[list[Said], str]:
            _require_inside(corners, state)
            if len(said) >= MAX_SAID:
                raise TooLarge(
                    N_(
                        "A picture can have at most %(limit)s boxes of people. "
                        "Remove some of them first."
                    ),
                    limit=MAX_SAID,
                )
            return [*said, Said(ref, Verdict.DRAWN, word, corners, None, None)], ref

        return self._save(owner_id, image_id, version, step)

    def change(
        self,
        owner_id: int,
        image_id: int,
        version: int | None,
        box_id: str,
        label: str | None,
        corners: Corners | None,
    ) -> tuple[Boxes, str]:
        """Another label or other corners; a model's box becomes a person's. Raises as ``create``,
        and NotFound for no such box."""
        word = None if label is None else clean_label(label)

        def step(state: State, said: list[Said]) -> tuple[list[Said], str]:
            one = _find(state, said, box_id)
            if corners is not None:
                _require_inside(corners, state)
            verdict = Verdict.DRAWN if one.found is None else Verdict.CHANGED
            box = corners or one.box
            if one.found is not None and (word or one.label, box) == (
                one.found.label,
                one.found.box,
            ):
                verdict = Verdict.ACCEPTED
            new = replace(one, verdict=verdict, label=word or one.label, box=box)
            return _with(said, new), new.ref

        return self._save(owner_id, image_id, version, step)

    def judge(
        self, owner_id: int, image_id: int, version: int | None, box_id: str, verdict: Verdict
    ) -> tuple[Boxes, str]:
        """Accept or reject what a model found, as it found it. Raises as ``change``."""

        def step(state: State, said: list[Said]) -> tuple[list[Said], str]:
            one = _find(state, said, box_id)
            if one.found is None:
                raise InvalidInput(OF_NOBODY)
            new = replace(one, verdict=verdict, label=one.found.label, box=one.found.box)
            return _with(said, new), new.ref

        return self._save(owner_id, image_id, version, step)

    def delete(self, owner_id: int, image_id: int, version: int | None, box_id: str) -> Boxes:
        """A drawn box goes; one that a model found is rejected, or detection would bring it back.

        Raises as ``change``.
        """

        def step(state: State, said: list[Said]) -> tuple[list[Said], str]:
            one = _find(state, said, box_id)
            if one.found is None:
                return [other for other in said if other.ref != one.ref], one.ref
            return _with(said, replace(one, verdict=Verdict.REJECTED)), one.ref

        return self._save(owner_id, image_id, version, step)[0]

    def review(self, owner_id: int, image_id: int, version: int | None, *, reviewed: bool) -> Boxes:
        """Mark the picture as reviewed, or take the mark off. Raises NotFound and Mismatch."""
        return self._save(
            owner_id, image_id, version, lambda _, said: (said, ""), reviewed=reviewed
        )[0]

    def _save(
        self,
        owner_id: int,
        image_id: int,
        version: int | None,
        step: Step,
        reviewed: bool | None = None,
    ) -> tuple[Boxes, str]:
        for _ in range(TRIES):
            state = self.annotations.state(owner_id, image_id)
            if version not in (None, state.image.version):
                raise Mismatch(CHANGED)
            said, ref = step(state, [_said(row) for row, _name in state.annotations])
            mark = state.image.reviewed_at is not None if reviewed is None else reviewed
            change = Change(state.image.version, str(uuid.uuid4()), mark, tuple(said))
            try:
                self.annotations.save(owner_id, image_id, change)
            except Outdated:
                continue  # the next look finds another version, or the same step fits again
            return self.all(owner_id, image_id), ref
        raise Mismatch(CHANGED)


def _boxes(state: State) -> Boxes:
    image = state.image
    people = [
        OneBox(
            row.ref,
            row.label,
            (row.x1, row.y1, row.x2, row.y2),
            row.verdict.value,
            row.found_score,
            row.found_model,
            author,
        )
        for row, author in state.annotations
    ]
    models = [
        OneBox(f"m{row.id}", row.label, _corners(row), None, row.score, row.model, None)
        for row in state.detections
        if row.annotation_id is None
    ]
    return Boxes(image.id, image.version, image.reviewed_at is not None, [*people, *models])


def find_box(boxes: Boxes, box_id: str) -> OneBox:
    """Raises NotFound: there is none with this id."""
    for box in boxes.items:
        if box.id == box_id:
            return box
    raise NotFound(NO_BOX)


def _find(state: State, said: list[Said], box_id: str) -> Said:
    """What is said of a box, or would be if it was accepted. Raises NotFound."""
    for one in said:
        if one.ref == box_id:
            return one
    named = _MODELS.fullmatch(box_id)
    for row in state.detections:
        if named is None or row.id != int(named[1]):
            continue
        if row.annotation_id is None:
            found = Found(row.model, row.label, row.score, _corners(row))
            ref = str(uuid.uuid4())
            return Said(ref, Verdict.ACCEPTED, row.label, found.box, row.id, found)
        # Somebody has spoken about it since: their word is what the number means now.
        refs = {word.id: word.ref for word, _ in state.annotations}
        return next(one for one in said if one.ref == refs[row.annotation_id])
    raise NotFound(NO_BOX)


def _with(said: list[Said], new: Said) -> list[Said]:
    """``said`` with ``new`` in its place, or at the end."""
    if any(one.ref == new.ref for one in said):
        return [new if one.ref == new.ref else one for one in said]
    return [*said, new]


def _said(row: Annotation) -> Said:
    """As a browser would send it back."""
    found = None
    if row.found_model is not None:
        found = Found(
            row.found_model,
            row.found_label or "",
            row.found_score or 0.0,
            (row.found_x1 or 0.0, row.found_y1 or 0.0, row.found_x2 or 0.0, row.found_y2 or 0.0),
        )
    corners = (row.x1, row.y1, row.x2, row.y2)
    return Said(row.ref, row.verdict, row.label, corners, None, found)


def _corners(row: Detection) -> Corners:
    return row.x1, row.y1, row.x2, row.y2


def _require_inside(corners: Corners, state: State) -> None:
    """Raises InvalidInput unless some of the box is in the picture."""
    x1, y1, x2, y2 = corners
    if not (x1 < x2 and y1 < y2):
        raise InvalidInput(N_("A box is [x1, y1, x2, y2] with x1 < x2 and y1 < y2."))
    if x2 <= 0 or y2 <= 0 or x1 >= state.image.width or y1 >= state.image.height:
        raise InvalidInput(N_("This box lies outside of the picture."))
