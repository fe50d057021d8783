"""What DeepStack and CodeProject.AI answered, for the cameras and houses that still ask for it.

Every answer below ``/v1/`` is JSON with ``success``, errors too: some clients read the body before
they look at the status. Statuses are DeepStack's.
"""

import io
import math
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import IO, Any, BinaryIO, TypeVar, cast

from flask import Blueprint, Response, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import FormDataParser, MultiPartParser
from werkzeug.http import parse_options_header

from apps.api.access import caller, enter, header_token
from apps.container import services
from apps.errors import N_, AppError, InvalidImage, NotFound, Unauthorized
from apps.services.instant import FAST, Found
from apps.services.tokens import Caller
from apps.services.uploads import read_upload
from apps.vision.types import Box
from apps.vision.zoo.registry import BEST_ON_CPU
from apps.web import FORM_BYTES

bp = Blueprint("deepstack", __name__, url_prefix="/v1")
T = TypeVar("T")
PICTURES = ("image", "image1")  # some clients number it
LOSSLESS = "iso-8859-1"  # every byte is a letter, and back
MOST_NAMELESS = 8 << 20  # bytes of a picture without a file name: it is in memory, whoever sent it
LEAST = 0.4  # score of callers that name none
PARTS = 100  # fields and files in one request
VERSION = {"major": 2, "minor": 9, "patch": 6}  # of the interface, as CodeProject.AI counts
# Their own words, which clients compare with; HTTP says the rest.
WRONG_KEY = "Incorrect api key"
NO_IMAGE = "No valid image file found"
BAD_IMAGE = "invalid image file"
BAD_CONFIDENCE = "Invalid value for min_confidence"
SCENES = ("resnet50.imagenet1k_v2", "resnet50.imagenet1k_v1", "resnet18.imagenet1k_v1")
NO_SCENES = N_(
    "No classifier of everyday things is here. Fetch one: “flask models fetch %(wanted)s”, or on "
    "the page of models; or name another classifier in the field “model”."
)


class Parts(MultiPartParser):
    """Takes a picture without a file name, which makes it a text, for what its bytes say."""

    def get_part_charset(self, headers: Headers) -> str:
        options = parse_options_header(headers.get("content-disposition"))[1]
        return LOSSLESS if options.get("name") in PICTURES else super().get_part_charset(headers)


class Forms(FormDataParser):
    """Reads forms as Flask does, but the parts of one by ``Parts``."""

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]:
        boundary = (options or {}).get("boundary", "").encode("ascii", "replace")
        if mimetype != "multipart/form-data" or not boundary:
            return super().parse(stream, mimetype, content_length, options)
        parser = Parts(self.stream_factory, MOST_NAMELESS, self.cls, max_form_parts=PARTS)
        try:
            return stream, *parser.parse(stream, boundary, content_length)
        except ValueError:  # no form, which is an empty one as elsewhere
            return stream, self.cls(), self.cls()


class Refused(AppError):
    """A request that DeepStack refuses in these words."""

    status = 400
    code = "refused"


class NoScenes(AppError):
    """Nothing here knows what a whole picture of everyday things shows."""

    status = 503
    code = "no_weights"


class WrongKey(AppError):
    status = 401
    code = "token"


def error(status: int, text: str, code: str, _details: Any = None) -> Response:
    """Any error below ``/v1/``."""
    response = jsonify(success=False, error=text, code=status, reason=code, duration=0)
    response.status_code = status
    return response


# -- pictures ------------------------------------------------------------------------------


@bp.post("/vision/detection")
def detection() -> ResponseReturnValue:
    return _detected(_let_in(), None)


@bp.post("/vision/custom/<name>")
def custom(name: str) -> ResponseReturnValue:
    """A detector by its name, or a classifier, which answers as a scene does."""
    asked = _let_in()
    if not services().instant.is_model(name) and _is_classifier(name):
        return _classified(name)
    return _detected(asked, name)


@bp.post("/vision/scene")
def scene() -> ResponseReturnValue:
    """What the whole picture shows: the network named, or one that knows everyday things.

    Those of digits, clothes and the like are none: they would call any street a shoe.
    """
    _let_in()
    if name := request.form.get("model"):
        return _classified(name)
    states = services().classifications.all()
    everyday = [state.spec.name for state in states if state.ready and state.spec.torchvision]
    if not everyday:
        raise NoScenes(NO_SCENES, wanted=SCENES[0])
    best = [name for name in SCENES if name in everyday]
    return _classified((best or everyday)[0])


def _detected(asked: Caller, name: str | None) -> ResponseReturnValue:
    started = time.perf_counter()
    least, data = _min_confidence(), _image()
    model = services().instant.model_called(name)
    raw = request.values.get("exif") == "raw"
    found = _unless_damaged(lambda: services().instant.detect(data, model, raw=raw))
    boxes = [box for box in found.detections.boxes if box.score >= least]
    if asked.max_boxes is not None:  # who has little room may also know only COCO's classes
        known = frozenset(BEST_ON_CPU.labels)
        boxes.sort(key=lambda box: (box.label not in known, -box.score))
        boxes = boxes[: asked.max_boxes]
    took = round(1000 * (time.perf_counter() - started))
    return jsonify(_detection_body(found, boxes, took))


