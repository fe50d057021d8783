"""Label Studio's interface of ML backends, below a secret address for each connection.

Label Studio says "Retrieved 1 predictions" whatever comes back, so every reason is kept in the log
of the page that connects programs.
"""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from apps.api.access import count_refused, count_token, drop_rest
from apps.config import MIB
from apps.container import services
from apps.errors import N_, AppError, InvalidInput, Unauthorized
from apps.i18n import error_text
from apps.services.client_calls import Call
from apps.services.labelstudios import Connection
from apps.services.tokens import Caller

bp = Blueprint("labelstudio", __name__, url_prefix="/labelstudio/<secret>")
MOST_BYTES = 32 * MIB  # of a question: tasks carry their annotations


def error(status: int, text: str, code: str, _details: Any = None) -> Response:
    """Any error below ``/labelstudio/``; Label Studio shows the status alone, the log the text."""
    response = jsonify(detail=text, error=code, status=status)
    response.status_code = status
    return response


@bp.get("/")
@bp.get("/health")
def health(secret: str) -> ResponseReturnValue:
    connection = _let_in(secret)
    return jsonify(status="UP", model_class=_version(services().labelstudios.model_of(connection)))


@bp.post("/setup")
def setup(secret: str) -> ResponseReturnValue:
    """A project is connected: refused if the model has nothing for its labels."""
    connection = _let_in(secret)
    config = _text(_body(), "schema")
    model = services().labelstudios.model_of(connection)
    if config:
        services().labelstudios.controls(config, model)
    return jsonify(model_version=_version(model))


@bp.post("/predict")
def predict(secret: str) -> ResponseReturnValue:
    """One list of regions for each task, in their order."""
    connection = _let_in(secret)
    body = _body()
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InvalidInput(N_("“tasks” is a list of tasks."))
    model, found = services().labelstudios.predict(connection, tasks, _text(body, "label_config"))
    for task, one in zip(tasks, found, strict=True):
        if one.error is not None:
            _note(connection, str(task.get("id")), one.error)
    version = _version(model)
    return jsonify(
        results=[
            {"model_version": version, "score": one.score, "result": one.result} for one in found
        ]
    )


@bp.get("/versions")
def versions(secret: str) -> ResponseReturnValue:
    connection = _let_in(secret)
    model = _version(services().labelstudios.model_of(connection))
    others = [spec.name for spec in services().models.ready()]
    return jsonify(versions=list(dict.fromkeys([model, *others])))


@bp.post("/webhook")
@bp.post("/train")
def webhook(secret: str) -> ResponseReturnValue:
    """Events are welcome and change nothing: models are trained here on what is corrected here."""
    _let_in(secret)
    _body()
    return jsonify(status="ok"), 201


def _let_in(secret: str) -> Connection:
    """The connection behind the address of this request.

    Raises:
        Unauthorized: there is none.
        TooMany: too many requests.
    """
    request.max_content_length = min(MOST_BYTES, current_app.config["MAX_CONTENT_LENGTH"])
    try:
        found = services().labelstudios.find(secret)
    except Unauthorized as refused:
        g.refused = refused
        count_refused()
        drop_rest(request.stream)
        raise
    request.get_data()  # as drop_rest: who asks too often is refused below
    allowed = frozenset({"detect"})
    g.caller = Caller(
        found.owner_id, found.owner, found.is_admin, found.threshold, allowed, found.prefix
    )
    count_token(found.prefix)
    return found


def _body() -> Mapping[str, Any]:
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidInput(N_("Send a JSON object."))
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise InvalidInput(N_("“%(name)s” is a text."), name=name)
    return value


def _version(model: str) -> str:
    """What Label Studio shows: the name that "auto" stands for at present."""
    known = services().models.registry.is_known(model)
    return model if known else services().models.current().name


def _note(connection: Connection, task: str, error: AppError) -> None:
    """A task without boxes, in the log of its owner."""
    services().client_calls.note(
        Call(
            owner_id=connection.owner_id,
            token=connection.prefix,
            method="TASK",
            path=f"/labelstudio/…/predict, task {task[:40]}",
            status=error.status,
            error=error_text(error),
            client=request.user_agent.string,
            address=(request.remote_addr or "")[:45],
        )
    )
