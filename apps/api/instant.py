"""Pictures that are looked at and not stored."""

from typing import Any, BinaryIO, cast

from werkzeug.datastructures import FileStorage

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.images import only_files
from apps.api.spec import MULTIPART, Blueprint
from apps.api.values import box_json, error_json
from apps.container import services
from apps.errors import AppError
from apps.services.instant import Found
from apps.services.uploads import read_upload
from apps.vision.decode import safe_title

bp = Blueprint("instant", __name__, description="Pictures that are looked at and not stored")


class DetectForm(schemas.InstantFiles, schemas.InstantForm):
    """Files and fields of one form."""


class ClassifyForm(schemas.OneFile, schemas.ClassifyForm):
    """Files and fields of one form."""


@bp.post("/detect")
@needs("detect", takes_files=True)
@bp.arguments(DetectForm, location=MULTIPART)
@bp.response(200, schemas.Instant)
def detect(form: dict[str, Any]) -> dict[str, Any]:
    """Find objects in one or many pictures, and store nothing

    One result for each file, in order. A file that is refused has an error in its place; if all are
    refused the answer is an error.
    """
    files = only_files(form["image"])
    instant = services().instant
    model = instant.model_called(form["model"])
    contents = [_content(file) for file in files]
    good = iter(instant.detect_many([data for data in contents if isinstance(data, bytes)], model))
    results = [next(good) if isinstance(data, bytes) else data for data in contents]
    if all(isinstance(result, AppError) for result in results):
        raise next(result for result in results if isinstance(result, AppError))
    return {
        "results": [
            _result_json(file, result, form["min_score"])
            for file, result in zip(files, results, strict=True)
        ]
    }


def _content(file: FileStorage) -> bytes | AppError:
    """What is in the file; the error in its place if it is too large."""
    try:
        return read_upload(cast(BinaryIO, file.stream), services().uploads.limits.file_bytes)
    except AppError as error:
        return error


def _result_json(file: FileStorage, result: Found | AppError, least: float) -> dict[str, Any]:
    values: dict[str, Any] = {"file": safe_title(file.filename), "detections": []}
    if isinstance(result, AppError):
        return values | dict.fromkeys(("model", "width", "height")) | {"error": error_json(result)}
    boxes = [box for box in result.detections.boxes if box.score >= least]
    boxes = boxes[: caller().max_boxes]
    return values | {
        "model": result.detections.model,
        "width": result.width,
        "height": result.height,
        "detections": [box_json(box) for box in boxes],
        "error": None,
    }


@bp.post("/classify/<name>")
@needs("detect", takes_files=True)
@bp.arguments(ClassifyForm, location=MULTIPART)
@bp.response(200, schemas.Classified)
def classify(form: dict[str, Any], name: str) -> dict[str, Any]:
    """Say what a whole picture shows, and store nothing"""
    classifications = services().classifications
    classifications.get(name)
    [file] = only_files([form["image"]])
    picture = classifications.read(cast(BinaryIO, file.stream))
    found = classifications.answer(name, picture, top=form["top"]).classification
    return {"model": found.model, "guesses": found.guesses}
