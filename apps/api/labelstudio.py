"""Label Studio's interface of ML backends, below a secret address for each connection.

Label Studio says "Retrieved 1 predictions" whatever comes back, so every reason is kept in the log
of the page that connects programs.
"""

from collections.abc import Mapping, Sequence
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
from apps.services.labelstudios import Connection, Predicted
from apps.services.tokens import Caller

bp = Blueprint("labelstudio", __name__, url_prefix="/labelstudio/<secret>")
MOST_BYTES = 32 * MIB  # of a question: tasks carry their annotations
MOST_NOTED = 20  # tasks of a question that have lines of their own in the log
NO_TRAINING = InvalidInput(
    N_(
        "Label Studio asked for a training, which it cannot start here. "
        "Train with “flask train detector” on an export of the project."
    )
)


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
    """One prediction for each task, in their order; an error if none could be made."""
    connection = _let_in(secret)
    body = _body()
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InvalidInput(N_("“tasks” is a list of tasks."))
    model, found = services().labelstudios.predict(connection, tasks, _text(body, "label_config"))
    failed = [(task, one.error) for task, one in zip(tasks, found, strict=True) if one.error]
    _note_tasks(connection, failed)
    if failed and len(failed) == len(found):
        raise failed[0][1]
    version = _version(model)
    return jsonify(results=[_prediction(one, version) for one in found])


def _prediction(one: Predicted, version: str) -> dict[str, Any] | list[Any]:
    """What Label Studio keeps for a task.

    Of an empty list it keeps nothing, and asks for that task again the next time; a prediction
    without regions it would keep as what the model found.
    """
    if one.error is not None:
        return []
    return {"model_version": version, "score": one.score, "result": one.result}


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
    connection = _let_in(secret)
    body = _body()
    if request.path.endswith("/train") or body.get("action") == "START_TRAINING":
        _note(connection, "train", NO_TRAINING)
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


def _note_tasks(connection: Connection, failed: Sequence[tuple[dict[str, Any], AppError]]) -> None:
    """The first ones by themselves: the log is short, and the others mostly fail alike."""
    for task, error in failed[:MOST_NOTED]:
        _note(connection, f"predict, task {str(task.get('id'))[:40]}", error)
    if rest := failed[MOST_NOTED:]:
        _note(connection, f"predict, {len(rest)} other tasks", rest[0][1])


def _note(connection: Connection, what: str, error: AppError) -> None:
    """Something that Label Studio does not show, in the log of its owner."""
    services().client_calls.note(
        Call(
            owner_id=connection.owner_id,
            token=connection.prefix,
            method="TASK",
            path=f"/labelstudio/…/{what}",
            status=error.status,
            error=error_text(error),
            client=request.user_agent.string,
            address=(request.remote_addr or "")[:45],
        )
    )
