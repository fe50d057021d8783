"""``/metrics``: what this process counted, how its engine is, and what the database says."""

import hmac
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from flask import Flask, Response, current_app, g, request, request_started
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

from apps.container import services
from apps.ops.probes import Probe
from apps.services.status import QueueNumbers, Space, versions
from apps.vision.types import EngineStatus

EXTENSION = "sightbox.metrics"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # the one that every scraper reads
SCRAPE_SECONDS = 2.0  # for each of the three questions; Prometheus gives up after ten
REFUSED = (
    "This address demands the token of SIGHTBOX_METRICS_TOKEN; "
    "send it as “Authorization: Bearer TOKEN”.\n"
)


def init_app(app: Flask) -> None:
    """Count every request, and prepare what a scrape reads."""
    request_started.connect(_remember_start, app)
    app.after_request(_count)
    process = services(app).metrics.registry
    whole = CollectorRegistry()
    # Where workers detect, each of them tells of its own engine.
    (process if services(app).engine_here else whole).register(
        _Engine(app, lambda: services(app).status.engine_status())
    )
    whole.register(process)
    whole.register(_Installation(app))
    app.extensions[EXTENSION] = whole


@dataclass(frozen=True)
class MetricsServer:
    """Answers Prometheus until it is stopped or the process ends."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        return self.server.server_port

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve_metrics(app: Flask, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Answer Prometheus from a process that is no web server, in a thread of its own.

    It tells what this process counts and how its engine is, and leaves out what the database says:
    the web process tells that already. No token is asked for here, hence the loopback address.

    Args:
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(services(app).metrics.registry)
    if not services(app).engine_here:  # by its settings it only serves pages, but it detects
        registry.register(_Engine(app, lambda: services(app).detections.engine.status()))
    return MetricsServer(*start_http_server(port, host, registry))


def answer() -> Response:
    """The numbers as text, or 401 for who does not know the token."""
    token = current_app.config["METRICS_TOKEN"]
    if token and not _knows(token):
        refused = Response(REFUSED, 401, mimetype="text/plain")
        refused.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return refused
    text = generate_latest(current_app.extensions[EXTENSION])
    return Response(text, content_type=FORMAT)


def _knows(token: str) -> bool:
    given = request.authorization
    if given is None or given.type != "bearer" or given.token is None:
        return False
    # WSGI hands headers over as Latin-1, whatever the bytes mean.
    return hmac.compare_digest(given.token.encode("latin-1"), token.encode())


def _remember_start(_app: Flask, **_extra: object) -> None:
    g.started = time.perf_counter()


def _count(response: Response) -> Response:
    seconds = time.perf_counter() - g.started
    services().metrics.request(request.method, request.endpoint, response.status_code, seconds)
    return response


# -- read at each scrape -------------------------------------------------------------------


class _Engine:
    """How the engine of this process is."""

    def __init__(self, app: Flask, status: Callable[[], EngineStatus]) -> None:
        self._probe = Probe(app, "engine", status)

    def collect(self) -> Iterable[Metric]:
        status = self._probe.answer(SCRAPE_SECONDS)
        works = status is not None and status.trouble is None
        yield _gauge("sightbox_engine_up", "Whether the detector can work.", int(works))
        if status is not None:
            yield from _engine_gauges(status)


def _engine_gauges(status: EngineStatus) -> Iterator[Metric]:
    name = "sightbox_engine"
    yield _gauge(f"{name}_waiting", "Pictures in the engine's own queue.", status.waiting)
    yield _gauge(f"{name}_capacity", "Places in that queue.", status.capacity)
    yield _gauge(f"{name}_models_loaded", "Models in memory.", len(status.models))
    sizes = GaugeMetricFamily(
        f"{name}_model_bytes", "Parameters and buffers of a loaded model.", labels=["model"]
    )
    for model in status.models:
        sizes.add_metric([model.name], model.bytes)
    yield sizes
    used, free = "Memory of the device in use by this process.", "Free memory of the device."
    if status.memory_used is not None:
        yield _gauge(f"{name}_memory_used_bytes", used, status.memory_used)
    if status.memory_free is not None:
        yield _gauge(f"{name}_memory_free_bytes", free, status.memory_free)
    if status.device is not None:
        yield InfoMetricFamily(name, "The device of the detector.", {"device": status.device})


class _Installation:
    """What is the same whichever process says it: the rows, the disk, the version."""

    def __init__(self, app: Flask) -> None:
        status = services(app).status
        self._database: Probe[QueueNumbers] = Probe(app, "database", status.queue)
        self._disk: Probe[Space | None] = Probe(app, "disk", status.disk)

    def collect(self) -> Iterable[Metric]:
        release = {"version": versions()["sightbox"]}
        yield InfoMetricFamily("sightbox", "The release.", release)
        numbers = self._database.answer(SCRAPE_SECONDS)
        up = int(numbers is not None)
        yield _gauge("sightbox_database_up", "Whether the database answered this scrape.", up)
        if numbers is not None:
            yield from _picture_gauges(numbers)
        disk = self._disk.answer(SCRAPE_SECONDS)
        if disk is not None:
            text = "Free space on the disk of the stored pictures."
            yield _gauge("sightbox_storage_free_bytes", text, disk.free)


def _picture_gauges(numbers: QueueNumbers) -> Iterator[Metric]:
    pictures = GaugeMetricFamily(
        "sightbox_pictures", "Pictures of all accounts in each state.", labels=["status"]
    )
    pictures.add_metric(["queued"], numbers.waiting)
    pictures.add_metric(["running"], numbers.running)
    pictures.add_metric(["failed"], numbers.failed)
    pictures.add_metric(["done"], numbers.done)
    yield pictures
    text = "For how long the oldest waiting picture waits; 0 when none does."
    yield _gauge("sightbox_oldest_waiting_seconds", text, numbers.oldest_seconds or 0.0)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
