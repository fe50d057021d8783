"""Models that administrators add: their own weights, checked, and taken away again."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user

from apps.container import services
from apps.crud.blueprint import bp
from apps.crud.forms import OwnModelForm, accepted, status_of
from apps.errors import AppError, InvalidWeights, NotFound
from apps.i18n import error_text
from apps.vision.zoo.own import NOT_OWN


@bp.route("/models/new", methods=["GET", "POST"])
def model_new() -> ResponseReturnValue:
    form = OwnModelForm()
    if accepted(form, lambda: _add(form)):
        text = gettext("The weights are right. %(name)s can be used now.", name=form.name.data)
        flash(text, "success")
        return redirect(url_for("detector.model", name=form.name.data), 303)
    return render_template("crud/model_new.html", form=form), status_of(form)


def _add(form: OwnModelForm) -> None:
    """Make the model; a file that could still become one stays for the next try."""
    file = services().own_models.kept(form.kept.data)
    try:
        services().own_models.add(form.model(current_user.username), file)
    except InvalidWeights:
        file.unlink(missing_ok=True)
        form.kept.data = ""
        raise
    file.unlink(missing_ok=True)


@bp.route("/models/<name>/delete", methods=["GET", "POST"])
def model_delete(name: str) -> ResponseReturnValue:
    model = services().models.get(name)
    if model.spec.added is None:
        raise NotFound(NOT_OWN)
    if request.method == "POST":
        try:
            services().models.remove(name)
        except AppError as error:
            flash(error_text(error), "error")
        else:
            flash(gettext("%(name)s is removed.", name=name), "success")
        return redirect(url_for("crud.models"), 303)
    return render_template(
        "crud/model_delete.html",
        model=model,
        use=services().models.use(name),
        named=services().models.configured == name,
    )


@bp.post("/models/removed/<key>/restore")
def model_restore(key: str) -> ResponseReturnValue:
    try:
        spec = services().own_models.restore(key)
    except AppError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("%(name)s is back.", name=spec.name), "success")
    return redirect(url_for("crud.models"), 303)


@bp.post("/models/removed/<key>/discard")
def model_discard(key: str) -> ResponseReturnValue:
    services().own_models.discard(key)
    flash(gettext("Deleted for good."), "success")
    return redirect(url_for("crud.models"), 303)
