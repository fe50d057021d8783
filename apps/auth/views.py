"""The account page. Sign-up, login, logout and passwords are Flask-Security's views."""

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required
from flask_security.utils import logout_user

from apps.auth.forms import DeleteAccountForm, ProfileForm
from apps.container import services
from apps.extensions import begin_writing
from apps.i18n import COOKIE as LANGUAGE_COOKIE
from apps.i18n import LANGUAGES
from apps.web import THEME_COOKIE, THEMES, YEAR, safe_next

bp = Blueprint("account", __name__, template_folder="templates")


@bp.route("/account", methods=["GET", "POST"])
@login_required
def show() -> ResponseReturnValue:
    form = ProfileForm(obj=current_user)
    if form.validate_on_submit():
        _save(form)
        flash(gettext("Saved."), "success")
        return redirect(url_for("account.show"), 303)
    status = 422 if form.is_submitted() else 200
    used = services().images.totals(current_user.id).bytes
    quota = services().uploads.keeper.quota(current_user.id)
    stopped = services().webhooks.stopped(current_user.id)
    page = render_template(
        "auth/account.html", form=form, used=used, quota=quota, webhook_stopped=stopped
    )
    return page, status


def _save(form: ProfileForm) -> None:
    """Write what changed; tags follow a new threshold at once, from the stored boxes."""
    threshold = round(float(form.threshold.data), 2)
    changed = threshold != current_user.threshold
    values = {"username": form.username.data, "threshold": threshold}
    if form.email:
        values["email"] = form.email.data
    user_id = current_user.id
    begin_writing()  # the password is checked by now
    services().accounts.update(user_id, **values)
    if changed:
        services().tags.retag(user_id, threshold)


@bp.route("/delete", methods=["GET", "POST"])
@login_required
def delete() -> ResponseReturnValue:
    form = DeleteAccountForm()
    if form.validate_on_submit():
        user_id = current_user.id
        begin_writing()  # the password is checked by now
        services().accounts.delete([user_id])  # refuses the last administrator, still logged in
        logout_user()
        flash(gettext("Your account and everything in it is gone."), "info")
        return redirect(url_for("detector.index"), 303)
    status = 422 if form.is_submitted() else 200
    holdings = services().accounts.holdings(current_user.id)
    return render_template("auth/delete.html", form=form, holdings=holdings), status


@bp.get("/help")
def help_page() -> ResponseReturnValue:
    """Where to turn without a mail server that could send a reset link."""
    return render_template("auth/help.html", contact=current_app.config["ADMIN_CONTACT"])


@bp.post("/preferences")
def preferences() -> ResponseReturnValue:
    """Remember language and theme in this browser, logged in or not."""
    target = safe_next(request.form.get("next")) or url_for("detector.index")
    response = redirect(target, 303)
    choices = (
        (LANGUAGE_COOKIE, request.form.get("language"), LANGUAGES),
        (THEME_COOKIE, request.form.get("theme"), THEMES),
    )
    secure = current_app.config["SESSION_COOKIE_SECURE"]
    for cookie, value, allowed in choices:
        if value in allowed:
            response.set_cookie(cookie, str(value), max_age=YEAR, samesite="Lax", secure=secure)
    return response
