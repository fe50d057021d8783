"""The one place where services are put together, with the adapters that the settings ask for."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from flask import Flask, current_app
from sqlalchemy.orm import Session, scoped_session

from apps import adapters
from apps.errors import ConfigError, NotFound, WeightsError
from apps.extensions import db, reading, writing
from apps.jobs import Queue
from apps.metrics import Metrics
from apps.models import Export, Import, Video
from apps.services.accounts import AccountService
from apps.services.annotations import AnnotationService
from apps.services.bench import BenchService
from apps.services.blob_copy import BlobCopy
from apps.services.boxes import BoxService
from apps.services.classifications import ClassificationService
from apps.services.client_calls import ClientCallService
from apps.services.deliveries import DeliveryService
from apps.services.detections import DetectionService
from apps.services.export_jobs import ExportJobs
from apps.services.export_making import ExportMaker
from apps.services.export_native import NativeMaker
from apps.services.export_pictures import PictureReader
from apps.services.exports import ExportService
from apps.services.filters import FilterService
from apps.services.gallery import GalleryService
from apps.services.idempotency import IdempotencyService
from apps.services.image_admin import ImageAdminService
from apps.services.images import ImageService
from apps.services.import_jobs import ImportJobs
from apps.services.import_rows import RowWriter
from apps.services.imports import ImportService
from apps.services.instant import InstantService
from apps.services.keeping import Keeper
from apps.services.labelstudios import LabelStudioService
from apps.services.live import FRAME_PIXELS, LiveService
from apps.services.models import ModelService
from apps.services.own_models import OwnModelService
from apps.services.requests import DetectionRequests
from apps.services.results import ResultService
from apps.services.reviews import ReviewService
from apps.services.room import ExportRoom
from apps.services.selections import SelectionService
from apps.services.single_boxes import SingleBoxService
from apps.services.status import StatusService
from apps.services.sweeping import SweepService
from apps.services.tags import TagService
from apps.services.tokens import TokenService
from apps.services.trash import TrashService
from apps.services.uploads import Limits, UploadService
from apps.services.video_detections import VideoDetections
from apps.services.videos import VideoService
from apps.services.webhooks import Outbox, WebhookService
from apps.services.work_rows import WorkRows
from apps.services.workers import WorkerService
from apps.storage import Storage
from apps.storage.fs import FsspecStorage
from apps.storage.local import LocalStorage
from apps.vision.handover import Handover
from apps.vision.types import Engine

EXTENSION = "sightbox"
_SENDS = f"{EXTENSION}.sends"  # whether this process sends messages of the outbox


@dataclass(frozen=True)
class Container:
    """Every service of one application."""

    storage: Storage
    queue: Queue
    models: ModelService
    own_models: OwnModelService
    bench: BenchService
    images: ImageService
    gallery: GalleryService
    filters: FilterService
    exports: ExportService
    export_queue: Queue
    export_jobs: ExportJobs
    selections: SelectionService
    trash: TrashService
    uploads: UploadService
    image_admin: ImageAdminService
    detections: DetectionService
    results: ResultService
    annotations: AnnotationService
    single_boxes: SingleBoxService
    boxes: BoxService
    reviews: ReviewService
    classifications: ClassificationService
    requests: DetectionRequests
    live: LiveService
    video_queue: Queue
    videos: VideoService
    video_detections: VideoDetections
    import_queue: Queue
    imports: ImportService
    import_jobs: ImportJobs
    tags: TagService
    accounts: AccountService
    instant: InstantService
    labelstudios: LabelStudioService
    tokens: TokenService
    client_calls: ClientCallService
    idempotency: IdempotencyService
    webhooks: WebhookService
    deliveries: DeliveryService
    webhook_queue: Queue
    workers: WorkerService
    status: StatusService
    sweeping: SweepService
    metrics: Metrics
    engine_here: bool  # False: other processes look at stored pictures


@dataclass(frozen=True)
class _Work:
    """What looks at pictures and clips, and when."""

    engine: Engine
    handover: Handover
    workers: WorkerService
    detections: DetectionService
    queue: Queue
    clips: VideoDetections
    clip_queue: Queue
    deliveries: DeliveryService
    webhook_queue: Queue
    outbox: Outbox


def init_app(app: Flask) -> None:
    """Put the services of ``app`` together, once."""
    session = cast("scoped_session[Session]", db.session)
    storage, models = adapters.storage_of(app), adapters.models_of(app, session)
    tags, metrics = TagService(session), Metrics()
    images, boxes = ImageService(session, storage), BoxService(session)
    trash = TrashService(session, storage, tags, adapters.days_of(app, "TRASH_DAYS"))
    work = _work(app, session, storage, models, tags, trash, metrics)
    queue = work.queue
    limits, clip_limits = _limits(app), adapters.clip_limits_of(app)
    keeper = Keeper(session, storage, app.config["USER_QUOTA_BYTES"], writing)
    gallery = GalleryService(session, images, boxes)
    app.extensions[EXTENSION] = Container(
        storage=storage,
        queue=queue,
        models=models,
        own_models=OwnModelService(session, models, app.config["MAX_WEIGHTS_BYTES"]),
        bench=BenchService(session, models, work.engine, engine_here=queue.works_here),
        images=images,
        gallery=gallery,
        trash=trash,
        uploads=UploadService(
            session, storage, queue, limits, keeper, metrics.upload, work.handover
        ),
        image_admin=ImageAdminService(session, tags),
        detections=work.detections,
        boxes=boxes,
        requests=DetectionRequests(session, queue, models),
        video_queue=work.clip_queue,
        videos=VideoService(session, storage, work.clip_queue, models, clip_limits, keeper),
        video_detections=work.clips,
        tags=tags,
        accounts=AccountService(session, storage),
        workers=work.workers,
        sweeping=SweepService(session, storage),
        metrics=metrics,
        engine_here=queue.works_here,
        **_people(session, tags),
        **_instant(app, session, storage, models, images, work, limits),
        **_programs(app, session, work),
        **_exports(app, session, storage, work, gallery),
        **_imports(app, session, storage, work, tags, trash, keeper),
    )  # fmt: skip


def _people(session: "scoped_session[Session]", tags: TagService) -> dict[str, Any]:
    """The container's services of what people say of results and keep, by their names."""
    annotations = AnnotationService(session, tags)
    return {
        "filters": FilterService(session),
        "selections": SelectionService(session, tags),
        "results": ResultService(session, tags),
        "annotations": annotations,
        "single_boxes": SingleBoxService(annotations),
        "reviews": ReviewService(session),
    }