def _detection_body(found: Found, boxes: Sequence[Box], took: int) -> dict[str, Any]:
    """DeepStack's answer and what CodeProject.AI adds to it; corners in whole pixels."""
    model = found.detections.model
    names = ", ".join(dict.fromkeys(box.label for box in boxes))
    return {
        "success": True,
        "predictions": [
            {
                "confidence": round(box.score, 4),
                "label": box.label,
                "y_min": math.floor(box.y1),
                "x_min": math.floor(box.x1),
                "y_max": math.ceil(box.y2),
                "x_max": math.ceil(box.x2),
            }
            for box in boxes
        ],
        "duration": 0,
        "image": {
            "width": found.width,
            "height": found.height,
            "exif_applied": found.exif_applied,
        },
        "message": f"Found {names}" if names else "No objects found",
        "count": len(boxes),
        "inferenceMs": found.detect_ms,
        "processMs": found.read_ms + found.detect_ms,
        "analysisRoundTripMs": took,
        "moduleId": "ObjectDetectionTorchvision",
        "moduleName": f"Object Detection ({model})",
        "command": "detect",
        **_machine(),
    }


def _classified(name: str) -> ResponseReturnValue:
    started = time.perf_counter()
    data = _image()
    classifications = services().classifications
    classifications.get(name)
    picture = _unless_damaged(lambda: classifications.read(io.BytesIO(data)))
    [best] = classifications.answer(name, picture, top=1).classification.guesses
    return jsonify(
        success=True,
        label=best.label,
        confidence=round(best.probability, 6),
        duration=0,
        moduleName=f"Classification ({name})",
        inferenceMs=round(1000 * (time.perf_counter() - started)),
        command="classify",
        **_machine(),
    )


# -- what there is -------------------------------------------------------------------------


@bp.post("/vision/custom/list")
def custom_list() -> ResponseReturnValue:
    """The names that ``/vision/custom/<name>`` takes for boxes; classifiers apart."""
    _let_in()
    models = [spec.name for spec in services().models.ready()]
    states = services().classifications.all()
    classifiers = [state.spec.name for state in states if state.ready]
    return jsonify(success=True, models=[FAST, *models], classifiers=classifiers)


@bp.post("/vision/listmodels")
def list_models() -> ResponseReturnValue:
    _let_in("admin_key")
    models = []
    for spec in services().models.ready():
        megabytes = round(4 * spec.card.parameters / 2**20, 1)  # of float32
        since = spec.added.at.isoformat() if spec.added else None
        models.append({"name": spec.name, "dateupdated": since, "size": megabytes})
    return jsonify(success=True, models=models)


@bp.route("/status/ping", methods=["GET", "POST"])
@bp.route("/server/status/ping", methods=["GET", "POST"])
def ping() -> ResponseReturnValue:
    return jsonify(success=True)


@bp.route("/status/updateavailable", methods=["GET", "POST"])
@bp.route("/server/status/updateavailable", methods=["GET", "POST"])
def update_available() -> ResponseReturnValue:
    return jsonify(
        success=True,
        message="No updates",
        version=VERSION,
        current=VERSION,
        latest=VERSION,
        updateAvailable=False,
    )


# -- fields --------------------------------------------------------------------------------


def _let_in(also: str = "api_key") -> Caller:
    """The caller by a header, the field ``api_key`` or that of the name ``also``.

    Raises:
        WrongKey: in the words that clients know.
    """
    config = current_app.config
    one_file = config["MAX_FILE_BYTES"] + FORM_BYTES
    request.max_content_length = min(one_file, config["MAX_CONTENT_LENGTH"])
    request.max_form_parts = PARTS
    request.form_data_parser_class = Forms
    # The body is read in any case: a client that is answered before it has sent all of it may see
    # a broken connection instead.
    field = request.form.get("api_key") or request.form.get(also) or ""
    key = header_token() or field.strip()
    try:
        enter(key, "detect")
    except Unauthorized as error:
        raise WrongKey(WRONG_KEY) from error
    return caller()


def _min_confidence() -> float:
    text = request.values.get("min_confidence", "").strip()
    try:
        value = float(text) if text else LEAST
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:  # NaN neither
        raise Refused(BAD_CONFIDENCE)
    return value


def _image() -> bytes:
    """The part ``image``, which may lack a name and a type."""
    most = services().uploads.limits.file_bytes
    for name in PICTURES:
        if (file := request.files.get(name)) is not None:
            return read_upload(cast(BinaryIO, file.stream), most)
        text = request.form.get(name)
        if text and request.mimetype == "multipart/form-data":
            return read_upload(io.BytesIO(text.encode(LOSSLESS)), most)
    raise Refused(NO_IMAGE)


def _unless_damaged(work: Callable[[], T]) -> T:
    """``work()``; a file that is no picture is refused in DeepStack's words."""
    try:
        return work()
    except InvalidImage as error:
        if error.code in ("not_a_picture", "truncated"):
            raise Refused(BAD_IMAGE) from error
        raise


def _is_classifier(name: str) -> bool:
    try:
        services().classifications.get(name)
    except NotFound:
        return False
    return True


def _machine() -> dict[str, Any]:
    device = services().instant.engine.status().device or "cpu"
    gpu = not device.startswith("cpu")
    return {
        "code": 200,
        "executionProvider": "CUDA" if device.startswith("cuda") else "CPU",
        "canUseGPU": gpu,
        "processedBy": "localhost",
        "timestampUTC": formatdate(usegmt=True),
    }
