"""What must answer before this process can do its work."""

import time

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from apps.container import services
from apps.ops.probes import Probe

EXTENSION = "sightbox.readiness"
READY_SECONDS = 3.0  # for all checks together


def init_app(app: Flask) -> None:
    """Prepare the checks; none is asked yet."""
    checks = {"database": _database, "storage": _storage}
    if services(app).engine_here:
        checks["engine"] = _engine
    app.extensions[EXTENSION] = {name: Probe(app, name, ask) for name, ask in checks.items()}


def checks() -> dict[str, bool]:
    """Every check by its name, asked at the same time; the log says why one failed."""
    probes: dict[str, Probe[bool]] = current_app.extensions[EXTENSION]
    deadline = time.monotonic() + READY_SECONDS
    asked = {name: probe.start() for name, probe in probes.items()}
    return {
        name: probe.wait(asked[name], deadline - time.monotonic()) is True
        for name, probe in probes.items()
    }


def _database() -> bool:
    services().models.default()  # reads a table of a late migration
    return True


def _storage() -> bool:
    services().storage.check()
    return True


def _engine() -> bool:
    """The weights for new pictures are there, and the device works."""
    models = services().models
    try:
        name = models.default()
    except SQLAlchemyError:  # the other check says so
        name = models.configured
    if not models.weights_ready(name):
        raise RuntimeError(f"the weights of {name} are missing")
    status = services().status.engine_status()
    if status.trouble is not None:
        raise RuntimeError(status.trouble)
    return True
