"""The trash: what was deleted, how long it stays, and the ways back and out."""

from datetime import datetime

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.errors import AppError
from apps.i18n import error_text
from apps.services.trash import Moved
from apps.web import paginate, row_ids, safe_next


@bp.get("/trash")
@login_required
def trash() -> ResponseReturnValue:
    page = paginate(
        services().trash.query(current_user.id), current_app.config["GALLERY_PAGE_SIZE"]
    )
    rows = [(row[0], services().trash.goes_at(row[0])) for row in page.items]
    return render_template("detector/trash.html", page=page, rows=rows)


@bp.post("/trash/restore")
@login_required
def restore() -> ResponseReturnValue:
    """The pictures ``id=…``, those deleted at ``deleted_at``, or with ``all=1`` all of them."""
    moment = _moment(request.form.get("deleted_at", ""))
    ids = None if moment or request.form.get("all") else row_ids(request.form.getlist("id"))
    if ids == []:
        flash(gettext("Select some pictures first."), "error")
        return _back()
    try:
        _tell_restored(services().trash.restore(current_user.id, ids, moment))
    except AppError as error:
        flash(error_text(error), "error")
    return _back()


@bp.route("/trash/delete", methods=["GET", "POST"])
@login_required
def purge() -> ResponseReturnValue:
    """Delete for good, after a question: ``id=…``, or with ``all=1`` all of them."""
    given = request.values
    everything = bool(given.get("all"))
    ids = row_ids(given.getlist("id"))
    if not ids and not everything:
        flash(gettext("Select some pictures first."), "error")
        return _back()
    if request.method == "GET" or not given.get("confirmed"):
        count = services().trash.count(current_user.id) if everything else len(ids)
        return render_template("detector/trash_delete.html", ids=ids, all=everything, count=count)
    gone = services().trash.purge(current_user.id, None if everything else ids)
    text = ngettext(
        "%(num)s picture is deleted for good.", "%(num)s pictures are deleted for good.", gone
    )
    flash(text, "success")
    return redirect(url_for("detector.trash"), 303)


def tell_deleted(moved: Moved, title: str | None = None) -> None:
    """That pictures are in the trash, with the way back beside it: see messages() of _macros."""
    if not moved.done or moved.deleted_at is None:
        return
    if title is not None:
        text = gettext("“%(title)s” is in the trash.", title=title)
    else:
        text = ngettext(
            "%(num)s picture is in the trash.", "%(num)s pictures are in the trash.", moved.done
        )
    flash(text, f"undo {moved.deleted_at.isoformat()}")


def _tell_restored(moved: Moved) -> None:
    for image_id in moved.waiting:
        services().queue.enqueue(image_id)
    text = ngettext("%(num)s picture is back.", "%(num)s pictures are back.", moved.done)
    flash(text, "success")
    if moved.again:
        text = ngettext(
            "%(num)s picture stays in the trash, because the same file was uploaded again.",
            "%(num)s pictures stay in the trash, because the same files were uploaded again.",
            len(moved.again),
        )
        flash(text, "warning")
    if moved.missing:
        text = ngettext(
            "%(num)s picture is no longer there.",
            "%(num)s pictures are no longer there.",
            moved.missing,
        )
        flash(text, "warning")


def _moment(text: str) -> datetime | None:
    """The moment of an undo, aware of its zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _back() -> ResponseReturnValue:
    return redirect(safe_next(request.form.get("next")) or url_for("detector.trash"), 303)
