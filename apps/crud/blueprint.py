"""The blueprint, its one guard, and where it begins."""

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from apps.errors import N_, Forbidden

bp = Blueprint("crud", __name__, template_folder="templates")


@bp.before_request
def administrators_only() -> ResponseReturnValue | None:
    """Guard every page here, so that a new one cannot forget to."""
    if not current_user.is_authenticated:
        answer: ResponseReturnValue = current_app.login_manager.unauthorized()  # type: ignore[attr-defined]
        return answer
    if not current_user.is_admin:
        raise Forbidden(N_("This page is for administrators only."))
    return None


@bp.get("/")
def index() -> ResponseReturnValue:
    return redirect(url_for("crud.users"))