def _instant(
    app: Flask,
    session: "scoped_session[Session]",
    storage: Storage,
    models: ModelService,
    images: ImageService,
    work: _Work,
    limits: Limits,
) -> dict[str, Any]:
    """The container's services that answer at once, by their names."""
    here = adapters.instant_engine_of(models, work.engine, work.queue)
    classifier = adapters.classifier_of(app, models, work.queue)
    instant = InstantService(session, here, models, limits.image_pixels)
    cameras = InstantService(session, here, models, FRAME_PIXELS)
    live = cameras if work.queue.works_here or app.config["LIVE_ON_CPU"] else None
    return {
        "instant": instant,
        "live": LiveService(live),
        "classifications": ClassificationService(
            session, images, classifier, models.store, models.downloads, limits
        ),
        "labelstudios": LabelStudioService(
            session, instant, app.config["SECRET_KEY"], limits.file_bytes,
            app.config["OUTBOUND_PRIVATE"], writing,
        ),
        "status": StatusService(session, here, classifier, adapters.folder_of(storage)),
    }  # fmt: skip


def _programs(app: Flask, session: "scoped_session[Session]", work: _Work) -> dict[str, Any]:
    """The container's services for programs that call or are called, by their names."""
    return {
        "tokens": TokenService(session, writing),
        "client_calls": ClientCallService(session, writing),
        "idempotency": IdempotencyService(session, writing),
        "webhooks": WebhookService(session, app.config["OUTBOUND_PRIVATE"], work.outbox.wake),
        "deliveries": work.deliveries,
        "webhook_queue": work.webhook_queue,
    }


def _exports(
    app: Flask,
    session: "scoped_session[Session]",
    storage: Storage,
    work: _Work,
    gallery: GalleryService,
) -> dict[str, Any]:
    """The container's services of exports, by their names."""
    reader = PictureReader(session, reading)
    maker = ExportMaker(reader, storage, NativeMaker(session, storage, reader))
    days = adapters.days_of(app, "EXPORT_DAYS")
    waiting = WorkRows(session, work.workers, Export)
    most = adapters.bytes_of(app, "EXPORT_QUOTA_BYTES")
    room = ExportRoom(session, most, adapters.folder_of(storage))
    jobs = ExportJobs(session, storage, waiting, maker, gallery, room, days)
    queue = adapters.export_queue_of(app, work.queue, jobs)
    exports = ExportService(session, storage, maker, gallery, queue, room)
    return {"exports": exports, "export_queue": queue, "export_jobs": jobs}


