"""Imports: labelled pictures in one ZIP file, looked at before anything comes."""

from typing import Any, BinaryIO, cast

from apps.api import import_schemas, schemas
from apps.api.access import caller, needs
from apps.api.images import only_files
from apps.api.pages import part_of, read_cursor
from apps.api.spec import MULTIPART, Blueprint
from apps.api.waits import until
from apps.container import services
from apps.errors import AppError
from apps.extensions import begin_writing
from apps.i18n import error_text
from apps.models import Import
from apps.services.imports import Choices

bp = Blueprint("imports_api", __name__, description="Labelled pictures in a ZIP file")


@bp.post("/imports")
@needs("write", takes_files=True, most="MAX_IMPORT_BYTES")
@bp.arguments(import_schemas.ImportFile, location=MULTIPART)
@bp.response(202, import_schemas.ImportWithPreview)
def create(form: dict[str, Any]) -> dict[str, Any]:
    """Upload a ZIP file of pictures and labels

    COCO, YOLO, Pascal VOC, CSV and Label Studio are recognised, and what this server exported.
    Nothing comes yet: ask for the import until it is `ready`, look at its preview, and confirm it.
    """
    [file] = only_files([form["archive"]])
    row = services().imports.create(caller().user_id, file.filename, cast(BinaryIO, file.stream))
    return _json(row)


@bp.get("/imports")
@needs("read")
@bp.arguments(schemas.Page, location="query")
@bp.response(200, import_schemas.ImportList)
def imports(query: dict[str, Any]) -> dict[str, Any]:
    """List imports, the latest first"""
    last = read_cursor(query["cursor"])
    limit = query["limit"]
    found = services().imports.mine(caller().user_id, limit + 1, last)
    shown, following = part_of(found, limit, "id")
    return {"items": [_plain(row) for row in shown], "next": following}


@bp.get("/imports/<int:import_id>")
@needs("read")
@bp.arguments(schemas.WaitQuery, location="query")
@bp.response(200, import_schemas.ImportWithPreview)
def show(query: dict[str, Any], import_id: int) -> dict[str, Any]:
    """Ask how far an import is, and what would come

    With `wait` the answer comes when it waits for you or has ended, or after so many seconds; at
    once where too many requests wait already.
    """
    owner = caller().user_id
    mine = services().imports.get_owned
    row = until(lambda: mine(owner, import_id), lambda row: not row.status.busy, query["wait"])
    return _json(row)


@bp.post("/imports/<int:import_id>/confirm")
@needs("write")
@bp.arguments(import_schemas.ImportChoices)
@bp.response(202, import_schemas.ImportWithPreview)
def confirm(body: dict[str, Any], import_id: int) -> dict[str, Any]:
    """Let the pictures of an import come

    Either all of its pictures come, or none.
    """
    begin_writing()
    choices = Choices(body["classes"], body["reviewed"], tuple(body["tags"]), body["detect"])
    return _json(services().imports.confirm(caller().user_id, import_id, choices))


@bp.post("/imports/<int:import_id>/cancel")
@needs("write")
@bp.response(200, import_schemas.ImportWithPreview)
def cancel(import_id: int) -> dict[str, Any]:
    """Let nothing of an import come

    One that has ended stays as it is.
    """
    begin_writing()
    services().imports.cancel(caller().user_id, import_id)
    return _json(services().imports.get_owned(caller().user_id, import_id))


@bp.post("/imports/<int:import_id>/undo")
@needs("write")
@bp.response(200, import_schemas.Undone)
def undo(import_id: int) -> dict[str, Any]:
    """Move every picture that came with an import to the trash"""
    begin_writing()
    return {"moved": services().imports.undo(caller().user_id, import_id)}


@bp.delete("/imports/<int:import_id>")
@needs("write")
@bp.response(204)
def forget(import_id: int) -> None:
    """Take an import that has ended off the list; its pictures stay"""
    begin_writing()
    services().imports.forget(caller().user_id, import_id)


def _plain(row: Import) -> dict[str, Any]:
    error = AppError(row.error, **row.error_params or {}) if row.error else None
    return {
        "id": row.id,
        "title": row.title,
        "bytes": row.bytes,
        "status": row.status.value,
        "progress": round(row.progress, 3),
        "error": error_text(error) if error else None,
        "pictures": row.pictures,
        "boxes": row.boxes,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def _json(row: Import) -> dict[str, Any]:
    return _plain(row) | {"preview": _preview(row.report) if row.report else None}


def _preview(report: dict[str, Any]) -> dict[str, Any]:
    problems = [
        {
            "file": each["file"],
            "message": error_text(AppError(each["message"], **each["params"])),
            "loss": each["loss"],
            "more": each["more"],
        }
        for each in report["problems"]
    ]
    return report | {"format": report["kind"], "problems": problems}
