"""Storage, queues, engine and classifier as the configuration asks for them; nothing else reads
these keys."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from flask import Flask
from sqlalchemy.orm import Session, scoped_session

from apps.errors import ConfigError
from apps.extensions import writing
from apps.jobs import CLIP, DETECT, EXPORT, IMPORT, Next, Queue
from apps.jobs.heartbeat import Heartbeat
from apps.jobs.inline import InlineQueue
from apps.jobs.thread import Ahead, ThreadQueue
from apps.services.deliveries import THREADS as SENDERS
from apps.services.deliveries import DeliveryService
from apps.services.detections import DetectionService
from apps.services.export_jobs import ExportJobs
from apps.services.import_files import ImportLimits
from apps.services.import_jobs import ImportJobs
from apps.services.models import ModelService
from apps.services.trash import TrashService
from apps.services.video_detections import VideoDetections
from apps.services.videos import ClipLimits
from apps.services.workers import WorkerService, living_engines
from apps.storage import Storage
from apps.storage.fs import FsspecStorage
from apps.storage.local import LocalStorage
from apps.vision.classify import TorchClassifier
from apps.vision.cores import wait_briefly
from apps.vision.engine import AUTO, EngineOptions, TorchEngine
from apps.vision.fake import FakeEngine
from apps.vision.fake_classifier import FakeClassifier
from apps.vision.types import Classifier, Engine, EngineStatus
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import Registry
from apps.vision.zoo.store import WeightsStore

PRECISIONS = ("float32", "bfloat16", "float16")  # keys of apps.vision.optimize.PRECISIONS
LOOKED_UP = 16  # waiting pictures at a time
LOST_SECONDS = "WORKER_LOST_SECONDS"  # setting
BEATS = 6  # that a worker may miss before it counts as gone


def storage_of(app: Flask) -> Storage:
    """Where files are kept. Raises ConfigError if the settings do not go together."""
    url, options = app.config["STORAGE_URL"], app.config["STORAGE_OPTIONS"]
    if app.config["STORAGE"] == "fsspec":
        return FsspecStorage(url, options, app.config["STORAGE_PRESIGN"])
    if app.config["STORAGE"] != "local":
        raise _unknown("STORAGE", app, "local", "fsspec")
    if url or app.config["STORAGE_PRESIGN"]:
        raise ConfigError(
            "SIGHTBOX_STORAGE_URL and _PRESIGN do nothing while SIGHTBOX_STORAGE is 'local'; "
            "set it to fsspec, or remove them."
        )
    return LocalStorage(app.config["STORAGE_ROOT"])


def folder_of(storage: Storage) -> Path | None:
    """The folder of the pictures, where they are on a disk of this machine."""
    return storage.root if isinstance(storage, LocalStorage) else None


def models_of(app: Flask, session: "scoped_session[Session]") -> ModelService:
    """The models, and which is the default one. Raises ConfigError for an unknown default."""
    default = app.config["DETECTOR"]
    store = WeightsStore(Path(app.config["WEIGHTS_ROOT"]))
    own = OwnWeights(store.folder)
    registry = Registry(own.specs)
    if default != AUTO and not registry.is_known(default):
        known = [spec.name for spec in registry.detectors()]
        raise _unknown("DETECTOR", app, AUTO, *known)
    return ModelService(
        session,
        store,
        own,
        registry,
        Downloads(store),
        default,
        app.config["DEVICE"],
        app.config["MODEL_DOWNLOADS"],
        elsewhere=_elsewhere(app, session),
    )


def _elsewhere(app: Flask, session: "scoped_session[Session]") -> Callable[[], list[EngineStatus]]:
    """How the engines of workers are, where they look at stored pictures; else there are none."""
    if app.config["QUEUE"] != "celery":
        return list
    return partial(living_engines, session, timedelta(seconds=seconds_of(app, LOST_SECONDS)))


def engine_of(app: Flask, models: ModelService) -> Engine:
    """What looks at pictures. Raises ConfigError for a setting that cannot be."""
    if app.config["ENGINE"] == "torch":
        options = _engine_options(app)
        wait_briefly()
        return TorchEngine(models.store, models.configured, options, models.registry.get)
    if app.config["ENGINE"] == "fake" and app.config["CONFIG_KEY"] == "testing":
        return FakeEngine()
    raise _unknown("ENGINE", app, "torch")


def classifier_of(app: Flask, models: ModelService, queue: Queue) -> Classifier:
    """Of the same kind as the engine, which has refused what is unknown.

    It works in the web process, also where workers look at stored pictures; the device is theirs
    then, and the CPU has to do.
    """
    if app.config["ENGINE"] == "fake":
        return FakeClassifier()
    options = _engine_options(app)
    return TorchClassifier(
        models.store,
        options.device if queue.works_here else "cpu",
        idle_seconds=options.idle_seconds,
        fall_back=options.fall_back,
    )


def _engine_options(app: Flask) -> EngineOptions:
    if app.config["PRECISION"] not in PRECISIONS:
        raise _unknown("PRECISION", app, *PRECISIONS)
    counts = {"MODELS_LOADED": 1, "BATCH_SIZE": 1, "ENGINE_CAPACITY": 1, "QUEUE_THREADS": 1}
    for key, least in (counts | {"CPU_THREADS": 0}).items():
        value = app.config[key]
        if not isinstance(value, int) or value < least:
            text = f"SIGHTBOX_{key} is {value!r}; set it to a whole number, at least {least}."
            raise ConfigError(text)
    if app.config["QUEUE_POLL_SECONDS"] <= 0:
        raise ConfigError("SIGHTBOX_QUEUE_POLL_SECONDS must be more than 0.")
    return EngineOptions(
        device=app.config["DEVICE"],
        keep=app.config["MODELS_LOADED"],
        idle_seconds=60 * app.config["MODEL_IDLE_MINUTES"],
        batch=app.config["BATCH_SIZE"],
        capacity=app.config["ENGINE_CAPACITY"],
        cpu_threads=app.config["CPU_THREADS"],
        precision=app.config["PRECISION"],
        fall_back=app.config["DEVICE_FALLBACK"],
    )


def queue_of(app: Flask, detections: DetectionService, trash: TrashService) -> Queue:
    """When and where pictures are looked at. Raises ConfigError for an unknown kind."""
    if app.config["QUEUE"] == "thread":
        return ThreadQueue(
            run=detections.run,
            next_job=Ahead(detections.next_few, LOOKED_UP),
            recover=lambda: (detections.recover(), trash.purge_due()),
            context=app.app_context,
            poll=app.config["QUEUE_POLL_SECONDS"],
            threads=app.config["QUEUE_THREADS"],
            heartbeat=heartbeat(app, detections.workers, detections.workers.beat),
        )
    if app.config["QUEUE"] == "celery":
        return _celery_queue(app)
    if app.config["QUEUE"] == "inline" and app.config["CONFIG_KEY"] == "testing":
        return InlineQueue(lambda image_id: _write(detections.run, image_id))
    raise _unknown("QUEUE", app, "thread", "celery")


def _write(run: Callable[..., object], *arguments: object) -> None:
    """Run a job inside of a request that only reads otherwise."""
    with writing():
        run(*arguments)


def clip_queue_of(app: Flask, queue: Queue, clips: VideoDetections) -> Queue:
    """Clips have a thread of their own: one frame at a time is in the engine beside pictures."""
    return _thread_beside(app, queue, CLIP, clips.run, clips.next_queued, clips.recover)


def import_queue_of(app: Flask, queue: Queue, jobs: ImportJobs) -> Queue:
    """Imports have a thread of their own: they read and write files, and need no engine."""
    return _thread_beside(
        app,
        queue,
        IMPORT,
        lambda number, _stop: jobs.run(number),
        jobs.work.next_queued,
        jobs.recover,
    )


def export_queue_of(app: Flask, queue: Queue, exports: ExportJobs) -> Queue:
    """Exports have a thread of their own, as imports."""
    return _thread_beside(
        app, queue, EXPORT, exports.run, exports.work.next_queued,
        lambda: (exports.recover(), exports.purge_due()),
    )  # fmt: skip


def _thread_beside(
    app: Flask,
    queue: Queue,
    task: str,
    run: Callable[[int, Callable[[], bool]], object],
    next_job: Next,
    recover: Callable[[], object],
) -> Queue:
    """For work of another kind than ``queue``, that of pictures, has: done by whoever does that.

    Args:
        run: does the job of a row; its second argument tells whether this process ends.
    """
    if not queue.works_here:
        return _celery_queue(app, task)
    if isinstance(queue, InlineQueue):
        return InlineQueue(lambda number: _write(run, number, lambda: False))

    def here(number: int) -> None:
        run(number, lambda: threads.stopping)

    threads = ThreadQueue(
        run=here,
        next_job=next_job,
        recover=recover,
        context=app.app_context,
        poll=app.config["QUEUE_POLL_SECONDS"],
        name=f"{task.rpartition('.')[2]}s",
    )
    return threads


def import_limits_of(app: Flask) -> ImportLimits:
    """Raises ConfigError if no archive could be of any size."""
    keys = ("MAX_IMPORT_BYTES", "MAX_IMPORT_FILES", "MAX_IMPORT_UNPACKED_BYTES", "MAX_LABEL_BYTES")
    for key in keys:
        if not app.config[key] > 0:
            raise ConfigError(f"SIGHTBOX_{key} must be more than 0.")
    archive, files, unpacked, labels = (app.config[key] for key in keys)
    pictures = app.config["MAX_FILE_BYTES"], app.config["MAX_IMAGE_PIXELS"]
    return ImportLimits(archive, files, unpacked, labels, *pictures)


def webhook_queue_of(app: Flask, deliveries: DeliveryService) -> Queue:
    """Who sends messages of the outbox: threads of each process that detects.

    They are never those that detect: an address that hangs holds up messages alone.
    """
    if app.config["QUEUE"] == "inline":
        return InlineQueue(lambda _: None)  # tests send what is due themselves
    return ThreadQueue(
        run=deliveries.run,
        next_job=deliveries.next_due,
        recover=lambda: None,  # what was on its way is due again by itself
        context=app.app_context,
        poll=app.config["QUEUE_POLL_SECONDS"],
        threads=SENDERS,
        name="webhooks",
    )


def clip_limits_of(app: Flask) -> ClipLimits:
    """Raises ConfigError if a clip could not be of any size."""
    for key in ("MAX_VIDEO_BYTES", "MAX_VIDEO_SECONDS"):
        if not app.config[key] > 0:
            raise ConfigError(f"SIGHTBOX_{key} must be more than 0.")
    config = app.config
    return ClipLimits(
        config["MAX_VIDEO_BYTES"], config["MAX_VIDEO_SECONDS"], config["MAX_IMAGE_PIXELS"]
    )


def instant_engine_of(models: ModelService, engine: Engine, queue: Queue) -> Engine:
    """What looks at pictures that cannot wait for another process: of programs, and of cameras.

    Where only workers have the device of the settings, the CPU of this process has to do.
    """
    if queue.works_here or not isinstance(engine, TorchEngine):
        return engine
    options = replace(engine.options, fall_back=True)
    return TorchEngine(models.store, models.configured, options, models.registry.get)


def _celery_queue(app: Flask, task: str = DETECT) -> Queue:
    from apps.jobs import celery  # only who uses it pays for it

    broker = str(app.config["CELERY_BROKER_URL"] or "")
    kinds = {*celery.BROKERS, "memory"} if app.testing else celery.BROKERS
    if broker.partition("://")[0] not in kinds:
        raise ConfigError(
            "SIGHTBOX_QUEUE=celery needs SIGHTBOX_CELERY_BROKER_URL, for example "
            "redis://127.0.0.1:6379/1 or amqp://user:password@127.0.0.1//."
        )
    made = celery.make_celery(broker, seconds_of(app, "SWEEP_SECONDS"))
    return celery.CeleryQueue(made, task)


def heartbeat(app: Flask, workers: WorkerService, beat: Callable[[], object]) -> Heartbeat:
    """Calls ``beat`` in the rhythm in which other processes expect to hear of this one."""
    every = workers.lost_after.total_seconds() / BEATS
    return Heartbeat(beat, workers.leave, app.app_context, every)


def seconds_of(app: Flask, key: str) -> float:
    """The setting ``key``. Raises ConfigError if it is less than a second."""
    seconds: float = app.config[key]
    if seconds < 1:
        raise ConfigError(f"SIGHTBOX_{key} is {seconds!r}; set it to 1 or more.")
    return seconds


def days_of(app: Flask, key: str) -> int:
    """The setting ``key``. Raises ConfigError unless it is a whole number from 1."""
    days = app.config[key]
    if not isinstance(days, int) or days < 1:
        raise ConfigError(f"SIGHTBOX_{key} is {days!r}; set it to a whole number, at least 1.")
    return days


def bytes_of(app: Flask, key: str) -> int:
    """The setting ``key``. Raises ConfigError unless it is a whole number from 0."""
    most = app.config[key]
    if not isinstance(most, int) or most < 0:
        raise ConfigError(f"SIGHTBOX_{key} is {most!r}; set it to a whole number of bytes.")
    return most


def _unknown(key: str, app: Flask, *known: str) -> ConfigError:
    words = ", ".join(known)
    return ConfigError(f"SIGHTBOX_{key} is {app.config[key]!r}; use one of: {words}.")
