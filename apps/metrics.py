"""What this process counts while it works, for Prometheus. One registry for each application."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one process; safe from every thread.

    Label values must come from small fixed sets, because each new one is kept for ever: endpoints
    and not paths, known methods, error codes, models of the registry.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "sightbox_http_requests",
            "Answered requests.",
            ("method", "endpoint", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "sightbox_http_request_seconds",
            "From the first line of a request until its answer is ready to be sent.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._uploads = Counter(
            "sightbox_uploads",
            "Uploaded files: stored, or the code of the error that refused them.",
            ("result",),
            registry=self.registry,
        )
        self._detections = Counter(
            "sightbox_detections",
            "Tries to detect a picture: done, lost, refused, crashed or put back.",
            ("model", "result"),
            registry=self.registry,
        )
        self._detection_seconds = Histogram(
            "sightbox_detection_seconds",
            "One detection: reading, decoding, the detector and storing the result.",
            ("model",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def request(self, method: str, endpoint: str | None, status: int, seconds: float) -> None:
        """Count an answered request; ``endpoint`` is None for an address that does not exist."""
        name = endpoint or "none"
        known = method if method in METHODS else "other"
        self._requests.labels(known, name, str(status)).inc()
        self._request_seconds.labels(name).observe(seconds)

    def upload(self, result: str) -> None:
        """Count an uploaded file: ``stored``, or the code of its error."""
        self._uploads.labels(result).inc()

    def detection(self, model: str, result: str, seconds: float) -> None:
        """Count a try to detect a picture; the seconds of those that ended well are kept."""
        self._detections.labels(model, result).inc()
        if result == "done":
            self._detection_seconds.labels(model).observe(seconds)
