"""The pages where an account says which addresses are told, and sees what they were told."""

from datetime import timedelta
from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_login import current_user, login_required
from flask_wtf import FlaskForm
from wtforms import SelectChoice, SelectMultipleField, StringField, SubmitField
from wtforms.validators import InputRequired, Length
from wtforms.widgets import CheckboxInput, ListWidget

from apps.container import services
from apps.errors import AppError
from apps.extensions import begin_writing, db
from apps.i18n import error_text
from apps.models import URL_LENGTH, DeliveryStatus, Webhook, utcnow
from apps.services.webhooks import DONE, EVENTS, LOST

bp = Blueprint("webhooks", __name__, template_folder="templates")
SHOWN = 50  # messages of the log
SOON = timedelta(minutes=1)  # a try until then is waited for by the page
MEANINGS = (
    SelectChoice(DONE, _l("A detection is done")),
    SelectChoice(LOST, _l("A detection has failed for good")),
)


class WebhookForm(FlaskForm):
    """``url`` and ``events``."""

    url = StringField(
        _l("Address"),
        validators=[InputRequired(), Length(max=URL_LENGTH)],
        render_kw={"maxlength": URL_LENGTH, "autocomplete": "off", "inputmode": "url"},
    )
    events = SelectMultipleField(
        _l("What it is told"),
        choices=list(MEANINGS),
        default=list(EVENTS),
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    submit = SubmitField(_l("Save"))


@bp.route("/account/webhooks", methods=["GET", "POST"])
@login_required
def index() -> ResponseReturnValue:
    form = WebhookForm()
    if not form.validate_on_submit():
        return _index(form), 422 if form.is_submitted() else 200
    owner = current_user.id
    db.session.commit()  # resolving a name takes its time
    try:
        url = services().webhooks.check_address(form.url.data or "")
        begin_writing()
        hook = services().webhooks.create(owner, url, form.events.data or ())
    except AppError as error:
        form.form_errors.append(error_text(error))
        return _index(form), error.status
    return _detail(hook, WebhookForm(formdata=None, obj=_values(hook)), shown=True), 201


@bp.route("/account/webhooks/<int:webhook_id>", methods=["GET", "POST"])
@login_required
def detail(webhook_id: int) -> ResponseReturnValue:
    hook = services().webhooks.get(current_user.id, webhook_id)
    form = WebhookForm(obj=_values(hook))
    if not form.validate_on_submit():
        return _detail(hook, form), 422 if form.is_submitted() else 200
    owner = current_user.id
    db.session.commit()  # resolving a name takes its time
    try:
        url = services().webhooks.check_address(form.url.data or "")
        begin_writing()
        services().webhooks.change(owner, webhook_id, url=url, events=form.events.data or ())
    except AppError as error:
        form.form_errors.append(error_text(error))
        return _detail(services().webhooks.get(owner, webhook_id), form), error.status
    flash(gettext("Saved."), "success")
    return _to(webhook_id)


@bp.post("/account/webhooks/<int:webhook_id>/secret")
@login_required
def rotate(webhook_id: int) -> ResponseReturnValue:
    hook = services().webhooks.rotate(current_user.id, webhook_id)
    return _detail(hook, WebhookForm(formdata=None, obj=_values(hook)), shown=True)


@bp.post("/account/webhooks/<int:webhook_id>/<any(on, off):state>")
@login_required
def switch(webhook_id: int, state: str) -> ResponseReturnValue:
    services().webhooks.change(current_user.id, webhook_id, active=state == "on")
    flash(gettext("It is on.") if state == "on" else gettext("It is off."), "success")
    return _to(webhook_id)


@bp.post("/account/webhooks/<int:webhook_id>/delete")
@login_required
def delete(webhook_id: int) -> ResponseReturnValue:
    services().webhooks.delete(current_user.id, webhook_id)
    flash(gettext("The webhook is deleted."), "success")
    return redirect(url_for("webhooks.index"), 303)


@bp.post("/account/webhooks/<int:webhook_id>/test")
@login_required
def test(webhook_id: int) -> ResponseReturnValue:
    services().webhooks.test(current_user.id, webhook_id)
    flash(gettext("A test message is on its way. Its answer comes below."), "info")
    return _to(webhook_id)


@bp.post("/account/webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/again")
@login_required
def again(webhook_id: int, delivery_id: int) -> ResponseReturnValue:
    services().webhooks.again(current_user.id, webhook_id, delivery_id)
    flash(gettext("The message is on its way. Its answer comes below."), "info")
    return _to(webhook_id)


def _to(webhook_id: int) -> ResponseReturnValue:
    return redirect(url_for("webhooks.detail", webhook_id=webhook_id), 303)


def _index(form: WebhookForm) -> str:
    hooks = services().webhooks.of_owner(current_user.id)
    return render_template("api/webhooks.html", form=form, hooks=hooks)


def _detail(hook: Webhook, form: WebhookForm, *, shown: bool = False) -> str:
    """``shown``: with its secret, this once."""
    log = services().webhooks.log(hook.owner_id, hook.id, SHOWN)
    secret = hook.secret if shown else None
    soon = utcnow() + SOON
    live = any(one.status is DeliveryStatus.WAITING and one.next_at < soon for one in log)
    return render_template(
        "api/webhook.html", hook=hook, form=form, log=log, secret=secret, live=live
    )


class _Values:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def _values(hook: Webhook) -> _Values:
    """What the form shows of a webhook."""
    return _Values(url=hook.url, events=hook.event_list)
