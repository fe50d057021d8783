"""What the services know, as what the schemas write."""

from typing import Any

from flask import url_for

from apps.errors import AppError, DuplicateImage
from apps.i18n import error_text, stored_text
from apps.models import SETTLED, Image, ImageStatus
from apps.vision.types import Box


def image_json(image: Image) -> dict[str, Any]:
    """A stored picture with its tags."""
    return {
        "id": image.id,
        "title": image.title,
        "sha256": image.sha256,
        "media_type": image.media_type,
        "bytes": image.bytes,
        "width": image.width,
        "height": image.height,
        "status": image.status.value,
        "error": stored_text(image.error) or None,
        "model": image.model,
        "created_at": image.created_at,
        "detected_at": image.detected_at,
        "tags": [tag.name for tag in image.tags],
        "files": {
            kind: url_for("images.file", image_id=image.id, kind=kind)
            for kind in ("original", "display", "thumbnail")
        },
    }


def job_json(image: Image) -> dict[str, Any]:
    """The detection of a stored picture, as a job."""
    done = image.status is ImageStatus.DONE
    settled = image.status in SETTLED
    return {
        "id": image.id,
        "status": image.status.value,
        "error": stored_text(image.error) or None,
        "model": image.model if done else image.wanted_model,
        "queued_at": image.queued_at,
        "finished_at": image.detected_at if settled and done else None,
        "duration_ms": image.duration_ms if done else None,
    }


def box_json(box: Box) -> dict[str, Any]:
    corners = (box.x1, box.y1, box.x2, box.y2)
    return {
        "label": box.label,
        "score": round(box.score, 4),
        "box": [round(value, 2) for value in corners],
    }


def error_json(error: AppError) -> dict[str, Any]:
    """An error in the place of a result, where others went well."""
    return {"code": error.code, "message": error_text(error)} | twin_json(error)


def twin_json(error: AppError) -> dict[str, int]:
    """Of a duplicate: which picture of the account is there already, if it still is."""
    if not isinstance(error, DuplicateImage) or error.image_id is None:
        return {}
    return {"image": error.image_id}
