"""Forms of sign-up, login and the account page."""

from typing import Any

from flask import current_app
from flask_babel import lazy_gettext as _l
from flask_login import current_user
from flask_security.forms import LoginForm as BaseLoginForm
from flask_security.forms import RegisterFormV2
from flask_security.utils import verify_password
from flask_wtf import FlaskForm
from wtforms import (
    EmailField,
    Field,
    FloatField,
    PasswordField,
    StringField,
    SubmitField,
    ValidationError,
)
from wtforms.validators import InputRequired, NumberRange
from wtforms.widgets import RangeInput

from apps.container import services
from apps.errors import AppError
from apps.i18n import error_text
from apps.services import accounts


def checked_username(form: FlaskForm, field: Field) -> None:
    """Validator: a usable user name that nobody else has; leaves it normalized."""
    _checked(field, accounts.clean_username, "username", getattr(form, "but", None))


def checked_email(form: FlaskForm, field: Field) -> None:
    """Validator: a well-formed email that nobody else has; leaves it normalized."""
    _checked(field, accounts.clean_email, "email", getattr(form, "but", None))


def _checked(field: Field, clean: Any, name: str, but: int | None) -> None:
    try:
        field.data = clean(field.data or "")
        services().accounts.require_free(**{name: field.data}, but=but)
    except AppError as error:
        raise ValidationError(error_text(error)) from error


class SignupForm(RegisterFormV2):
    """``username``, ``email``, ``password``: nothing else is asked."""

    username = StringField(
        _l("User name"),
        validators=[InputRequired(), checked_username],
        render_kw={"autocomplete": "username", "maxlength": 32, "autofocus": True},
    )
    email = EmailField(
        _l("Email"),
        validators=[InputRequired(), checked_email],
        render_kw={"autocomplete": "email"},
    )
    password = PasswordField(
        _l("Password"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "new-password", "minlength": accounts.PASSWORD_MIN},
    )
    submit = SubmitField(_l("Sign up"))


class LoginForm(BaseLoginForm):
    """``email`` takes the user name as well; one answer for every wrong pair."""

    email = StringField(
        _l("Email or user name"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "username", "autofocus": True},
    )
    password = PasswordField(
        _l("Password"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "current-password"},
    )
    submit = SubmitField(_l("Log in"))

    def validate(self, **kwargs: Any) -> bool:
        self.ifield = self.email  # Flask-Security then leaves finding the account to us
        self.user = services().accounts.find(self.email.data) if self.email.data else None
        if super().validate(**kwargs):
            return True
        if self.user_authenticated:  # only who knows the password is told more, e.g. "disabled"
            self.form_errors.extend(self.email.errors)
            self.email.errors = []
        return False


class ProfileForm(FlaskForm):
    """Name, email and the threshold of the account that is logged in."""

    username = StringField(
        _l("User name"),
        validators=[InputRequired(), checked_username],
        render_kw={"autocomplete": "username", "maxlength": 32},
    )
    email = EmailField(
        _l("Email"),
        validators=[InputRequired(), checked_email],
        render_kw={"autocomplete": "email"},
    )
    threshold = FloatField(
        _l("Tag threshold"),
        validators=[NumberRange(0.05, 1)],
        widget=RangeInput(),
        render_kw={"min": "0.05", "max": "1", "step": "0.05"},
    )
    password = PasswordField(
        _l("Present password (to change the email)"),
        render_kw={"autocomplete": "current-password"},
    )
    submit = SubmitField(_l("Save"))

    def __init__(self, **kwargs: Any) -> None:
        self.but = current_user.id  # whose own name and email are not taken
        super().__init__(**kwargs)
        if current_app.config["SECURITY_CHANGE_EMAIL"]:  # a mail confirms the new address instead
            del self.email
            del self.password

    def validate_password(self, field: Field) -> None:
        changed = (self.email.data or "").lower() != current_user.email
        if changed and not is_own_password(field.data):
            raise ValidationError(_l("Give your present password to change the email."))


class DeleteAccountForm(FlaskForm):
    """The last question before an account is gone."""

    password = PasswordField(
        _l("Password"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "current-password"},
    )
    submit = SubmitField(_l("Delete my account and everything in it"))

    def validate_password(self, field: Field) -> None:
        if not is_own_password(field.data):
            raise ValidationError(_l("The password is wrong."))


def is_own_password(password: str | None) -> bool:
    """Whether ``password`` is that of the account that is logged in."""
    if not password:
        return False
    return bool(verify_password(accounts.normalize_password(password), current_user.password))
