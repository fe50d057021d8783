"""Flask-Security, bound to our accounts, rules, forms and templates."""

import logging
import smtplib
from typing import Any

from flask import (
    Flask,
    Response,
    current_app,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_babel import format_timedelta, gettext
from flask_babel import lazy_gettext as _l
from flask_login import current_user
from flask_security import Security, SQLAlchemyUserDatastore, user_registered
from flask_security.mail_util import MailUtil
from flask_security.password_util import PasswordUtil
from flask_wtf import FlaskForm
from passlib.exc import PasswordSizeError
from werkzeug.wrappers import Response as BaseResponse

from apps.auth.forms import LoginForm, SignupForm
from apps.container import services
from apps.errorpages import answer_error, app_error
from apps.errors import N_, AppError, Forbidden, InvalidInput
from apps.extensions import SAFE_METHODS, begin_writing, db, limiter
from apps.i18n import error_text
from apps.models import Role, User, new_session_key
from apps.services import accounts
from apps.web import wants_json

logger = logging.getLogger(__name__)

TEMPLATES = {
    "LOGIN_USER_TEMPLATE": "auth/login.html",
    "REGISTER_USER_TEMPLATE": "auth/signup.html",
    "FORGOT_PASSWORD_TEMPLATE": "auth/forgot.html",
    "RESET_PASSWORD_TEMPLATE": "auth/reset.html",
    "CHANGE_PASSWORD_TEMPLATE": "auth/password.html",
    "SEND_CONFIRMATION_TEMPLATE": "auth/confirm.html",
    "CHANGE_EMAIL_TEMPLATE": "auth/email.html",
    "VERIFY_TEMPLATE": "auth/verify.html",
}
# How long the links in mails work.
LASTS = {
    "change_email_instructions": "CHANGE_EMAIL_WITHIN",
    "confirmation_instructions": "CONFIRM_EMAIL_WITHIN",
    "reset_instructions": "RESET_PASSWORD_WITHIN",
}
ASKS_PASSWORD = (
    "auth.forgot_password",
    "auth.send_confirmation",
    "auth.verify",
    "auth.change_password",
    "account.show",
    "account.delete",
)
ANONYMOUS_MAILS = ("auth.forgot_password", "auth.send_confirmation")
# One answer for an unknown account and for a wrong password: neither tells that the other is right.
WRONG_LOGIN = (_l("The email or the password is wrong."), "error")


class Datastore(SQLAlchemyUserDatastore):
    """Our accounts have one role in a column; Flask-Security's role tables are not used."""

    def create_user(self, **kwargs: Any) -> User:
        begin_writing()  # the password is hashed by now
        user = User(fs_uniquifier=new_session_key(), **kwargs)
        db.session.add(user)
        return user


class Passwords(PasswordUtil):
    """The rules of services/accounts, at sign-up, change and reset alike."""

    def validate(
        self, password: str, is_register: bool, **kwargs: Any
    ) -> tuple[list[str] | None, str]:
        password = accounts.normalize_password(password)
        try:
            accounts.check_password(password)
        except AppError as error:
            return [error_text(error)], password
        db.session.commit()  # no transaction stays open while the password is hashed
        return None, password


class Mails(MailUtil):
    """A mail server that is down must not turn a sign-up into an error page."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        db.session.commit()  # no transaction stays open while the mail server takes its time
        try:
            super().send_mail(*args, **kwargs)
        except (OSError, smtplib.SMTPException):
            logger.exception("mail not sent")
            if request.endpoint in ANONYMOUS_MAILS:  # a message would tell that the account exists
                return
            flash(
                gettext("The mail server did not answer, so no mail was sent. Try again later."),
                "error",
            )


def init_app(app: Flask) -> None:
    """Register the blueprint ``auth`` and what surrounds it."""
    for key, template in TEMPLATES.items():
        app.config[f"SECURITY_{key}"] = template
    for message in ("USER_DOES_NOT_EXIST", "INVALID_PASSWORD", "GENERIC_AUTHN_FAILED"):
        app.config[f"SECURITY_MSG_{message}"] = WRONG_LOGIN
    security = Security(
        app,
        Datastore(db, User, Role),
        login_form=LoginForm,
        register_form=SignupForm,
        password_util_cls=Passwords,
        mail_util_cls=Mails,
        render_template=_render,
    )
    security.unauthn_handler(_to_login)
    app.login_manager.unauthorized_callback = _to_login  # type: ignore[attr-defined]
    # Flask-Security also takes lasting tokens from headers and addresses. Ours are sessions alone.
    app.login_manager._request_callback = None  # type: ignore[attr-defined]
    app.register_error_handler(PasswordSizeError, _password_too_long)
    user_registered.connect(_after_signup, app)
    _limit(app, "auth.login", app.config["LOGIN_RATE"])
    _limit(app, "auth.register", app.config["SIGNUP_RATE"])
    for endpoint in ASKS_PASSWORD:
        _limit(app, endpoint, app.config["LOGIN_RATE"])
    app.before_request(_closed_signup)
    if not app.config["SECURITY_RECOVERABLE"]:  # the same address then says who to ask
        app.add_url_rule("/auth/reset", "auth.no_reset", app.view_functions["account.help_page"])


def _limit(app: Flask, endpoint: str, rate: str) -> None:
    if endpoint in app.view_functions:
        view = app.view_functions[endpoint]
        limited: Any = limiter.limit(rate, methods=["POST"])(view)
        app.view_functions[endpoint] = limited


def _to_login(*_: Any, **__: Any) -> BaseResponse:
    """To the login page, and from there back; a form that was sent cannot be sent again."""
    if wants_json():
        return answer_error(401, gettext("Log in first."), "login")
    target = request.full_path.rstrip("?") if request.method in SAFE_METHODS else None
    flash(gettext("Log in first."), "info")
    return redirect(url_for("auth.login", next=target))


def _password_too_long(_: PasswordSizeError) -> BaseResponse:
    error = InvalidInput(
        N_("A password has at most %(most)s characters."), most=accounts.PASSWORD_MAX
    )
    return app_error(error)


def _closed_signup() -> BaseResponse | None:
    """Sign-up can be closed by a setting; accounts then come from administrators."""
    if request.endpoint != "auth.register" or current_user.is_authenticated:
        return None
    if not current_app.config["SIGNUP_OPEN"]:
        raise Forbidden(
            N_("Sign-up is closed here. Ask an administrator for an account, then log in.")
        )
    return None


def _after_signup(app: Flask, user: User, **_: Any) -> None:
    """Commit here, inside the view, so that a name taken this very moment is a clear error."""
    db.session.commit()
    services(app).accounts.promote_first()
    flash(
        gettext("Welcome, %(name)s! Drop some photographs to begin.", name=user.username), "success"
    )


def _render(template: str, **context: Any) -> str | Response:
    """Pages as usual, but an invalid form answers 422, so that programs see the failure."""
    if (mail := template.rpartition("/")[2].partition(".")[0]) in LASTS:
        # Flask-Security's own words for a duration have no Korean.
        context["within"] = format_timedelta(current_app.config[f"SECURITY_{LASTS[mail]}"])
    html = render_template(template, **context)
    forms = [value for value in context.values() if isinstance(value, FlaskForm)]
    if request.method == "POST" and any(form.errors for form in forms):
        return make_response(html, 422)
    return html
