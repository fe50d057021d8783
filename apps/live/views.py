"""The page of the camera, and the address that its frames are sent to."""

from flask import Blueprint, current_app, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_limiter.util import get_remote_address
from flask_login import current_user, login_required

from apps.container import services
from apps.errorpages import answer_error
from apps.extensions import limiter
from apps.services.instant import Found
from apps.services.live import FRAME_BYTES
from apps.vision.colors import color_index
from apps.web import CAMERA_HERE

bp = Blueprint("live", __name__, template_folder="templates")


@bp.get("")
@login_required
def index() -> ResponseReturnValue:
    page = render_template(
        "live/index.html",
        here=services().live.here,
        ready_models=services().models.ready(),
        threshold=current_user.threshold,
        max_bytes=FRAME_BYTES,
    )
    response = make_response(page)
    response.headers["Permissions-Policy"] = CAMERA_HERE
    return response


@bp.post("/detect")
@login_required
@limiter.limit(
    lambda: current_app.config["LIVE_RATE"],
    key_func=lambda: current_user.get_id() or get_remote_address(),
)
def detect() -> ResponseReturnValue:
    """What is in the file ``frame``, as JSON; ``model`` is optional."""
    frame = request.files.get("frame")
    if frame is None:
        return answer_error(422, gettext("There is no frame in this request."), "no_file")
    found = services().live.detect(frame.stream, request.form.get("model") or None)
    return jsonify(_found_json(found))


def _found_json(found: Found) -> dict[str, object]:
    boxes = [
        {
            "label": box.label,
            "score": round(box.score, 4),
            "box": [round(side, 1) for side in (box.x1, box.y1, box.x2, box.y2)],
            "color": color_index(box.label),
        }
        for box in found.detections.boxes
    ]
    return {
        "model": found.detections.model,
        "milliseconds": found.read_ms + found.detect_ms,
        "width": found.width,
        "height": found.height,
        "boxes": boxes,
    }
