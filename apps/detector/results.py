"""Results as plain data: what the JSON answers and the drawings are made of."""

from collections.abc import Mapping
from typing import Any

from flask import url_for

from apps.i18n import error_text
from apps.models import Image
from apps.services.images import Outcome
from apps.vision.types import Box


def threshold_of(args: Mapping[str, str], default: float) -> float:
    """The score in 0..1 that ``?threshold=`` names; ``default`` if it names none."""
    try:
        value = float(args.get("threshold", ""))
    except ValueError:
        return default
    return min(max(value, 0.0), 1.0) if value == value else default  # NaN is not itself


def boxes_of(image: Image, threshold: float) -> list[Box]:
    """The stored boxes of ``image`` at and above ``threshold``."""
    return [
        Box(found.label, found.score, found.x1, found.y1, found.x2, found.y2)
        for found in image.detections
        if found.score >= threshold
    ]


def picture_json(image: Image, threshold: float) -> dict[str, Any]:
    """One picture with its boxes; corners in pixels of the upright picture."""
    return {
        "id": image.id,
        "file": image.title,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "status": image.status.value,
        "model": image.model,
        "duration_ms": image.duration_ms,
        "detected_at": image.detected_at.isoformat() if image.detected_at else None,
        "threshold": threshold,
        "tags": [link.tag.name for link in image.tag_links if link.source != "removed"],
        "boxes": [
            {
                "label": found.label,
                "score": round(found.score, 4),
                "x1": round(found.x1, 2),
                "y1": round(found.y1, 2),
                "x2": round(found.x2, 2),
                "y2": round(found.y2, 2),
            }
            for found in image.detections
            if found.score >= threshold
        ],
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
