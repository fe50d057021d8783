"""The page where an account makes and revokes its tokens."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_login import current_user, login_required
from flask_wtf import FlaskForm
from wtforms import (
    IntegerField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
    SubmitField,
)
from wtforms.validators import InputRequired, Length, NumberRange, Optional
from wtforms.widgets import CheckboxInput, ListWidget

from apps.container import services
from apps.errors import AppError
from apps.i18n import error_text
from apps.models import Token
from apps.services.tokens import MAX_BOXES, NAME_LENGTH

bp = Blueprint("tokens", __name__, template_folder="templates")
MEANINGS = (
    SelectChoice("detect", _l("Detect: pictures that are not stored, as cameras ask")),
    SelectChoice("read", _l("Read: your pictures, boxes and tags")),
    SelectChoice("write", _l("Write: upload, tag, detect again and delete your pictures")),
    SelectChoice("admin", _l("Administer: accounts")),
)
LIFETIMES = (
    SelectChoice("30", _l("30 days")),
    SelectChoice("90", _l("90 days")),
    SelectChoice("365", _l("One year")),
    SelectChoice("0", _l("It does not expire")),
)


class TokenForm(FlaskForm):
    """``name``, ``scopes``, ``days`` and, for clients with little room, ``max_boxes``."""

    name = StringField(
        _l("Name"),
        validators=[InputRequired(), Length(max=NAME_LENGTH)],
        render_kw={"maxlength": NAME_LENGTH, "autocomplete": "off"},
    )
    scopes = SelectMultipleField(
        _l("What it may do"),
        choices=list(MEANINGS),
        default=["detect"],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    days = SelectField(_l("How long it works"), choices=list(LIFETIMES), default="365")
    max_boxes = IntegerField(
        _l("Most boxes in an answer"),
        validators=[Optional(), NumberRange(1, MAX_BOXES)],
        render_kw={"min": 1, "max": MAX_BOXES, "inputmode": "numeric"},
    )
    submit = SubmitField(_l("Make a token"))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not current_user.is_admin:
            self.scopes.choices = [choice for choice in MEANINGS if choice.value != "admin"]


@bp.route("/account/tokens", methods=["GET", "POST"])
@login_required
def index() -> ResponseReturnValue:
    form = TokenForm()
    if not form.validate_on_submit():
        return _page(form), 422 if form.is_submitted() else 200
    try:
        made, text = services().tokens.create(
            current_user.id,
            form.name.data or "",
            form.scopes.data or (),
            int(form.days.data) or None,
            form.max_boxes.data,
        )
    except AppError as error:
        form.form_errors.append(error_text(error))
        return _page(form), error.status
    # This once: a redirect would have to keep the text somewhere.
    return _page(TokenForm(formdata=None), made, text), 201


@bp.post("/account/tokens/<int:token_id>/revoke")
@login_required
def revoke(token_id: int) -> ResponseReturnValue:
    token = services().tokens.revoke(current_user.id, token_id)
    flash(gettext("“%(name)s” works no longer.", name=token.name), "success")
    return redirect(url_for("tokens.index"), 303)


def _page(form: TokenForm, made: Token | None = None, text: str = "") -> str:
    tokens: Sequence[Token] = services().tokens.of_owner(current_user.id)
    return render_template("api/tokens.html", form=form, tokens=tokens, made=made, text=text)
