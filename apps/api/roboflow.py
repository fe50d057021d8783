"""Roboflow inference v1, for programs that use ``inference-sdk``: detectors of this server.

Errors are JSON with ``message``, as that server words them. Pictures come as base64, as parts of a
form or as public addresses; never as pickles of NumPy, which run what their sender wishes.
"""

import io
import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from apps.api.access import caller, drop_rest, enter, header_token
from apps.api.roboflow_pictures import pictures_of
from apps.container import services
from apps.errors import N_, AppError, InvalidInput
from apps.services.instant import FAST, Found
from apps.vision.types import Box
from apps.web import FORM_BYTES

bp = Blueprint("roboflow", __name__)
PREFIXES = ("/infer/", "/model/", "/info")
VERSION = "1"  # of every model: what is trained again has another name here
LEAST = 0.4  # score of callers that name none
MOST_BOXES = 300
_KEY = re.compile(rb'"api_key"\s*:\s*"([^"\\]{0,200})"')
NO_KEYS = frozenset({"", "None", "null"})  # how the client spells that it has none


@dataclass(frozen=True)
class Wishes:
    """What a request wants to have of what is found."""

    least: float  # score
    most: int  # boxes
    classes: frozenset[str] | None

    def of(self, boxes: tuple[Box, ...]) -> list[Box]:
        """The best of ``boxes`` that are wanted."""
        kept = [
            box
            for box in boxes
            if box.score >= self.least and (self.classes is None or box.label in self.classes)
        ]
        return kept[: self.most]


def error(status: int, text: str, code: str, _details: Any = None) -> Response:
    """Any error below these addresses."""
    response = jsonify(message=text, error=code, status=status)
    response.status_code = status
    return response


@bp.get("/info")
def info() -> ResponseReturnValue:
    """Who answers; without a token."""
    name = uuid.uuid5(uuid.NAMESPACE_URL, request.host_url)
    return jsonify(name="Sightbox", version="1.0.0", uuid=str(name))


@bp.get("/model/registry")
def registry() -> ResponseReturnValue:
    enter(_key_before_the_body(), "detect")
    return jsonify(_registry())


@bp.post("/model/add")
def add() -> ResponseReturnValue:
    """Nothing has to be loaded by hand: this tells whether the model is here."""
    _model(_entered())
    return jsonify(_registry())


@bp.post("/model/remove")
@bp.post("/model/clear")
def remove() -> ResponseReturnValue:
    """Programs do not unload what others use. The client shows no key here, so nothing is told."""
    return jsonify(models=[])


@bp.post("/infer/object_detection")
def object_detection() -> ResponseReturnValue:
    """Boxes of one picture, or a list of answers to a list of pictures."""
    body = _entered()
    model, wishes = _model(body), _wishes(body)
    pictures, many = pictures_of(body)
    started = time.perf_counter()
    found = services().instant.detect_many(pictures, model)
    for one in found:
        if isinstance(one, AppError):
            raise one
    took = time.perf_counter() - started
    answers = [_answer(one, wishes, took) for one in found if isinstance(one, Found)]
    return jsonify(answers if many else answers[0])


def _registry() -> dict[str, Any]:
    names = [FAST, *(spec.name for spec in services().models.ready())]
    sizes = {"batch_size": None, "input_height": None, "input_width": None}
    kind = {"task_type": "object-detection"}
    return {"models": [{"model_id": f"{name}/{VERSION}"} | kind | sizes for name in names]}


def _answer(found: Found, wishes: Wishes, took: float) -> dict[str, Any]:
    labels = {spec.name: spec.labels for spec in services().models.ready()}
    known = {name: n for n, name in enumerate(labels.get(found.detections.model, ()))}
    predictions = [
        {
            "x": (box.x1 + box.x2) / 2,  # pixels; the middle of the box
            "y": (box.y1 + box.y2) / 2,
            "width": box.x2 - box.x1,
            "height": box.y2 - box.y1,
            "confidence": box.score,
            "class": box.label,
            "class_id": known.get(box.label, 0),
            "detection_id": str(uuid.uuid4()),
        }
        for box in wishes.of(found.detections.boxes)
    ]
    return {
        "inference_id": str(uuid.uuid4()),
        "frame_id": None,
        "time": took,  # seconds
        "image": {"width": found.width, "height": found.height},
        "predictions": predictions,
        "visualization": None,
    }


# -- fields --------------------------------------------------------------------------------


def _entered() -> Mapping[str, Any]:
    """The JSON object or the form that a program sent whose token is good.

    The token comes first: of a stranger's body no more is kept in memory than FORM_BYTES.

    Raises:
        InvalidInput: neither an object nor a form.
        Others as ``enter``.
    """
    config = current_app.config
    # base64 needs a third more than the file
    most = 2 * config["MAX_FILE_BYTES"] + FORM_BYTES
    request.max_content_length = min(most, config["MAX_CONTENT_LENGTH"])
    key = _key_before_the_body()
    is_form = request.mimetype == "multipart/form-data"
    reader = io.BufferedReader(cast("io.RawIOBase", request.stream))
    start = b"" if key or is_form else reader.read(FORM_BYTES)
    try:
        if is_form:  # its files go to the disk as they come
            enter(key or _usable(request.form.get("api_key")), "detect")
            return request.form
        enter(key or _key_in(start), "detect")
    except AppError:
        drop_rest(reader)
        raise
    return _object(start + reader.read())


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidInput(N_("Send a JSON object, or a form with the part “image”."))
    return body


def _key_before_the_body() -> str:
    return header_token() or _usable(request.args.get("api_key"))


def _key_in(start: bytes) -> str:
    """The field ``api_key`` at the start of a JSON text; the client sends it before pictures."""
    found = _KEY.search(start)
    return _usable(found[1].decode("ascii", "replace")) if found else ""


def _usable(key: str | None) -> str:
    key = (key or "").strip()
    return "" if key in NO_KEYS else key


def _model(body: Mapping[str, Any]) -> str:
    """The detector that ``model_id`` (a name, a slash and any version) means.

    Raises:
        InvalidInput: there is no ``model_id``.
        NotFound: no such model.
    """
    wanted = body.get("model_id")
    if not isinstance(wanted, str) or not wanted.strip():
        raise InvalidInput(N_("Name a model in “model_id”, for example “fast/1”."))
    return services().instant.model_called(wanted.strip().partition("/")[0])


def _wishes(body: Mapping[str, Any]) -> Wishes:
    least = _number(body, "confidence", LEAST)
    most = _number(body, "max_detections", MOST_BOXES)
    if not 0 <= least <= 1:  # NaN neither
        raise InvalidInput(N_("“confidence” is a number from 0 to 1."))
    if not 1 <= most <= 10_000:
        raise InvalidInput(N_("“max_detections” is a number from 1 to 10000."))
    cap = caller().max_boxes
    classes = body.get("class_filter") or None
    if classes is not None and not (
        isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    ):
        raise InvalidInput(N_("“class_filter” is a list of names."))
    return Wishes(least, min(int(most), cap or int(most)), frozenset(classes) if classes else None)


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return default
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
