"""What pages and programs say of an import."""

from typing import Any

from flask_babel import gettext

from apps.errors import N_, AppError
from apps.i18n import error_text, stored_text
from apps.models import Import, ImportStatus

KINDS = {
    "coco": "COCO",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "csv": "CSV",
    "labelstudio": "Label Studio",
    "native": N_("Sightbox archive"),
}


def kind_text(kind: str) -> str:
    """The name of a format."""
    return stored_text(KINDS.get(kind, kind))


def status_text(row: Import) -> str:
    """How far an import is, for people."""
    text: str = _status_text(row)
    return text


def _status_text(row: Import) -> Any:
    percent = int(100 * row.progress)
    if row.status.busy and row.cancelled:
        return gettext("Ending …")
    if row.status is ImportStatus.WAITING:
        return gettext("Waiting to be looked at.")
    if row.status is ImportStatus.CHECKING:
        return gettext("Looking into the archive: %(percent)s %%", percent=percent)
    if row.status is ImportStatus.READY:
        return gettext("Choose what shall come.")
    if row.status is ImportStatus.QUEUED:
        return gettext("Waiting for its turn.")
    if row.status is ImportStatus.RUNNING:
        return gettext("Importing: %(percent)s %%", percent=percent)
    if row.status is ImportStatus.FAILED:
        return failure_text(row)
    if row.status is ImportStatus.CANCELLED:
        return gettext("Cancelled; nothing came.")
    if row.status is ImportStatus.UNDONE:
        return gettext("Undone; its pictures are in the trash.")
    return gettext(
        "Done: %(pictures)s pictures with %(boxes)s boxes came.",
        pictures=row.pictures,
        boxes=row.boxes,
    )


def failure_text(row: Import) -> str:
    """Why an import failed; empty if it did not."""
    return error_text(AppError(row.error, **row.error_params or {})) if row.error else ""


def problem_text(problem: dict[str, Any]) -> str:
    """One problem of a report."""
    return error_text(AppError(problem["message"], **problem["params"]))


def status_json(row: Import) -> dict[str, Any]:
    return {
        "status": row.status.value,
        "busy": row.status.busy,
        "progress": round(row.progress, 3),
        "text": status_text(row),
    }
