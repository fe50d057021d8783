"""The page of one's exports: what is made, how far it is, and its file."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.errors import AppError
from apps.files import send_stored
from apps.i18n import error_text
from apps.services.export_pictures import BOTH
from apps.services.exports import Wanted
from apps.services.search import MAX_TEXT

FORMATS = {  # names that are the same in every language
    "coco": "COCO JSON",
    "yolo": "YOLO (Ultralytics)",
    "voc": "Pascal VOC",
    "csv": "CSV",
    "labelstudio": "Label Studio JSON",
}


@bp.app_template_global()
def export_formats() -> dict[str, str]:
    """Formats to choose from and what people call them."""
    return FORMATS | {"native": gettext("Sightbox archive, which restores exactly")}


@bp.app_template_global()
def export_boxes() -> dict[str, str]:
    """Whose boxes can be chosen."""
    return {
        "both": gettext("Boxes of models and people, as the pictures show them"),
        "model": gettext("Boxes of models alone"),
        "person": gettext("Boxes of people alone"),
    }


@bp.get("/exports")
@login_required
def exports() -> ResponseReturnValue:
    return _page(request.args.get("search", "").replace("\0", "").strip()[:MAX_TEXT])


def _page(search: str, mistake: str | None = None) -> str:
    return render_template(
        "detector/exports.html",
        exports=services().exports.of_owner(current_user.id),
        search=search,
        mistake=mistake,
        days=services().export_jobs.days,
    )


@bp.post("/exports")
@login_required
def new_export() -> ResponseReturnValue:
    """Of what ``search`` finds, or of everything."""
    form = request.form
    search = form.get("search", "").replace("\0", "").strip()[: MAX_TEXT + 1]
    wanted = Wanted(
        form.get("format", "coco"),
        form.get("boxes", BOTH),
        share_of(form.get("threshold", "")),
        form.get("pictures") == "1",
        search=search or None,
    )
    try:
        services().exports.create(current_user.id, wanted)
    except AppError as error:
        return _page(search, error_text(error)), error.status
    return redirect(url_for("detector.exports"), 303)


def share_of(text: str) -> float | None:
    """Percent as a share; nothing is the account's threshold, nonsense is out of range."""
    if not text.strip():
        return None
    try:
        return float(text) / 100
    except ValueError:
        return -1.0


@bp.get("/exports/<int:export_id>/file")
@login_required
def export_file(export_id: int) -> ResponseReturnValue:
    return send_stored(services().exports.open(current_user.id, export_id))


@bp.post("/exports/<int:export_id>/cancel")
@login_required
def cancel_export(export_id: int) -> ResponseReturnValue:
    services().exports.cancel(current_user.id, export_id)
    return redirect(url_for("detector.exports"), 303)


@bp.post("/exports/<int:export_id>/delete")
@login_required
def delete_export(export_id: int) -> ResponseReturnValue:
    services().exports.delete(current_user.id, export_id)
    flash(gettext("The export is deleted."), "success")
    return redirect(url_for("detector.exports"), 303)
