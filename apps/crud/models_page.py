"""Models: their weights on this machine, and which detector is the default."""

from collections.abc import Mapping

from flask import flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from apps.container import services
from apps.crud.blueprint import bp
from apps.errors import AppError, WeightsError
from apps.i18n import error_text
from apps.services.classifications import ClassifierState
from apps.services.models import ModelState
from apps.vision.zoo.classifiers import classifiers
from apps.vision.zoo.downloads import Download
from apps.vision.zoo.store import Progress
from apps.web import MB


@bp.get("/models")
def models() -> ResponseReturnValue:
    fault = services().models.fault()  # it reads files, so that the rows know what is in them
    downloads, states, others = _now()
    every: list[ModelState | ClassifierState] = [*states, *others]
    return render_template(
        "crud/models.html",
        models=states,
        classifiers=others,
        default=services().models.default(),
        fault=error_text(fault) if fault else "",
        progress={model.spec.name: progress_of(model, downloads) for model in every},
        folder=services().models.store.folder,
        path=services().models.store.path,
        speeds=services().models.speeds(),
        measured={model.spec.name: services().bench.of(model.spec) for model in states},
        engine_here=services().engine_here,
        removed=services().own_models.removed(),
    )


@bp.get("/models/status")
def models_status() -> ResponseReturnValue:
    """How far each download is, and what is being measured: asked by the page meanwhile."""
    downloads, states, others = _now()
    every: list[ModelState | ClassifierState] = [*states, *others]
    return jsonify({model.spec.name: progress_of(model, downloads) for model in every})


def _now() -> tuple[dict[str, Download | None], list[ModelState], list[ClassifierState]]:
    """Downloads by the names of their models, and all models."""
    detectors = services().models.registry.detectors()
    files = {spec.name: spec.weights for spec in detectors}
    files |= {spec.name: spec.weights for spec in classifiers()}
    state = services().models.downloads.state
    downloads = {name: state(file) for name, file in files.items()}  # first: one may end meanwhile
    return downloads, services().models.all(), services().classifications.all()


def progress_of(
    model: ModelState | ClassifierState, downloads: Mapping[str, Download | None]
) -> dict[str, object]:
    """One row of the page as plain data; ``done`` is a fraction, 0..1."""
    download = downloads.get(model.spec.name)
    progress = download.progress if download else None
    done = progress.done / progress.total if progress and progress.total else 0.0
    running = bool(download and download.running)
    text = _text(progress) if running and progress else ""
    error = error_text(download.error) if download and download.error and not model.ready else ""
    fault = services().models.store.known_fault(model.spec.weights)
    broken = services().bench.error(model.spec.name)
    return {
        "running": running,
        "done": done,
        "text": text,
        "error": error,
        "ready": model.ready,
        "fault": error_text(fault) if fault and not running else "",
        "bench_error": error_text(broken) if broken else "",
        "measuring": services().bench.running == model.spec.name,
    }


def _text(progress: Progress) -> str:
    """How far a download is; its whole size is not always known."""
    done, total, rate = (
        f"{number / MB:.1f}" for number in (progress.done, progress.total, progress.rate)
    )
    if progress.total and not progress.rate:
        return str(gettext("%(done)s of %(total)s MB", done=done, total=total))
    if progress.seconds_left is None:
        return str(gettext("%(done)s MB, %(rate)s MB/s", done=done, rate=rate))
    text: str = gettext(
        "%(done)s of %(total)s MB, %(rate)s MB/s, %(left)s s left",
        done=done,
        total=total,
        rate=rate,
        left=round(progress.seconds_left),
    )
    return text


@bp.post("/models/default")
def models_default() -> ResponseReturnValue:
    try:
        services().models.set_default(request.form.get("model", ""))
    except AppError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("Saved. New detections use it; earlier ones stay as they are."), "success")
    return redirect(url_for("crud.models"), 303)


@bp.post("/models/<name>/fetch")
def model_fetch(name: str) -> ResponseReturnValue:
    services().models.fetch(name)
    return redirect(url_for("crud.models"), 303)


@bp.post("/models/<name>/verify")
def model_verify(name: str) -> ResponseReturnValue:
    try:
        services().models.verify(name)
    except WeightsError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("%(name)s: the checksum is right.", name=name), "success")
    return redirect(url_for("crud.models"), 303)


@bp.post("/models/<name>/bench")
def model_bench(name: str) -> ResponseReturnValue:
    try:
        services().bench.start(name)
    except AppError as error:
        if error.status == 404:
            raise
        flash(error_text(error), "error")
    return redirect(url_for("crud.models"), 303)


@bp.post("/models/<name>/remove")
def model_remove(name: str) -> ResponseReturnValue:
    try:
        services().models.remove(name)
    except AppError as error:
        if error.status == 404:
            raise
        flash(error_text(error), "error")
    else:
        flash(gettext("The weights of %(name)s are removed.", name=name), "success")
    return redirect(url_for("crud.models"), 303)
