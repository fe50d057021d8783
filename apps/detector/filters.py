"""Searches kept under a name: keep, rename, delete. To open one is a link to its search."""

from collections.abc import Callable

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.errors import AppError
from apps.i18n import error_text
from apps.web import safe_next


@bp.post("/images/filters")
@login_required
def keep_filter() -> ResponseReturnValue:
    name, search = request.form.get("name", ""), request.form.get("search", "")

    def keep() -> str:
        kept = services().filters.save(current_user.id, name, search.replace("\0", ""))
        text: str = gettext("The search is kept as “%(name)s”.", name=kept.name)
        return text

    return _told(keep)


@bp.post("/images/filters/<int:filter_id>")
@login_required
def rename_filter(filter_id: int) -> ResponseReturnValue:
    name = request.form.get("name", "")

    def rename() -> str:
        kept = services().filters.rename(current_user.id, filter_id, name)
        text: str = gettext("The search is now called “%(name)s”.", name=kept.name)
        return text

    return _told(rename)


@bp.post("/images/filters/<int:filter_id>/delete")
@login_required
def delete_filter(filter_id: int) -> ResponseReturnValue:
    name = services().filters.delete(current_user.id, filter_id)
    flash(gettext("The search “%(name)s” is deleted; its pictures stay.", name=name), "success")
    return _back()


def _told(work: Callable[[], str]) -> ResponseReturnValue:
    """Do it and say so, or say why not; another's search is not there."""
    try:
        flash(work(), "success")
    except AppError as error:
        if error.status == 404:
            raise
        flash(error_text(error), "error")
    return _back()


def _back() -> ResponseReturnValue:
    return redirect(safe_next(request.form.get("next")) or url_for("detector.index"), 303)
