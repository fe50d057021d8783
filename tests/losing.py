"""For ``celery worker --include tests.losing``: that worker's GPU is lost after some batches."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from apps.container import services
from apps.vision.engine import TorchEngine
from apps.worker import flask_app

BATCHES = 3

engine = services(flask_app).detections.engine
assert isinstance(engine, TorchEngine)
work, batches = engine._forward, count(1)


def _forward(batch: Sequence[Any]) -> list[dict[str, Any]]:
    if next(batches) > BATCHES:
        raise RuntimeError("CUDA error: unspecified launch failure")
    return work(batch)


engine._forward = _forward  # type: ignore[method-assign]
