"""The one place that picks storage, queue and engine from the configuration."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

from flask import Flask, current_app
from sqlalchemy.orm import Session, scoped_session

from apps.errors import ConfigError
from apps.extensions import db, reading, writing
from apps.jobs import Queue
from apps.jobs.heartbeat import Heartbeat
from apps.jobs.inline import InlineQueue
from apps.jobs.thread import ThreadQueue
from apps.metrics import Metrics
from apps.services.accounts import AccountService
from apps.services.annotations import AnnotationService
from apps.services.blob_copy import BlobCopy
from apps.services.boxes import BoxService
from apps.services.classifications import ClassificationService
from apps.services.client_calls import ClientCallService
from apps.services.detections import DetectionService
from apps.services.exports import ExportService
from apps.services.filters import FilterService
from apps.services.gallery import GalleryService
from apps.services.idempotency import IdempotencyService
from apps.services.image_admin import ImageAdminService
from apps.services.images import ImageService
from apps.services.instant import InstantService
from apps.services.live import LiveService
from apps.services.models import ModelService
from apps.services.own_models import OwnModelService
from apps.services.requests import DetectionRequests
from apps.services.results import ResultService
from apps.services.reviews import ReviewService
from apps.services.selections import SelectionService
from apps.services.status import StatusService
from apps.services.tags import TagService
from apps.services.tokens import TokenService
from apps.services.trash import TrashService
from apps.services.uploads import Limits, UploadService
from apps.services.video_detections import VideoDetections
from apps.services.videos import ClipLimits, VideoService
from apps.services.workers import WorkerService
from apps.storage import Storage
from apps.storage.fs import FsspecStorage
from apps.storage.local import LocalStorage
from apps.vision.classify import TorchClassifier
from apps.vision.cores import sleep_instead_of_spinning
from apps.vision.engine import AUTO, EngineOptions, TorchEngine
from apps.vision.fake import FakeEngine
from apps.vision.fake_classifier import FakeClassifier
from apps.vision.handover import Handover
from apps.vision.types import Classifier, Engine
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import Registry
from apps.vision.zoo.store import WeightsStore

EXTENSION = "sightbox"
PRECISIONS = ("float32", "bfloat16", "float16")  # keys of apps.vision.optimize.PRECISIONS
BEATS = 6  # that a worker may miss before it counts as gone


@dataclass(frozen=True)
class Container:
    """Every service of one application."""

    storage: Storage
    queue: Queue
    models: ModelService
    own_models: OwnModelService
    images: ImageService
    gallery: GalleryService
    filters: FilterService
    exports: ExportService
    selections: SelectionService
    trash: TrashService
    uploads: UploadService
    image_admin: ImageAdminService
    detections: DetectionService
    results: ResultService
    annotations: AnnotationService
    boxes: BoxService
    reviews: ReviewService
    classifications: ClassificationService
    requests: DetectionRequests
    live: LiveService
    video_queue: Queue
    videos: VideoService
    video_detections: VideoDetections
    tags: TagService
    accounts: AccountService
    instant: InstantService
    tokens: TokenService
    client_calls: ClientCallService
    idempotency: IdempotencyService
    workers: WorkerService
    status: StatusService
    metrics: Metrics
    engine_here: bool  # False: only other processes detect


def init_app(app: Flask) -> None:
    """Choose every adapter once; nothing else reads these keys."""
    storage = _storage(app)
    session = cast("scoped_session[Session]", db.session)
    models = _models(app, session)
    tags = TagService(session)
    metrics = Metrics()
    engine = _engine(app, models)
    lost_after = timedelta(seconds=_seconds(app, "WORKER_LOST_SECONDS"))
    workers = WorkerService(session, lost_after, lambda: engine.status().device)
    # Where the same process detects; elsewhere nobody would come for them.
    handover = Handover() if app.config["QUEUE"] == "thread" else Handover(limit=0)
    detections = DetectionService(
        session, storage, engine, tags, models, workers, metrics.detection, reading, handover
    )
    trash = TrashService(session, storage, tags, _days(app, "TRASH_DAYS"))
    queue = _queue(app, detections, trash)
    limits = Limits(
        file_bytes=app.config["MAX_FILE_BYTES"],
        image_pixels=app.config["MAX_IMAGE_PIXELS"],
        quota_bytes=app.config["USER_QUOTA_BYTES"],
        archive_files=app.config["MAX_ARCHIVE_FILES"],
        archive_bytes=app.config["MAX_ARCHIVE_BYTES"],
    )
    images = ImageService(session, storage)
    uploads = UploadService(session, storage, queue, limits, metrics.upload, writing, handover)
    clip_limits = _clip_limits(app)
    video_detections = VideoDetections(
        session, storage, engine, models, workers, clip_limits.pixels, clip_limits.seconds
    )
    video_queue = _video_queue(app, queue, video_detections)
    app.extensions[EXTENSION] = Container(
        storage=storage,
        queue=queue,
        models=models,
        own_models=OwnModelService(session, models, app.config["MAX_WEIGHTS_BYTES"]),
        images=images,
        gallery=GalleryService(session, images),
        filters=FilterService(session),
        exports=ExportService(session, storage),
        selections=SelectionService(session, tags),
        trash=trash,
        uploads=uploads,
        image_admin=ImageAdminService(session, tags),
        detections=detections,
        results=ResultService(session, tags),
        annotations=AnnotationService(session, tags),
        boxes=BoxService(session),
        reviews=ReviewService(session),
        classifications=ClassificationService(
            session, images, _classifier(app, models, queue), models.store, models.downloads, limits
        ),
        requests=DetectionRequests(session, queue, models),
        live=LiveService(session, _live_engine(app, models, engine, queue), models),
        video_queue=video_queue,
        videos=VideoService(
            session, storage, video_queue, models, clip_limits, uploads.quota, writing
        ),
        video_detections=video_detections,
        tags=tags,
        accounts=AccountService(session, storage),
        instant=InstantService(session, engine, models, limits),
        tokens=TokenService(session, writing),
        client_calls=ClientCallService(session, writing),
        idempotency=IdempotencyService(session, writing),
        workers=workers,
        status=StatusService(session, engine if queue.works_here else None, _folder(storage)),
        metrics=metrics,
        engine_here=queue.works_here,
    )


def services(app: Flask | None = None) -> Container:
    """The services of ``app``, by default the current one."""
    container: Container = (app or current_app).extensions[EXTENSION]
    return container


def start(app: Flask) -> None:
    """Begin the background work of this process; again is no error."""
    queue = services(app).queue
    queue.start()
    services(app).video_queue.start()
    if queue.works_here:
        warm(app)


def warm(app: Flask) -> None:
    """Load the default model beside all else, if the settings ask for it; again is no error."""
    if app.config["WARM"] and not app.extensions.get(f"{EXTENSION}.warm"):
        app.extensions[f"{EXTENSION}.warm"] = True
        threading.Thread(target=_warm, args=(app,), name="warm", daemon=True).start()


def _warm(app: Flask) -> None:
    with app.app_context():
        try:
            services(app).detections.warm()
        except Exception:  # the first picture will tell
            app.logger.exception("not warm")


def copy_from(place: str, options: Mapping[str, object], setting: str) -> BlobCopy:
    """A copy from ``place``, a folder or an address, to the storage of the current application.

    Args:
        options: as STORAGE_OPTIONS, for an address.
        setting: what ``place`` is called in error texts.

    Raises:
        ConfigError: no such folder, or what FsspecStorage raises.
    """
    source: Storage
    if "://" in place:
        source = FsspecStorage(place, options, setting=setting)
    elif Path(place).is_dir():
        source = LocalStorage(place)
    else:
        raise ConfigError(f"{setting} is neither a folder nor an address.")
    session = cast("scoped_session[Session]", db.session)
    return BlobCopy(session, source, services().storage)


def _storage(app: Flask) -> Storage:
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


def _folder(storage: Storage) -> Path | None:
    """The folder of the pictures, where they are on a disk of this machine."""
    return storage.root if isinstance(storage, LocalStorage) else None


def _models(app: Flask, session: "scoped_session[Session]") -> ModelService:
    default = app.config["DETECTOR"]
    store = WeightsStore(Path(app.config["WEIGHTS_ROOT"]))
    own = OwnWeights(store.folder)
    registry = Registry(own.specs)
    if default != AUTO:
        registry.get(default)  # an unknown name stops the start
    may_download = app.config["MODEL_DOWNLOADS"]
    return ModelService(session, store, own, registry, Downloads(store), default, may_download)


def _engine(app: Flask, models: ModelService) -> Engine:
    if app.config["ENGINE"] == "torch":
        options = _engine_options(app)
        sleep_instead_of_spinning()
        return TorchEngine(models.store, models.configured, options, models.registry.get)
    if app.config["ENGINE"] == "fake" and app.config["CONFIG_KEY"] == "testing":
        return FakeEngine()
    raise _unknown("ENGINE", app, "torch")


def _classifier(app: Flask, models: ModelService, queue: Queue) -> Classifier:
    """Of the same kind as the engine, which has refused what is unknown.

    It works in the web process even where detection does not; the device is that of the workers
    then, and the CPU has to do.
    """
    if app.config["ENGINE"] == "fake":
        return FakeClassifier()
    return TorchClassifier(models.store, app.config["DEVICE"] if queue.works_here else "cpu")


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


def _queue(app: Flask, detections: DetectionService, trash: TrashService) -> Queue:
    if app.config["QUEUE"] == "thread":
        return ThreadQueue(
            run=detections.run,
            next_job=detections.next_queued,
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


def _write(run: Callable[[int], object], job_id: int) -> None:
    """Run a job inside of a request that only reads otherwise."""
    with writing():
        run(job_id)


def _video_queue(app: Flask, queue: Queue, clips: VideoDetections) -> Queue:
    """Clips have a thread of their own: one frame at a time is in the engine beside pictures."""
    if not queue.works_here:
        return _celery_queue(app, clips=True)
    if isinstance(queue, InlineQueue):
        return InlineQueue(lambda video_id: _write(clips.run, video_id))
    threads = ThreadQueue(
        run=lambda video_id: _run_clip(clips, threads, video_id),
        next_job=clips.next_queued,
        recover=clips.recover,
        context=app.app_context,
        poll=app.config["QUEUE_POLL_SECONDS"],
        name="clips",
    )
    return threads


def _run_clip(clips: VideoDetections, threads: ThreadQueue, video_id: int) -> None:
    clips.run(video_id, lambda: threads.stopping)


def _clip_limits(app: Flask) -> ClipLimits:
    """Raises ConfigError if a clip could not be of any size."""
    for key in ("MAX_VIDEO_BYTES", "MAX_VIDEO_SECONDS"):
        if not app.config[key] > 0:
            raise ConfigError(f"SIGHTBOX_{key} must be more than 0.")
    config = app.config
    return ClipLimits(
        config["MAX_VIDEO_BYTES"], config["MAX_VIDEO_SECONDS"], config["MAX_IMAGE_PIXELS"]
    )


def _live_engine(app: Flask, models: ModelService, engine: Engine, queue: Queue) -> Engine | None:
    """What looks at frames of cameras, which cannot wait for another process."""
    if queue.works_here:
        return engine
    if not app.config["LIVE_ON_CPU"]:
        return None
    if not isinstance(engine, TorchEngine):
        return engine
    options = replace(engine.options, device="cpu", precision="float32")
    return TorchEngine(models.store, models.configured, options, models.registry.get)


def _celery_queue(app: Flask, *, clips: bool = False) -> Queue:
    from apps.jobs import celery  # only who uses it pays for it

    broker = str(app.config["CELERY_BROKER_URL"] or "")
    kinds = {*celery.BROKERS, "memory"} if app.testing else celery.BROKERS
    if broker.partition("://")[0] not in kinds:
        raise ConfigError(
            "SIGHTBOX_QUEUE=celery needs SIGHTBOX_CELERY_BROKER_URL, for example "
            "redis://127.0.0.1:6379/1 or amqp://user:password@127.0.0.1//."
        )
    made = celery.make_celery(broker, _seconds(app, "SWEEP_SECONDS"))
    return celery.CeleryQueue(made, celery.CLIP if clips else celery.DETECT)


def heartbeat(app: Flask, workers: WorkerService, beat: Callable[[], object]) -> Heartbeat:
    """Calls ``beat`` in the rhythm in which other processes expect to hear of this one."""
    every = workers.lost_after.total_seconds() / BEATS
    return Heartbeat(beat, workers.leave, app.app_context, every)


def _seconds(app: Flask, key: str) -> float:
    seconds: float = app.config[key]
    if seconds < 1:
        raise ConfigError(f"SIGHTBOX_{key} is {seconds!r}; set it to 1 or more.")
    return seconds


def _days(app: Flask, key: str) -> int:
    days = app.config[key]
    if not isinstance(days, int) or days < 1:
        raise ConfigError(f"SIGHTBOX_{key} is {days!r}; set it to a whole number, at least 1.")
    return days


def _unknown(key: str, app: Flask, *known: str) -> ConfigError:
    words = ", ".join(known)
    return ConfigError(f"SIGHTBOX_{key} is {app.config[key]!r}; use one of: {words}.")
