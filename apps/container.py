"""The one place that picks storage, queue and engine from the configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flask import Flask, current_app
from sqlalchemy.orm import Session, scoped_session

from apps.errors import ConfigError
from apps.extensions import db
from apps.jobs import Queue
from apps.jobs.inline import InlineQueue
from apps.jobs.thread import ThreadQueue
from apps.metrics import Metrics
from apps.services.accounts import AccountService
from apps.services.detections import DetectionRequests, DetectionService
from apps.services.image_admin import ImageAdminService
from apps.services.images import ImageService, Limits
from apps.services.models import ModelService
from apps.services.status import StatusService
from apps.services.tags import TagService
from apps.storage import Storage
from apps.storage.local import LocalStorage
from apps.vision.engine import AUTO, TorchEngine
from apps.vision.fake import FakeEngine
from apps.vision.types import Engine
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.registry import get_detector
from apps.vision.zoo.store import WeightsStore

EXTENSION = "sightbox"


@dataclass(frozen=True)
class Container:
    """Every service of one application."""

    storage: Storage
    queue: Queue
    models: ModelService
    images: ImageService
    image_admin: ImageAdminService
    detections: DetectionService
    requests: DetectionRequests
    tags: TagService
    accounts: AccountService
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
    detections = DetectionService(session, storage, engine, tags, models, metrics.detection)
    queue = _queue(app, detections)
    limits = Limits(
        file_bytes=app.config["MAX_FILE_BYTES"],
        image_pixels=app.config["MAX_IMAGE_PIXELS"],
        quota_bytes=app.config["USER_QUOTA_BYTES"],
    )
    app.extensions[EXTENSION] = Container(
        storage=storage,
        queue=queue,
        models=models,
        images=ImageService(session, storage, queue, limits, metrics.upload),
        image_admin=ImageAdminService(session, tags),
        detections=detections,
        requests=DetectionRequests(session, queue, models),
        tags=tags,
        accounts=AccountService(session, storage),
        status=StatusService(session, engine, _folder(storage)),
        metrics=metrics,
        engine_here=True,  # the thread works in every process
    )


def services(app: Flask | None = None) -> Container:
    """The services of ``app``, by default the current one."""
    container: Container = (app or current_app).extensions[EXTENSION]
    return container


def _storage(app: Flask) -> Storage:
    if app.config["STORAGE"] == "local":
        return LocalStorage(app.config["STORAGE_ROOT"])
    raise _unknown("STORAGE", app, "local")


def _folder(storage: Storage) -> Path | None:
    """The folder of the pictures, where they are on a disk of this machine."""
    return storage.root if isinstance(storage, LocalStorage) else None


def _models(app: Flask, session: "scoped_session[Session]") -> ModelService:
    default = app.config["DETECTOR"]
    if default != AUTO:
        get_detector(default)  # an unknown name stops the start
    store = WeightsStore(Path(app.config["WEIGHTS_ROOT"]))
    return ModelService(session, store, Downloads(store), default, app.config["MODEL_DOWNLOADS"])


def _engine(app: Flask, models: ModelService) -> Engine:
    if app.config["ENGINE"] == "torch":
        return TorchEngine(
            models.store, models.configured, app.config["DEVICE"], app.config["MODELS_LOADED"]
        )
    if app.config["ENGINE"] == "fake" and app.config["CONFIG_KEY"] == "testing":
        return FakeEngine()
    raise _unknown("ENGINE", app, "torch")


def _queue(app: Flask, detections: DetectionService) -> Queue:
    if app.config["QUEUE"] == "thread":
        return ThreadQueue(
            run=detections.run,
            next_job=detections.next_queued,
            recover=detections.recover,
            context=app.app_context,
            poll=app.config["QUEUE_POLL_SECONDS"],
        )
    if app.config["QUEUE"] == "inline" and app.config["CONFIG_KEY"] == "testing":
        return InlineQueue(detections.run)
    raise _unknown("QUEUE", app, "thread")


def _unknown(key: str, app: Flask, known: str) -> ConfigError:
    return ConfigError(f"SIGHTBOX_{key} is {app.config[key]!r}; use one of: {known}.")
