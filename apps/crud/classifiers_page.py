"""What the page of models does with the weights of classifiers."""

from flask import flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from apps.container import services
from apps.crud.blueprint import bp
from apps.errors import AppError, WeightsError
from apps.i18n import error_text


@bp.post("/classifiers/<name>/fetch")
def classifier_fetch(name: str) -> ResponseReturnValue:
    services().classifications.fetch(name)
    return _back()


@bp.post("/classifiers/<name>/verify")
def classifier_verify(name: str) -> ResponseReturnValue:
    try:
        services().classifications.verify(name)
    except WeightsError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("%(name)s: the checksum is right.", name=name), "success")
    return _back()


@bp.post("/classifiers/<name>/remove")
def classifier_remove(name: str) -> ResponseReturnValue:
    classifications = services().classifications
    weights = classifications.get(name).spec.weights
    try:
        classifications.store.remove(weights)
    except AppError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("The weights of %(name)s are removed.", name=name), "success")
    return _back()


def _back() -> ResponseReturnValue:
    return redirect(url_for("crud.models", _anchor="classifiers"), 303)
