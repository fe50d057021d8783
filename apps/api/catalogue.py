"""Which models there are and what they know."""

from typing import Any

from flask import jsonify
from flask.typing import ResponseReturnValue

from apps.api import schemas
from apps.api.access import needs
from apps.api.spec import Blueprint
from apps.container import services
from apps.errors import NotFound
from apps.i18n import stored_text
from apps.services.classifications import ClassifierState
from apps.services.models import ModelState

bp = Blueprint("models", __name__, description="Which models there are and what they know")
LABELS = {"type": "array", "items": {"type": "string"}}


@bp.get("/models")
@needs("detect")
@bp.response(200, schemas.ModelList)
def models() -> dict[str, Any]:
    """List detectors and classifiers"""
    detectors = [_model_json(state) for state in services().models.all()]
    classifiers = [_model_json(state) for state in services().classifications.all()]
    return {"items": detectors + classifiers}


@bp.get("/models/<name>")
@needs("detect")
@bp.response(200, schemas.Model)
def model(name: str) -> dict[str, Any]:
    """Look up a model"""
    return _model_json(_state(name))


@bp.get("/models/<name>/labels")
@needs("detect")
@bp.response(200, LABELS)
def labels(name: str) -> ResponseReturnValue:
    """List the classes that a model knows"""
    return jsonify(list(_state(name).spec.labels))


def _state(name: str) -> ModelState | ClassifierState:
    """Raises NotFound if neither a detector nor a classifier is called so."""
    try:
        return services().models.get(services().instant.spelled(name))
    except NotFound:
        return services().classifications.get(name)


def _model_json(state: ModelState | ClassifierState) -> dict[str, Any]:
    detector = isinstance(state, ModelState)
    return {
        "name": state.spec.name,
        "kind": "detector" if detector else "classifier",
        "title": stored_text(state.spec.card.title),
        "ready": state.ready,
        "default": isinstance(state, ModelState) and state.in_use,
        "labels": len(state.spec.labels),
    }
