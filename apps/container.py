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
from apps.services.accounts import AccountService
from apps.services.detections import DetectionRequests, DetectionService
from apps.services.image_admin import ImageAdminService
from apps.services.images import ImageService, Limits
from apps.services.models import ModelService
from apps.services.own_models import OwnModelService
from apps.services.tags import TagService
from apps.storage import Storage
from apps.storage.local import LocalStorage
from apps.vision.engine import AUTO, TorchEngine
from apps.vision.fake import FakeEngine
from apps.vision.types import Engine
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import Registry
from apps.vision.zoo.store import WeightsStore

EXTENSION = "sightbox"


@dataclass(frozen=True)
class Container:
    """Every service of one application."""

    storage: Storage
    queue: Queue
    models: ModelService
    own_models: OwnModelService
    images: ImageService
    image_admin: ImageAdminService
    detections: DetectionService
    requests: DetectionRequests
    tags: TagService
    accounts: AccountService


def init_app(app: Flask) -> None:
    """Choose every adapter once; nothing else reads these keys."""
    storage = _storage(app)
    session = cast("scoped_session[Session]", db.session)
    models = _models(app, session)
    tags = TagService(session)
    detections = DetectionService(session, storage, _engine(app, models), tags, models)
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
        own_models=OwnModelService(session, models, app.config["MAX_WEIGHTS_BYTES"]),
        images=ImageService(session, storage, queue, limits),
        image_admin=ImageAdminService(session, tags),
        detections=detections,
        requests=DetectionRequests(session, queue, models),
        tags=tags,
        accounts=AccountService(session, storage),
    )


def services(app: Flask | None = None) -> Container:
    """The services of ``app``, by default the current one."""
    container: Container = (app or current_app).extensions[EXTENSION]
    return container


def _storage(app: Flask) -> Storage:
    if app.config["STORAGE"] == "local":
        return LocalStorage(app.config["STORAGE_ROOT"])
    raise _unknown("STORAGE", app, "local")


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
        return TorchEngine(
            models.store,
            models.configured,
            app.config["DEVICE"],
            app.config["MODELS_LOADED"],
            lookup=models.registry.get,
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
