"""What is done with several pictures of the gallery at once: ``id=…&id=…``, then back to it."""

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.services.requests import Queued
from apps.web import row_ids, safe_next


@bp.post("/images/detect")
@login_required
def detect_many() -> ResponseReturnValue:
    ids = row_ids(request.form.getlist("id"))
    model = request.form.get("model") or None
    if ids:
        _tell(services().requests.again_many(ids, current_user.id, model))
    else:
        flash(gettext("Select some pictures first."), "error")
    return redirect(safe_next(request.form.get("next")) or url_for("detector.index"), 303)


def _tell(done: Queued) -> None:
    """One message for each kind of outcome that there was."""
    if done.queued:
        text = ngettext(
            "%(num)s picture is queued for detection.",
            "%(num)s pictures are queued for detection.",
            done.queued,
        )
        flash(text, "success")
    if done.waiting:
        text = ngettext(
            "%(num)s picture was left alone, because it is waiting already.",
            "%(num)s pictures were left alone, because they are waiting already.",
            done.waiting,
        )
        flash(text, "warning")
    if done.missing:
        text = ngettext(
            "%(num)s picture is no longer there.",
            "%(num)s pictures are no longer there.",
            done.missing,
        )
        flash(text, "warning")
