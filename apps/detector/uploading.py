"""Upload: the plain form, and what the tray of every page asks."""

from flask import flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required
from flask_wtf.csrf import generate_csrf

from apps.container import services
from apps.detector.blueprint import bp
from apps.detector.forms import UploadForm
from apps.detector.results import outcome_json
from apps.errors import N_, Conflict
from apps.i18n import error_text
from apps.services.uploads import Outcome
from apps.web import wants_json

ACCOUNT = "X-Account"  # header: the id of the account whose queue a file comes from


@bp.route("/upload", methods=["GET", "POST"])
@login_required
def upload() -> ResponseReturnValue:
    form = UploadForm()
    if not form.validate_on_submit():
        status = 422 if form.is_submitted() else 200
        if form.is_submitted() and wants_json():
            return jsonify(error={"code": "no_file", "message": form.image.errors[0]}), status
        return render_template("detector/upload.html", form=form), status
    _refuse_other_account()
    files = [(file.filename, file.stream) for file in form.image.data]
    outcomes = services().uploads.upload_many(current_user.id, files)
    return _upload_answer(form, outcomes)


def _refuse_other_account() -> None:
    """A queue that waits in a browser must not go into the account of who logged in meanwhile."""
    if request.headers.get(ACCOUNT, str(current_user.id)) != str(current_user.id):
        error = Conflict(N_("Somebody else is logged in meanwhile. Log in again to go on."))
        error.code = "other_account"
        raise error


def _upload_answer(form: UploadForm, outcomes: list[Outcome]) -> ResponseReturnValue:
    """All good: on to the pictures. Some refused: the page says which and why."""
    good = [outcome.image for outcome in outcomes if outcome.image is not None]
    status = 201 if good else 422
    if wants_json():
        return jsonify(results=[outcome_json(outcome) for outcome in outcomes]), status
    if len(good) < len(outcomes):
        page = render_template(
            "detector/upload.html", form=form, outcomes=outcomes, error_text=error_text
        )
        return page, 200 if good else 422
    if len(good) == 1:
        return redirect(url_for("detector.show", image_id=good[0].id), 303)
    flash(gettext("%(count)s pictures uploaded.", count=len(good)), "success")
    return redirect(url_for("detector.index"), 303)


@bp.get("/upload/session")
@login_required
def upload_session() -> ResponseReturnValue:
    """Who is logged in, and a token for the next uploads: asked after a break."""
    return jsonify(account=current_user.id, csrf_token=generate_csrf())
