"""How the installation is: numbers that follow by themselves, and what failed."""

import zlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from flask import flash, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import format_decimal, format_timedelta, gettext, ngettext

from apps.container import services
from apps.crud.blueprint import bp
from apps.errors import AppError
from apps.i18n import error_text, stored_text
from apps.models import utcnow
from apps.services.status import (
    SAMPLES,
    DatabaseFacts,
    Failure,
    QueueNumbers,
    Space,
    Timing,
    versions,
)
from apps.services.workers import WorkerState
from apps.vision.types import EngineStatus, LoadedModel
from apps.web import megabytes

NOTHING = "–"


@dataclass(frozen=True)
class Snapshot:
    """Everything that the page shows."""

    at: datetime
    queue: QueueNumbers
    per_minute: dict[int, float]  # minutes: pictures a minute over them
    timing: Timing
    engine: EngineStatus
    engine_here: bool  # False: workers look at stored pictures
    classifiers: tuple[LoadedModel, ...]
    failures: list[Failure]
    database: DatabaseFacts
    disk: Space | None
    workers: list[WorkerState]


def _snapshot() -> Snapshot:
    status = services().status
    return Snapshot(
        at=utcnow(),
        queue=status.queue(),
        per_minute=status.per_minute(),
        timing=status.timing(),
        engine=status.engine_status(),
        engine_here=services().engine_here,
        classifiers=status.classifiers(),
        failures=status.failures(),
        database=status.database(),
        disk=status.disk(),
        workers=services().workers.all(),
    )


@bp.get("/status")
def status() -> ResponseReturnValue:
    now = _snapshot()
    return render_template(
        "crud/status.html",
        now=now,
        texts=_texts(now),
        marks=_marks(now),
        versions=versions(),
        folder=services().status.folder,
        limit=SAMPLES,
    )


@bp.get("/status.json")
def status_json() -> ResponseReturnValue:
    """The same as plain data, with the texts and marks by which the page follows."""
    now = _snapshot()
    failures = [
        asdict(failure) | {"reason": stored_text(failure.reason)} for failure in now.failures
    ]
    for failure in failures:
        failure["at"] = failure["at"] and failure["at"].isoformat()
    workers = [_worker_json(worker) for worker in now.workers]
    data = asdict(now) | {"at": now.at.isoformat(), "failures": failures, "versions": versions()}
    data["workers"] = workers
    return jsonify(data | {"texts": _texts(now), "marks": _marks(now)})


def _worker_json(worker: WorkerState) -> dict[str, object]:
    times = {"started_at": worker.started_at.isoformat(), "seen_at": worker.seen_at.isoformat()}
    return asdict(worker) | times


@bp.post("/status/again/<int:image_id>")
def status_again(image_id: int) -> ResponseReturnValue:
    """One failed picture once more, with the model that it asked for."""
    wanted = services().image_admin.find(image_id).wanted_model
    try:
        services().requests.again(image_id, model=wanted)
    except AppError as error:
        flash(error_text(error), "error")
    else:
        flash(gettext("The picture is queued for detection."), "success")
    return redirect(url_for("crud.status"), 303)


@bp.post("/status/again")
def status_again_all() -> ResponseReturnValue:
    count = services().requests.again_failed()
    text = ngettext("%(num)s picture is queued again.", "%(num)s pictures are queued again.", count)
    if left := services().status.queue().failed:
        text += " " + gettext("%(count)s more have failed: press once more for them.", count=left)
    flash(text, "success")
    return redirect(url_for("crud.status"), 303)


# -- texts ---------------------------------------------------------------------------------


def _texts(now: Snapshot) -> dict[str, str]:
    """Every number of the page as it is written there, in the language of the page."""
    queue, timing = now.queue, now.timing
    texts = {
        "waiting": _number(queue.waiting),
        "running": _number(queue.running),
        "failed": _number(queue.failed),
        "done": _number(queue.done),
        "oldest": NOTHING if queue.oldest_seconds is None else _duration(queue.oldest_seconds),
        "p50": _milliseconds(timing.p50_ms),
        "p95": _milliseconds(timing.p95_ms),
        "wait_p50": _milliseconds(timing.wait_p50_ms),
        "wait_p95": _milliseconds(timing.wait_p95_ms),
        "samples": _number(timing.samples),
        "database_size": _size(now.database.bytes),
        "disk_free": _size(now.disk.free if now.disk else None),
        "disk_used": _size(now.disk.used if now.disk else None),
    }
    for worker in now.workers:
        texts[f"seen {worker.name}"] = _duration((now.at - worker.seen_at).total_seconds())
        texts[f"has {worker.name}"] = _number(len(worker.pictures))
        if worker.engine:
            told = _engine_texts(worker.engine)
            texts |= {f"{name} {worker.name}": text for name, text in told.items()}
    texts |= {f"per_minute_{minutes}": _number(n) for minutes, n in now.per_minute.items()}
    return texts | _engine_texts(now.engine) | _idle_texts(now.classifiers)


def _engine_texts(engine: EngineStatus) -> dict[str, str]:
    texts = {
        "memory_used": _size(engine.memory_used),
        "memory_free": _size(engine.memory_free),
        "engine_waiting": gettext(
            "%(count)s of %(places)s",
            count=_number(engine.waiting),
            places=_number(engine.capacity),
        ),
    }
    return texts | _idle_texts(engine.models)


def _idle_texts(models: tuple[LoadedModel, ...]) -> dict[str, str]:
    return {f"idle {model.name}": _duration(model.idle_seconds) for model in models}


def _marks(now: Snapshot) -> dict[str, str]:
    """For each part of the page that is more than numbers, a text that changes with it."""
    engine = now.engine
    parts: dict[str, object] = {
        "trouble": engine.trouble,
        "engine": (engine.device, _models(engine), [model.name for model in now.classifiers]),
        "failures": [(failure.image_id, failure.at) for failure in now.failures],
        "workers": [
            (worker.name, worker.device, worker.alive, worker.trouble, _models(worker.engine))
            for worker in now.workers
        ],
    }
    return {name: f"{zlib.crc32(str(part).encode()):08x}" for name, part in parts.items()}


def _models(engine: EngineStatus | None) -> list[str]:
    return [model.name for model in engine.models] if engine else []


def _number(value: float) -> str:
    text: str = format_decimal(round(value, 1 if value < 10 else 0))
    return text


def _milliseconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value < 1000:
        return f"{_number(value)} ms"
    return f"{_number(value / 1000)} s" if value < 120_000 else _duration(value / 1000)


def _duration(seconds: float) -> str:
    text: str = format_timedelta(timedelta(seconds=round(seconds)))
    return text


def _size(value: int | None) -> str:
    return NOTHING if value is None else megabytes(value)
