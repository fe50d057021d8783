"""What Celery imports: ``celery -A apps.worker worker`` and ``celery -A apps.worker beat``.

``script/worker`` starts both. Any number of workers may run, on any number of machines.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import signals
from celery.concurrency.prefork import TaskPool as Prefork
from celery.exceptions import Reject
from dotenv import load_dotenv
from sqlalchemy.exc import OperationalError

from apps.adapters import heartbeat
from apps.app import create_app
from apps.config import ROOT
from apps.container import services, start_sending, warm
from apps.errors import ConfigError
from apps.extensions import db
from apps.jobs import CLIP, DETECT, EXPORT, IMPORT, TryLater
from apps.jobs.celery import SWEEP, CeleryQueue, Pauses
from apps.ops.metrics import serve_metrics

logger = logging.getLogger(__name__)

SLICE = 600.0  # seconds for which a clip keeps a worker at most; less when pictures wait
LOOK = 1.0  # seconds between two looks whether pictures wait
PAUSE = 5.0  # seconds for which a worker lets a database alone that does not answer
LONGEST_PAUSE = 60.0  # while job after job has to wait
PR_SET_PDEATHSIG = 1  # of prctl(2), Linux

os.umask(0o077)  # the pictures are nobody else's
load_dotenv(ROOT / ".env")
try:
    flask_app = create_app(os.environ.get("SIGHTBOX_CONFIG", "local"))
except ConfigError as error:
    sys.exit(f"Sightbox does not start: {error}")
queue = services(flask_app).queue
if not isinstance(queue, CeleryQueue):
    sys.exit("Sightbox does not start: set SIGHTBOX_QUEUE=celery, here and for the web process.")
messages: CeleryQueue = queue
clip_queue = services(flask_app).video_queue
import_queue = services(flask_app).import_queue
export_queue = services(flask_app).export_queue
celery_app = queue.celery


pauses = Pauses(PAUSE, LONGEST_PAUSE)


@contextmanager
def _job(kind: str, number: int) -> Iterator[None]:
    """Around the job of one row: the message of what has to wait goes back to its queue."""
    try:
        with flask_app.app_context():
            yield
        pauses.forget()
    except OperationalError as error:
        logger.warning("database away; %s=%d waits: %s", kind, number, error.orig)
        pauses.ending.wait(PAUSE)  # or the whole queue would be thrown away in a moment
        raise Reject("database away", requeue=True) from None
    except TryLater as error:
        logger.warning("%s=%d waits: %s", kind, number, error)
        pauses.take(error.pauses)
        raise Reject("try later", requeue=True) from None


@celery_app.task(name=DETECT)
def detect(image_id: int) -> None:
    """Detect one picture if it still waits; the claim of its row makes a repeat harmless."""
    with _job("image_id", image_id):
        services().detections.run(image_id)
        if services().detections.engine.trouble is not None:
            raise TryLater("the engine of this worker cannot work")


@celery_app.task(name=CLIP)
def clip(video_id: int) -> None:
    """Look at a clip while no picture waits; what is left of it goes to the end of its queue."""
    with _job("video_id", video_id):
        if services().video_detections.run(video_id, _make_way()):
            clip_queue.enqueue(video_id)
        if services().detections.engine.trouble is not None:
            raise TryLater("the engine of this worker cannot work")


@celery_app.task(name=IMPORT)
def bring(import_id: int) -> None:
    """Look into an archive, or bring its pictures in, if it still waits."""
    with _job("import_id", import_id):
        services().import_jobs.run(import_id)


@celery_app.task(name=EXPORT)
def export(export_id: int) -> None:
    """Make an export if it still waits."""
    with _job("export_id", export_id):
        services().export_jobs.run(export_id)


def _make_way() -> Callable[[], bool]:
    """When a clip should be put aside: asked after each of its frames."""
    begun = looked = time.monotonic()

    def pause() -> bool:
        nonlocal looked
        now = time.monotonic()
        if now - looked < LOOK:
            return False
        looked = now
        return now - begun > SLICE or services().detections.waiting() > 0

    return pause


@celery_app.task(name=SWEEP)
def sweep() -> None:
    """Take back what lost workers held, and send the messages again that the broker lost."""
    try:
        with flask_app.app_context():
            detections, clips = services().detections, services().video_detections
            detections.recover()
            clips.recover()
            imports = services().import_jobs
            imports.recover()
            exports = services().export_jobs
            exports.recover()
            exports.purge_due()
            services().trash.purge_due()
            messages.refill(detections.waiting(), detections.queued)
            if isinstance(clip_queue, CeleryQueue):
                clip_queue.refill(clips.work.waiting(), clips.work.queued)
            if isinstance(import_queue, CeleryQueue):
                import_queue.refill(imports.work.waiting(), imports.work.queued)
            if isinstance(export_queue, CeleryQueue):
                export_queue.refill(exports.work.waiting(), exports.work.queued)
            services().models.fetch_preferred()
    except OperationalError as error:
        logger.warning("database away; the next sweep tries again: %s", error.orig)


def _beat() -> None:
    """Every process also takes back by itself: only it knows what it no longer works on."""
    services().workers.beat()
    services().detections.recover()
    services().video_detections.recover()
    services().import_jobs.recover()
    services().export_jobs.recover()
    if services().detections.engine.status().lost and not pauses.ending.is_set():
        logger.critical("the device is lost: this worker ends, and whoever started it starts anew")
        pauses.ending.set()
        os.kill(os.getpid(), signal.SIGTERM)  # as its supervisor would stop it


life = heartbeat(flask_app, services(flask_app).workers, _beat)
main_pid = os.getpid()


@signals.worker_process_init.connect
def _forked(**_: Any) -> None:
    """A child of the prefork pool must not share its parent's database connections."""
    if os.getpid() == main_pid:  # the solo pool sends this signal too
        return
    with flask_app.app_context():
        db.engine.dispose(close=False)
    life.start()
    start_sending(flask_app)
    warm(flask_app)


@signals.worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:
    if not isinstance(sender.pool, Prefork):  # whose children detect, not this process
        life.start()
        start_sending(flask_app)
        warm(flask_app)
        _serve_metrics()
    with flask_app.app_context():
        services().models.fetch_preferred()


def _serve_metrics() -> None:
    """For Prometheus, if the settings say where; a worker without it still works."""
    port, host = flask_app.config["WORKER_METRICS_PORT"], flask_app.config["WORKER_METRICS_HOST"]
    if port:
        try:
            serve_metrics(flask_app, port, host)
        except OSError as error:
            logger.warning("no metrics host=%s port=%d: %s", host, port, error)


@signals.worker_shutting_down.connect
def _shutting_down(**_: Any) -> None:
    """In a signal handler, maybe of the very thread that waits: its lock must not be taken here."""
    threading.Thread(target=pauses.ending.set, name="ending", daemon=True).start()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    life.stop()
    services(flask_app).webhook_queue.stop(1)


@signals.beat_embedded_init.connect
def _end_with_the_worker(**_: Any) -> None:
    """``worker --beat`` forks a process for beat: it must not outlive a worker that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
