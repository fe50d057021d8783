"""Jobs: the detections that wait, run or have ended."""

from typing import Any

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.pages import part_of, read_cursor
from apps.api.spec import Blueprint
from apps.api.values import job_json
from apps.api.waits import until
from apps.container import services
from apps.models import SETTLED, Image

bp = Blueprint("jobs", __name__, description="Detections that wait, run or have ended")


@bp.get("/jobs")
@needs("read")
@bp.arguments(schemas.JobQuery, location="query")
@bp.response(200, schemas.JobList)
def jobs(query: dict[str, Any]) -> dict[str, Any]:
    """List what waits and what is looked at now, or with `status` what has ended

    What has not ended comes in the order of its upload, the rest the latest first.
    """
    owner, limit = caller().user_id, query["limit"]
    last = read_cursor(query["cursor"])
    waiting = services().images.totals(owner).waiting
    found = services().requests.of_owner(owner, query["status"], limit + 1, last)
    shown, following = part_of(found, limit, "id")
    items = [job_json(image) for image in shown]
    return {"waiting": waiting, "items": items, "next": following}


@bp.get("/jobs/<int:image_id>")
@needs("read")
@bp.arguments(schemas.WaitQuery, location="query")
@bp.response(200, schemas.Job)
def job(query: dict[str, Any], image_id: int) -> dict[str, Any]:
    """Ask how far a detection is

    With `wait` the answer comes when it has ended, or after so many seconds; at once where
    too many requests wait already.
    """
    return job_json(settled(caller().user_id, image_id, query["wait"]))


def settled(owner_id: int, image_id: int, seconds: float) -> Image:
    """A picture as soon as its detection has ended, or as it is after ``seconds``.

    Raises:
        NotFound: no such picture of this owner, or not any more.
    """
    return until(
        lambda: services().images.get_owned(owner_id, image_id),
        lambda image: image.status in SETTLED,
        seconds,
    )
