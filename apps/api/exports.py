"""Exports: made in the background, asked for until they are ready, then downloaded."""

from typing import Any

from flask import url_for
from flask.typing import ResponseReturnValue

from apps.api import export_schemas
from apps.api.access import caller, needs
from apps.api.spec import Blueprint
from apps.container import services
from apps.errors import NotFound
from apps.extensions import begin_writing, writing
from apps.files import send_stored
from apps.i18n import stored_text
from apps.models import Export, ExportStatus
from apps.services.export_writers import ACCOUNT
from apps.services.exports import NOT_THERE, Wanted

bp = Blueprint("exports", __name__, description="Pictures and boxes as ZIP files")
ZIP = {"type": "string", "format": "binary"}


@bp.post("/exports")
@needs("read")
@bp.arguments(export_schemas.NewExport)
@bp.response(202, export_schemas.Export)
def new_export(body: dict[str, Any]) -> dict[str, Any]:
    """Begin an export

    Ask for it until its status is “ready”; then its file can be downloaded for some days. It
    changes no picture, so a token that reads is enough; to delete it takes one that writes.
    """
    wanted = Wanted(
        body["format"],
        body["boxes"],
        body.get("threshold"),
        body["pictures"],
        tuple(body["ids"]) if "ids" in body else None,
        body.get("search", "").replace("\0", "").strip() or None,
    )
    with writing():
        made = services().exports.create(caller().user_id, wanted)
        return _json(made)


@bp.get("/exports")
@needs("read")
@bp.response(200, export_schemas.Export(many=True))
def exports() -> list[dict[str, Any]]:
    """List your exports, of which there are few, the latest first"""
    mine = services().exports.of_owner(caller().user_id)
    return [_json(each) for each in mine if each.kind != ACCOUNT]


@bp.get("/exports/<int:export_id>")
@needs("read")
@bp.response(200, export_schemas.Export)
def export(export_id: int) -> dict[str, Any]:
    """Ask how far an export is"""
    return _json(_mine(export_id))


@bp.get("/exports/<int:export_id>/file")
@needs("read")
@bp.response(200, ZIP, content_type="application/zip")
@bp.alt_response(206, schema=ZIP, content_type="application/zip", success=True)
@bp.alt_response(302, description="Where the storage itself has it", success=True)
def export_file(export_id: int) -> ResponseReturnValue:
    """Download the file of an export

    Parts are sent on request (`Range`), so that a broken download can go on.
    """
    _mine(export_id)
    return send_stored(services().exports.open(caller().user_id, export_id))


@bp.delete("/exports/<int:export_id>")
@needs("write")
@bp.response(204)
def delete_export(export_id: int) -> None:
    """Delete an export with its file; one that is not ready is stopped"""
    begin_writing()
    _mine(export_id)
    services().exports.delete(caller().user_id, export_id)


def _mine(export_id: int) -> Export:
    """An export of the caller, but not that of the whole account, which no token may see."""
    found = services().exports.get(caller().user_id, export_id)
    if found.kind == ACCOUNT:
        raise NotFound(NOT_THERE)
    return found


def _json(row: Export) -> dict[str, Any]:
    ready = row.status is ExportStatus.READY
    return {
        "id": row.id,
        "format": row.kind,
        "search": row.search,
        "boxes": row.boxes,
        "threshold": row.threshold,
        "pictures": row.with_pictures,
        "status": row.status.value,
        "progress": row.progress,
        "error": stored_text(row.error) or None,
        "bytes": row.bytes,
        "counts": row.counts,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "expires_at": row.expires_at,
        "file": url_for("exports.export_file", export_id=row.id) if ready else None,
    }
