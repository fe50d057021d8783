"""What the editor of a picture reads and saves: its state as JSON, always the whole of it."""

from typing import Any

from flask import Response, jsonify, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from werkzeug.exceptions import RequestEntityTooLarge

from apps.container import services
from apps.detector.blueprint import bp, mask_path
from apps.detector.results import annotation_json
from apps.extensions import writing
from apps.i18n import error_text
from apps.models import Detection, Image
from apps.services.annotations import Outdated, State
from apps.services.changes import read_change, too_large


@bp.get("/images/<int:image_id>/state.json")
@login_required
def state(image_id: int) -> ResponseReturnValue:
    return _answer(services().annotations.state(current_user.id, image_id))


@bp.put("/images/<int:image_id>/state.json")
@login_required
def save_state(image_id: int) -> ResponseReturnValue:
    """Keep what a person says about the boxes; 409 with the present state if it has changed."""
    owner_id, annotations = current_user.id, services().annotations
    annotations.require(owner_id, image_id)  # another's picture: 404 before all else
    change = read_change(_body())
    try:
        with writing():
            annotations.save(owner_id, image_id, change)
    except Outdated as error:
        told = {"code": error.code, "message": error_text(error), "status": error.status}
        present = state_json(annotations.state(owner_id, image_id))
        return jsonify(error=told, state=present), error.status
    return _answer(annotations.state(owner_id, image_id))


def _body() -> bytes:
    """What was sent. Raises TooLarge if it is more than any request may send."""
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large() from None


def _answer(found: State) -> Response:
    response = jsonify(state_json(found))
    response.set_etag(str(found.image.version))
    return response


def state_json(found: State) -> dict[str, Any]:
    """A picture as the editor knows it; corners are pixels of the upright picture."""
    image = found.image
    refs = {word.id: word.ref for word, _ in found.annotations}
    about: dict[int, int] = {}  # annotation to the best present box that it stands for
    for box in found.detections:
        if box.annotation_id is not None:
            about.setdefault(box.annotation_id, box.id)
    return {
        "id": image.id,
        "version": image.version,
        "reviewed": image.reviewed_at is not None,
        "width": image.width,
        "height": image.height,
        "status": image.status.value,
        "model": image.model,
        "detections": [_detection_json(box, image, refs) for box in found.detections],
        "annotations": [
            annotation_json(word, author) | {"detection": about.get(word.id)}
            for word, author in found.annotations
        ],
        "tags": [
            {"id": link.tag_id, "name": link.tag.name, "source": link.source.value}
            for link in sorted(image.tag_links, key=lambda link: link.tag.name)
            if link.source != "removed"
        ],
    }


def _detection_json(box: Detection, image: Image, refs: dict[int, str]) -> dict[str, Any]:
    return {
        "id": box.id,
        "label": box.label,
        "score": box.score,
        "box": [box.x1, box.y1, box.x2, box.y2],
        "annotation": refs.get(box.annotation_id) if box.annotation_id is not None else None,
        "mask": mask_path(box.mask, image) if box.mask is not None else None,
    }
