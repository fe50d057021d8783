"""Clips and what was found in them, as JSON and as rows."""

from collections.abc import Iterator, Sequence
from typing import Any

from flask_babel import gettext

from apps.i18n import stored_text
from apps.models import Video, VideoFrame, VideoStatus
from apps.vision.colors import color_index

HEADER = ("frame", "time", "label", "score", "x1", "y1", "x2", "y2")


def status_text(clip: Video) -> str:
    """How far a clip is, for people."""
    text: str = _status_text(clip)
    return text


def _status_text(clip: Video) -> Any:
    if clip.status is VideoStatus.RUNNING and clip.cancelled:
        return gettext("Ending …")
    if clip.status is VideoStatus.QUEUED:
        return gettext("Waiting for detection.")
    if clip.status is VideoStatus.RUNNING:
        percent = int(100 * clip.progress)
        return gettext("Looking at the frames: %(percent)s %%", percent=percent)
    if clip.status is VideoStatus.FAILED:
        return stored_text(clip.error or "")
    if clip.status is VideoStatus.CANCELLED:
        return gettext("Cancelled; what was found until then is shown.")
    return gettext("Done.")


def status_json(clip: Video) -> dict[str, object]:
    return {
        "status": clip.status.value,
        "settled": clip.status.settled,
        "progress": round(clip.progress, 3),
        "text": status_text(clip),
    }


def frames_json(clip: Video, frames: Sequence[VideoFrame], more: bool) -> dict[str, object]:
    """For the page: short keys, as there may be many thousand boxes."""
    labels = {str(box["label"]) for frame in frames for box in frame.boxes}
    return {
        **status_json(clip),
        "every": clip.every,
        "model": clip.model,
        "colors": {label: color_index(label) for label in sorted(labels)},
        "frames": [
            {
                "n": frame.number,
                "t": frame.time_ms,
                "b": [[box["label"], box["score"], *box["box"]] for box in frame.boxes],
            }
            for frame in frames
        ],
        "more": more,
    }


def clip_json(clip: Video, frames: Sequence[VideoFrame], threshold: float) -> dict[str, object]:
    """The download: everything that is known."""
    return {
        "clip": clip.title,
        "width": clip.width,
        "height": clip.height,
        "duration": None if clip.duration_ms is None else clip.duration_ms / 1000,
        "every": clip.every,
        "model": clip.model,
        "status": clip.status.value,
        "threshold": threshold,
        "frames": [
            {
                "frame": frame.number,
                "time": frame.time_ms / 1000,
                "boxes": [box for box in frame.boxes if box["score"] >= threshold],
            }
            for frame in frames
        ],
    }


def rows_of(frames: Sequence[VideoFrame], threshold: float) -> Iterator[tuple[object, ...]]:
    """The header and one row for each box; times in seconds, boxes in pixels."""
    yield HEADER
    for frame in frames:
        for box in frame.boxes:
            if box["score"] >= threshold:
                time = f"{frame.time_ms / 1000:.3f}"
                yield (frame.number, time, box["label"], box["score"], *box["box"])
