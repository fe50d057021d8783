"""The boxes of a picture as people see them: one at a time, each change for a version."""

from typing import Any

from flask import Response, jsonify, request
from flask.typing import ResponseReturnValue

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.spec import Blueprint
from apps.container import services
from apps.errors import N_, Mismatch, Unconditional
from apps.extensions import begin_writing
from apps.models import Verdict
from apps.services.changes import Corners
from apps.services.single_boxes import CHANGED, Boxes, OneBox, find_box

bp = Blueprint(
    "boxes",
    __name__,
    description="The boxes of a picture as people see them: what models found, and what people "
    "drew, changed, accepted and rejected. Each answer has an `ETag`, the version of the picture; "
    "changes send it as `If-Match`.",
)
ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Version of the picture."}}
NO_VERSION = N_("Send the ETag of the boxes that you have seen as “If-Match”, or “*” for any.")


@bp.get("/images/<int:image_id>/boxes")
@needs("read")
@bp.arguments(schemas.BoxQuery, location="query")
@bp.response(200, schemas.Boxes, headers=ETAG)
def boxes(query: dict[str, Any], image_id: int) -> ResponseReturnValue:
    """List the boxes of a picture: a person's first, then a model's, the surest first"""
    found = services().single_boxes.all(caller().user_id, image_id)
    items = [
        _box_json(box)
        for box in found.items
        if (box.verdict is not None or (box.score or 0.0) >= query["min_score"])
        and (box.verdict != Verdict.REJECTED or query["rejected"])
    ]
    body = schemas.Boxes().dump(
        {
            "image": found.image_id,
            "version": found.version,
            "reviewed": found.reviewed,
            "boxes": items,
        }
    )
    response = _versioned(jsonify(body), found)
    return response.make_conditional(request)


@bp.post("/images/<int:image_id>/boxes")
@needs("write")
@bp.arguments(schemas.IfMatch, location="headers")
@bp.arguments(schemas.NewBox)
@bp.response(201, schemas.OneBox, headers=ETAG)
def create_box(headers: dict[str, Any], body: dict[str, Any], image_id: int) -> ResponseReturnValue:
    """Draw a box

    Without If-Match it is added to whatever is there.
    """
    begin_writing()
    version = _version(image_id) if "if_match" in headers else None
    found, box_id = services().single_boxes.create(
        caller().user_id, image_id, version, body["label"], _corners(body["box"])
    )
    return _one(found, box_id, 201)


@bp.get("/images/<int:image_id>/boxes/<box_id>")
@needs("read")
@bp.response(200, schemas.OneBox, headers=ETAG)
def box(image_id: int, box_id: str) -> ResponseReturnValue:
    """Look up a box"""
    return _one(services().single_boxes.all(caller().user_id, image_id), box_id)


@bp.patch("/images/<int:image_id>/boxes/<box_id>")
@needs("write")
@bp.arguments(schemas.IfMatch, location="headers")
@bp.arguments(schemas.BoxChanges)
@bp.response(200, schemas.OneBox, headers=ETAG)
def change_box(
    _headers: dict[str, Any], body: dict[str, Any], image_id: int, box_id: str
) -> ResponseReturnValue:
    """Change the label or the corners of a box

    One that a model found becomes a person's, with another id, and no detection touches it again.
    """
    begin_writing()
    corners = _corners(body["box"]) if "box" in body else None
    found, ref = services().single_boxes.change(
        caller().user_id, image_id, _required(image_id), box_id, body.get("label"), corners
    )
    return _one(found, ref)


@bp.delete("/images/<int:image_id>/boxes/<box_id>")
@needs("write")
@bp.arguments(schemas.IfMatch, location="headers")
@bp.response(204, headers=ETAG)
def delete_box(_headers: dict[str, Any], image_id: int, box_id: str) -> ResponseReturnValue:
    """Delete a box

    One that a model found is rejected instead, so that the next detection does not bring it back.
    """
    begin_writing()
    found = services().single_boxes.delete(caller().user_id, image_id, _required(image_id), box_id)
    return _versioned(Response(status=204), found)


@bp.post("/images/<int:image_id>/boxes/<box_id>/<any(accept, reject):verdict>")
@needs("write")
@bp.arguments(schemas.IfMatch, location="headers")
@bp.response(200, schemas.OneBox, headers=ETAG)
def judge_box(
    _headers: dict[str, Any], image_id: int, box_id: str, verdict: str
) -> ResponseReturnValue:
    """Accept or reject a box as the model found it"""
    begin_writing()
    said = Verdict.ACCEPTED if verdict == "accept" else Verdict.REJECTED
    found, ref = services().single_boxes.judge(
        caller().user_id, image_id, _required(image_id), box_id, said
    )
    return _one(found, ref)


@bp.put("/images/<int:image_id>/reviewed")
@needs("write")
@bp.arguments(schemas.IfMatch, location="headers")
@bp.arguments(schemas.Reviewed)
@bp.response(200, schemas.ReviewState, headers=ETAG)
def review(headers: dict[str, Any], body: dict[str, Any], image_id: int) -> ResponseReturnValue:
    """Mark a picture as reviewed, or take the mark off

    With If-Match only if it is still what was looked at.
    """
    begin_writing()
    version = _version(image_id) if "if_match" in headers else None
    found = services().single_boxes.review(
        caller().user_id, image_id, version, reviewed=body["reviewed"]
    )
    body = {"image": found.image_id, "version": found.version, "reviewed": found.reviewed}
    return _versioned(jsonify(body), found)


# -- versions ------------------------------------------------------------------------------


def _required(image_id: int) -> int | None:
    """As ``_version``. Raises Unconditional without If-Match."""
    services().annotations.require(caller().user_id, image_id)
    if "If-Match" not in request.headers:
        raise Unconditional(NO_VERSION)
    return _version(image_id)


def _version(image_id: int) -> int | None:
    """The version that If-Match names; None: any.

    Raises:
        NotFound: no such picture.
        Mismatch: it names none that can be.
    """
    services().annotations.require(caller().user_id, image_id)
    asked = request.if_match
    if asked.star_tag:
        return None
    for tag in filter(None, asked.as_set()):  # Werkzeug reads an empty one as None
        version = tag.removeprefix(f"{image_id}-")
        if version != tag and version.isascii() and version.isdecimal() and len(version) < 12:
            return int(version)
    raise Mismatch(CHANGED)


def _versioned(response: Response, found: Boxes) -> Response:
    response.set_etag(f"{found.image_id}-{found.version}")
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _one(found: Boxes, box_id: str, status: int = 200) -> Response:
    one = find_box(found, box_id)
    response = jsonify(_box_json(one))
    response.status_code = status
    if status == 201:
        response.headers["Location"] = f"/api/v1/images/{found.image_id}/boxes/{one.id}"
    return _versioned(response, found)


def _corners(values: list[float]) -> Corners:
    x1, y1, x2, y2 = values
    return x1, y1, x2, y2


def _box_json(box: OneBox) -> dict[str, Any]:
    return {
        "id": box.id,
        "label": box.label,
        "box": [round(side, 2) for side in box.corners],
        "source": "model" if box.verdict is None else "person",
        "verdict": box.verdict,
        "score": None if box.score is None else round(box.score, 4),
        "model": box.model,
        "author": box.author,
    }
