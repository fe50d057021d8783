"""Detections of stored pictures: ask for one, wait for it, read what was found."""

from typing import Any

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.jobs import settled
from apps.api.spec import Blueprint
from apps.api.values import box_json, job_json
from apps.container import services
from apps.extensions import begin_writing, writing
from apps.models import SETTLED
from apps.vision.masks import segmentation
from apps.vision.types import Box

bp = Blueprint("detections", __name__, description="What was found in stored pictures")


@bp.post("/images/<int:image_id>/detections")
@needs("write")
@bp.arguments(schemas.DetectBody, required=False)
@bp.response(200, schemas.Job, description="It is done")
@bp.alt_response(202, schema=schemas.Job, description="It waits: ask /jobs/{id}", success=True)
def detect(body: dict[str, Any], image_id: int) -> Any:
    """Look at a picture again

    Answers 202 at once, or with `wait` after at most so many seconds; 200 if it is done by then.
    """
    owner = caller().user_id
    with writing():  # and no longer: each look of a wait would stand in line with all writers
        services().requests.again(image_id, owner_id=owner, model=body["model"])
    image = settled(owner, image_id, body["wait"])
    address = {"Location": f"/api/v1/jobs/{image_id}"}
    return job_json(image), 200 if image.status in SETTLED else 202, address


@bp.post("/detections")
@needs("write")
@bp.arguments(schemas.DetectMany)
@bp.response(202, schemas.Queued)
def detect_many(body: dict[str, Any]) -> Any:
    """Look at many pictures again"""
    begin_writing()
    return services().requests.again_many(body["images"], caller().user_id, body["model"])


@bp.get("/images/<int:image_id>/detections")
@needs("read")
@bp.arguments(schemas.ResultQuery, location="query")
@bp.response(200, schemas.Detections)
def detections(query: dict[str, Any], image_id: int) -> dict[str, Any]:
    """List what was found in a picture, the surest first

    By default what the present model says; `model` names another one that has looked at it.
    """
    image = services().images.get_owned(caller().user_id, image_id)
    model = query["model"] or image.model
    boxes: list[dict[str, Any]] = []
    if model is not None:
        services().results.find(image.id, model)
        size = (image.width, image.height)
        for found in services().results.boxes(image.id, model):
            if found.score >= query["min_score"]:
                corners = (found.x1, found.y1, found.x2, found.y2)
                boxes.append(
                    box_json(Box(found.label, found.score, *corners))
                    | {"id": found.id}
                    | ({"segmentation": segmentation(found.mask, size)} if found.mask else {})
                )
    return {
        "image": image.id,
        "status": image.status.value,
        "model": model,
        "detections": boxes,
    }
