"""Which model is in use, and which weights are needed, where workers look at pictures."""

import hashlib
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from flask import Flask

from apps.container import services
from apps.extensions import db
from apps.models import Worker, utcnow
from apps.vision import devices
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.types import EngineStatus
from apps.vision.zoo import registry
from apps.vision.zoo.registry import BEST_ON_CPU, BEST_ON_GPU, BLOOD_CELLS, EMBEDDED_DEFAULT

STATUS = EngineStatus("cuda:0 (NVIDIA H200)", None, None, (), 0, 64, None)
DATA = b"good weights"


@pytest.fixture
def app(make_app, monkeypatch) -> Flask:
    """A web process without a GPU, and both models that "auto" may prefer beside it."""
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    app = make_app(QUEUE="celery", CELERY_BROKER_URL="memory://")
    store = services(app).models.store
    store.folder.mkdir(parents=True)
    for field in ("BEST_ON_CPU", "BEST_ON_GPU"):
        spec = getattr(registry, field)
        digest = hashlib.sha256(DATA).hexdigest()
        best = replace(spec, weights=replace(spec.weights, size=len(DATA), sha256=digest))
        monkeypatch.setitem(registry._specs, spec.name, best)
        monkeypatch.setattr(f"apps.vision.engine.{field}", best)
        store.path(best.weights).write_bytes(DATA)
    return app


def tell(app, name: str, auto: str | None, prefers: str | None, silent: int = 0) -> None:
    """A worker has said this ``silent`` seconds ago."""
    seen = utcnow() - timedelta(seconds=silent)
    engine = asdict(replace(STATUS, auto=auto, prefers=prefers))
    with app.app_context():
        db.session.add(
            Worker(name=name, host=name, pid=1, started_at=seen, seen_at=seen, engine=engine)
        )
        db.session.commit()


def remove(admin, name: str) -> str:
    return admin.post(f"/crud/models/{name}/remove", follow_redirects=True).text


def test_what_the_workers_use_is_in_use_and_stays(app, admin):
    tell(app, "a", BEST_ON_GPU.name, BEST_ON_GPU.name)
    tell(app, "silent", BLOOD_CELLS.name, BLOOD_CELLS.name, silent=3600)
    assert "in use" in admin.get(f"/models/{BEST_ON_GPU.name}").text
    assert "in use" not in admin.get(f"/models/{BEST_ON_CPU.name}").text
    assert "in use" not in admin.get(f"/models/{BLOOD_CELLS.name}").text
    assert "uses this model at present" in remove(admin, BEST_ON_GPU.name)
    # This process looks at the pictures of programs.
    assert "uses this model at present" in remove(admin, BEST_ON_CPU.name)


def test_workers_of_both_kinds_need_both(app, admin):
    tell(app, "a", BEST_ON_GPU.name, BEST_ON_GPU.name)
    tell(app, "b", BEST_ON_CPU.name, BEST_ON_CPU.name)
    for spec in (BEST_ON_GPU, BEST_ON_CPU):
        assert "in use" in admin.get(f"/models/{spec.name}").text
        assert "uses this model at present" in remove(admin, spec.name)


def test_what_a_worker_would_rather_use_stays_unless_it_is_damaged(app, admin):
    tell(app, "a", EMBEDDED_DEFAULT.name, BEST_ON_GPU.name)  # it has not looked since the download
    assert "in use" in admin.get(f"/models/{EMBEDDED_DEFAULT.name}").text
    assert "uses this model at present" in remove(admin, BEST_ON_GPU.name)
    store = services(app).models.store
    store.path(BEST_ON_GPU.weights).write_bytes(b"Good weights")
    page = admin.get("/crud/models").text
    assert "would rather use" in page
    assert "checksum differs" in page
    assert "are removed" in remove(admin, BEST_ON_GPU.name)


def test_a_default_with_a_name_is_in_use_whatever_workers_say_of_auto(app, admin):
    tell(app, "a", BEST_ON_GPU.name, BEST_ON_GPU.name)
    admin.post("/crud/models/default", data={"model": BLOOD_CELLS.name})
    assert "in use" in admin.get(f"/models/{BLOOD_CELLS.name}").text
    assert "in use" not in admin.get(f"/models/{BEST_ON_GPU.name}").text
    assert "are removed" in remove(admin, BEST_ON_GPU.name)


@pytest.mark.parametrize("name", [None, "of.a.later.version"])
def test_without_a_word_of_workers_this_process_guesses(app, admin, name):
    tell(app, "a", name, None)
    assert "in use" in admin.get(f"/models/{BEST_ON_CPU.name}").text
    assert "uses this model at present" in remove(admin, BEST_ON_CPU.name)


def test_an_engine_tells_what_auto_means_there_and_reads_no_file_for_it(app, monkeypatch):
    store = services(app).models.store
    monkeypatch.setitem(devices._is_cuda, "cuda:1", True)
    monkeypatch.setattr(type(store), "fault", lambda *_: pytest.fail("it read a file"))
    for device, best in (("cpu", BEST_ON_CPU), ("cuda:1", BEST_ON_GPU)):
        engine = TorchEngine(store, options=EngineOptions(device))
        status = engine.status()
        assert (status.auto, status.prefers) == (best.name, best.name)
        store.path(best.weights).write_bytes(bytes(5000))
        status = engine.status()
        assert (status.auto, status.prefers) == (EMBEDDED_DEFAULT.name, best.name)
