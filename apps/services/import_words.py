"""The rows of what people say about the boxes of an imported picture."""

import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from apps.models import Verdict, utcnow
from apps.services.annotations import is_near
from apps.services.import_planned import ModelBox
from apps.services.native import NativeAnnotation
from apps.vision.agreement import became
from apps.vision.formats.dataset import Corners
from apps.vision.types import Box

SIDES = ("x1", "y1", "x2", "y2")
PersonBox = tuple[str, Corners]  # label, and corners in pixels of the upright picture


def origins(
    boxes: Sequence[PersonBox],
    corrected: Collection[Corners],
    found: Sequence[ModelBox],
    shown: str | None,
) -> list[ModelBox | None]:
    """For each of ``boxes`` that of a model which a person made it of; None: it is drawn.

    Args:
        corrected: the corners of those that became of a model's box.
        found: the boxes of models.
        shown: the model whose boxes people see first.
    """
    made: list[ModelBox | None] = [None] * len(boxes)
    places = [place for place, (_, corners) in enumerate(boxes) if corners in corrected]
    words = [Box(boxes[place][0], 1.0, *boxes[place][1]) for place in places]
    candidates = [Box(box.label, box.score, *box.corners) for box in found]
    matches = became(words, candidates, [box.model == shown for box in found])
    for place, match in zip(places, matches, strict=True):
        made[place] = None if match is None else found[match]
    return made


def word_rows(
    image_id: int,
    author_id: int,
    boxes: Sequence[PersonBox],
    made_of: Sequence[ModelBox | None],
) -> Iterator[dict[str, Any]]:
    """Rows of Annotation: with what a model had found, as if a person had changed it here."""
    now = utcnow()
    for (label, corners), origin in zip(boxes, made_of, strict=True):
        row = {
            "image_id": image_id,
            "ref": str(uuid.uuid4()),
            "author_id": author_id,
            "verdict": _verdict(label, corners, origin),
            "label": label,
            "created_at": now,
            "updated_at": now,
        }
        if origin is None:
            row |= _found(None, None, None, None)
        else:
            row |= _found(origin.model, origin.label, origin.score, origin.corners)
        yield row | dict(zip(SIDES, corners, strict=True))


def native_row(word: NativeAnnotation, image_id: int, author_id: int) -> dict[str, Any]:
    """A row of Annotation that is as it was."""
    found = word.found
    row = {
        "image_id": image_id,
        "ref": word.ref,
        "author_id": author_id,
        "verdict": Verdict(word.verdict),
        "label": word.label,
        "created_at": word.created_at,
        "updated_at": word.updated_at,
    }
    if found is None:
        row |= _found(None, None, None, None)
    else:
        row |= _found(found.model, found.label, found.score, found.box)
    return row | dict(zip(SIDES, word.box, strict=True))


def _verdict(label: str, corners: Corners, origin: ModelBox | None) -> Verdict:
    if origin is None:
        return Verdict.DRAWN
    same = label == origin.label and is_near(corners, origin.corners)
    return Verdict.ACCEPTED if same else Verdict.CHANGED


def _found(
    model: str | None, label: str | None, score: float | None, box: Corners | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"found_model": model, "found_label": label, "found_score": score}
    corners = box or (None, None, None, None)
    return row | {f"found_{side}": at for side, at in zip(SIDES, corners, strict=True)}
