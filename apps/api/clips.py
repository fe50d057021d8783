"""Clips: how far they are, and what was found in their frames."""

from typing import Any

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.pages import part_of, read_cursor
from apps.api.spec import Blueprint
from apps.container import services
from apps.i18n import stored_text
from apps.models import Video, VideoFrame

bp = Blueprint("clips", __name__, description="Clips, and what was found in their frames")


@bp.get("/clips")
@needs("read")
@bp.arguments(schemas.Page, location="query")
@bp.response(200, schemas.ClipPage)
def clips(query: dict[str, Any]) -> dict[str, Any]:
    """List clips, the latest upload first"""
    last = read_cursor(query["cursor"])
    limit = query["limit"]
    found = services().videos.page(caller().user_id, limit + 1, last)
    shown, following = part_of(found, limit, "id")
    return {"items": [_clip_json(clip) for clip in shown], "next": following}


@bp.get("/clips/<int:clip_id>")
@needs("read")
@bp.response(200, schemas.Clip)
def clip(clip_id: int) -> dict[str, Any]:
    """Look up a clip, and how far it is"""
    return _clip_json(services().videos.get_owned(caller().user_id, clip_id))


@bp.get("/clips/<int:clip_id>/frames")
@needs("read")
@bp.arguments(schemas.FrameQuery, location="query")
@bp.response(200, schemas.FramePage)
def frames(query: dict[str, Any], clip_id: int) -> dict[str, Any]:
    """List what was found in the frames that were looked at, in the order of time

    While the clip is looked at, the list grows: ask again with the last cursor.
    """
    found_in = services().videos.get_owned(caller().user_id, clip_id)
    last = read_cursor(query["cursor"])
    limit = query["limit"]
    found = services().videos.frames(found_in.id, -1 if last is None else last, limit + 1)
    shown, following = part_of(found, limit, "number")
    items = [_frame_json(frame, query["min_score"]) for frame in shown]
    return {"items": items, "next": following}


def _clip_json(clip: Video) -> dict[str, Any]:
    return {
        "id": clip.id,
        "title": clip.title,
        "sha256": clip.sha256,
        "media_type": clip.media_type,
        "bytes": clip.bytes,
        "width": clip.width,
        "height": clip.height,
        "duration_ms": clip.duration_ms,
        "every": clip.every,
        "status": clip.status.value,
        "progress": round(clip.progress, 3),
        "error": stored_text(clip.error) or None,
        "model": clip.model,
        "created_at": clip.created_at,
        "finished_at": clip.finished_at,
    }


def _frame_json(frame: VideoFrame, least: float) -> dict[str, Any]:
    boxes = [box for box in frame.boxes if box["score"] >= least]
    return {"number": frame.number, "time_ms": frame.time_ms, "detections": boxes}