def _imports(
    app: Flask,
    session: "scoped_session[Session]",
    storage: Storage,
    work: _Work,
    tags: TagService,
    trash: TrashService,
    keeper: Keeper,
) -> dict[str, Any]:
    """The container's services of imports, by their names."""
    limits, rows = adapters.import_limits_of(app), RowWriter(session, tags)
    waiting = WorkRows(session, work.workers, Import)
    jobs = ImportJobs(session, storage, waiting, keeper, rows, work.queue, limits)
    queue = adapters.import_queue_of(app, work.queue, jobs)
    folder = adapters.folder_of(storage)
    imports = ImportService(session, storage, queue, trash, keeper, limits, folder)
    return {"imports": imports, "import_queue": queue, "import_jobs": jobs}


def _work(
    app: Flask,
    session: "scoped_session[Session]",
    storage: Storage,
    models: ModelService,
    tags: TagService,
    trash: TrashService,
    metrics: Metrics,
) -> _Work:
    engine = adapters.engine_of(app, models)
    lost_after = timedelta(seconds=adapters.seconds_of(app, adapters.LOST_SECONDS))
    workers = WorkerService(session, lost_after, engine.status)
    # Where the same process detects; elsewhere nobody would come for them.
    handover = Handover() if app.config["QUEUE"] == "thread" else Handover(limit=0)
    # Workers have folders of weights of their own. One process alone would wait for nobody.
    local_errors = (WeightsError, NotFound) if app.config["QUEUE"] == "celery" else ()
    deliveries = DeliveryService(session, app.config["OUTBOUND_PRIVATE"], reading)
    webhook_queue = adapters.webhook_queue_of(app, deliveries)
    outbox = Outbox(session, lambda: _wake_sender(app, webhook_queue))
    detections = DetectionService(
        session, storage, engine, tags, models, workers, outbox, metrics.detection, reading,
        handover, local_errors=local_errors,
    )  # fmt: skip
    queue = adapters.queue_of(app, detections, trash)
    limits = adapters.clip_limits_of(app)
    waiting = WorkRows(session, workers, Video)
    clips = VideoDetections(
        session, storage, engine, models, waiting, outbox, limits.pixels, limits.seconds,
        local_errors=local_errors,
    )  # fmt: skip
    clip_queue = adapters.clip_queue_of(app, queue, clips)
    return _Work(
        engine, handover, workers, detections, queue, clips, clip_queue,
        deliveries, webhook_queue, outbox,
    )  # fmt: skip


def _wake_sender(app: Flask, webhook_queue: Queue) -> None:
    """Where this process sends; another one looks by itself."""
    if app.extensions.get(_SENDS):
        webhook_queue.enqueue(0)


def start_sending(app: Flask) -> None:
    """Send messages of the outbox in threads of this process; again is no error."""
    app.extensions[_SENDS] = True
    services(app).webhook_queue.start()


def _limits(app: Flask) -> Limits:
    return Limits(
        file_bytes=app.config["MAX_FILE_BYTES"],
        image_pixels=app.config["MAX_IMAGE_PIXELS"],
        archive_files=app.config["MAX_ARCHIVE_FILES"],
        archive_bytes=app.config["MAX_ARCHIVE_BYTES"],
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
    services(app).import_queue.start()
    services(app).export_queue.start()
    if queue.works_here:
        start_sending(app)
        warm(app)


def warm(app: Flask) -> None:
    """Load the default model beside all else, if the settings ask for it; again is no error.

    A device that they name is looked for in any case, so that a wrong one is told at the start.
    """
    named = app.config["DEVICE"] not in ("auto", "cpu")
    if (app.config["WARM"] or named) and not app.extensions.get(f"{EXTENSION}.warm"):
        app.extensions[f"{EXTENSION}.warm"] = True
        threading.Thread(target=_warm, args=(app,), name="warm", daemon=True).start()


def _warm(app: Flask) -> None:
    with app.app_context():
        try:
            work = services(app).detections
            if work.engine.try_device() and app.config["WARM"]:
                work.warm()
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
