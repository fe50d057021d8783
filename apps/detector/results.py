"""Results as plain data: what the JSON answers and the drawings are made of."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import url_for

from apps.i18n import error_text
from apps.models import Annotation, Detection, Image, Result
from apps.services.annotations import Signed
from apps.services.uploads import Outcome
from apps.vision.masks import segmentation
from apps.vision.types import Box


def threshold_of(args: Mapping[str, str], default: float) -> float:
    """The score in 0..1 that ``?threshold=`` names; ``default`` if it names none."""
    try:
        value = float(args.get("threshold", ""))
    except ValueError:
        return default
    return min(max(value, 0.0), 1.0) if value == value else default  # NaN is not itself


def boxes_of(detections: Iterable[Detection], threshold: float = 0.0) -> list[Box]:
    """Those of the stored boxes at and above ``threshold``."""
    return [
        Box(found.label, found.score, found.x1, found.y1, found.x2, found.y2, found.mask)
        for found in detections
        if found.score >= threshold
    ]


def picture_json(
    image: Image,
    result: Result | None,
    boxes: Iterable[Box],
    threshold: float,
    said: Iterable[Signed] = (),
) -> dict[str, Any]:
    """One picture with boxes; corners in pixels of the upright picture.

    Args:
        result: what the model's boxes among ``boxes`` are of.
        said: what people say about boxes, rejected ones too.
    """
    return {
        "id": image.id,
        "file": image.title,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "status": image.status.value,
        "model": result.model if result else None,
        "duration_ms": result.duration_ms if result else None,
        "detected_at": result.detected_at.isoformat() if result else None,
        "threshold": threshold,
        "tags": [link.tag.name for link in image.tag_links if link.source != "removed"],
        "reviewed": image.reviewed_at is not None,
        "boxes": [_box_json(box, (image.width, image.height)) for box in boxes],
        "annotations": [annotation_json(word, author) for word, author in said],
    }


def _box_json(box: Box, size: tuple[int, int]) -> dict[str, Any]:
    """One box; of a model with masks also its mask, as COCO writes it.

    A person's has no score: it is certain.
    """
    found: dict[str, Any] = {
        "label": box.label,
        "score": None if box.by_person else round(box.score, 4),
        "x1": round(box.x1, 2),
        "y1": round(box.y1, 2),
        "x2": round(box.x2, 2),
        "y2": round(box.y2, 2),
    }
    if box.by_person:
        found["by_person"] = True
    if box.mask is not None:
        found["segmentation"] = segmentation(box.mask, size)
    return found


def annotation_json(word: Annotation, author: str | None) -> dict[str, Any]:
    """A person's word on one box, and what the model had found there."""
    found = None
    if word.found_model is not None:
        corners = [word.found_x1, word.found_y1, word.found_x2, word.found_y2]
        found = {
            "model": word.found_model,
            "label": word.found_label,
            "score": word.found_score,
            "box": corners,
        }
    return {
        "ref": word.ref,
        "verdict": word.verdict.value,
        "label": word.label,
        "box": [word.x1, word.y1, word.x2, word.y2],
        "found": found,
        "author": author,
        "updated_at": word.updated_at.isoformat(),
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """What became of one uploaded file."""
    if outcome.image is not None:
        return {
            "file": outcome.title,
            "ok": True,
            "id": outcome.image.id,
            "url": url_for("detector.show", image_id=outcome.image.id),
            "thumbnail": url_for("detector.file", filename=outcome.image.thumbnail_name),
        }
    error = outcome.error
    return {
        "file": outcome.title,
        "ok": False,
        "code": error.code if error else "error",
        "message": error_text(error) if error else "",
    }
