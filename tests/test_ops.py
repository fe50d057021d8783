"""What supervisors, load balancers and Prometheus ask."""

import io
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from apps.app import create_app
from apps.config import ROOT
from apps.container import services
from apps.errors import ConfigError
from apps.extensions import db
from apps.metrics import Metrics
from apps.models import Image, ImageStatus
from apps.ops import metrics, readiness
from apps.ops.probes import Probe
from apps.services.status import versions
from apps.vision.types import EngineStatus, LoadedModel
from apps.vision.zoo.registry import BLOOD_CELLS
from tests.conftest import picture_bytes

PATIENCE = 20  # seconds a test waits for an event that comes at once, unless something is broken
NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"  # nobody listens there
LOADED = EngineStatus(
    "cuda:0 (Test GPU)", 3 * 2**30, 2**30, (LoadedModel("fake.test", 2**20, 4.0),), 2, 8, None
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(app, **headers: str) -> Samples:
    answer = app.test_client().get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return parse(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.fixture
def away(tmp_path):
    """An application whose database does not answer."""
    app = create_app(
        "testing", INSTANCE_PATH=str(tmp_path / "away"), SQLALCHEMY_DATABASE_URI=NOWHERE
    )
    yield app
    with app.app_context():
        db.engine.dispose()


# -- health --------------------------------------------------------------------------------


def test_health_needs_no_login(app):
    client = app.test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json == {
        "status": "ok",
        "checks": {"database": True, "storage": True, "engine": True},
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_nothing_can_be_sent_there(app, path):
    assert app.test_client().post(path).status_code == 405


def test_readiness_tells_what_is_missing(app):
    with app.app_context():
        db.drop_all()
    root = Path(services(app).storage.root)
    root.parent.mkdir(parents=True, exist_ok=True)
    root.write_text("a file where a folder should be")
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    checks = {"database": False, "storage": False, "engine": True}
    assert answer.json == {"status": "unavailable", "checks": checks}


def test_a_database_that_is_away_stops_readiness_and_not_health(away):
    client = away.test_client()
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {"database": False, "storage": True, "engine": True}
    assert "127.0.0.1" not in answer.text


def test_an_engine_in_trouble_is_not_ready_and_the_answer_does_not_say_why(app):
    engine = services(app).detections.engine
    engine.state = replace(LOADED, trouble="The device is lost.")
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {"database": True, "storage": True, "engine": False}
    assert "lost" not in answer.text


def test_a_model_whose_weights_are_missing_is_not_ready(make_app):
    for name, ready in ((BLOOD_CELLS.name, True), ("ssd300_vgg16.coco_v1", False)):
        answer = make_app(DETECTOR=name).test_client().get("/readyz")
        assert answer.json["checks"]["engine"] is ready


def test_a_process_that_only_serves_pages_needs_no_engine(app):
    services(app).detections.engine.state = replace(LOADED, trouble="The device is lost.")
    app.extensions["sightbox"] = replace(services(app), engine_here=False)
    readiness.init_app(app)
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json["checks"] == {"database": True, "storage": True}


def test_checks_that_hang_are_given_up(app, monkeypatch):
    monkeypatch.setattr("apps.ops.readiness.READY_SECONDS", 0.05)
    go_on = threading.Event()
    monkeypatch.setattr(
        type(services(app).storage), "check", lambda _: go_on.wait(PATIENCE) and None
    )
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["storage"] is False
    go_on.set()


def test_a_question_that_hangs_is_asked_by_one_thread_only(app):
    asked: list[int] = []
    go_on = threading.Event()

    def ask() -> str:
        asked.append(1)
        go_on.wait(PATIENCE)
        return "at last"

    probe = Probe(app, "test", ask)
    assert probe.answer(0.01) is None
    assert probe.answer(0.01) is None
    go_on.set()
    assert probe.answer(PATIENCE) == "at last"
    assert len(asked) == 1
    assert probe.answer(PATIENCE) == "at last"  # a new question
    assert len(asked) == 2


def test_probes_do_not_wait_for_the_write_lock_of_sqlite(app):
    with app.app_context():
        db.session.scalar(select(Image.id))  # outside of requests: BEGIN IMMEDIATE
        answer = app.test_client().get("/readyz")
        samples = scrape(app)
        db.session.rollback()
    assert answer.json["checks"]["database"] is True
    assert value(samples, "sightbox_database_up") == 1


# -- metrics -------------------------------------------------------------------------------


def test_requests_are_counted_by_endpoint_and_never_by_path(app, ann):
    before = scrape(app)
    ann.get("/images/4711")
    ann.get("/images/4712")
    ann.get("/no/such/page")
    ann.open("/", method="BREW")
    after = scrape(app)
    requests = "sightbox_http_requests_total"
    shown = {"endpoint": "detector.show", "method": "GET", "status": "404"}
    assert value(before, requests, **shown) is None
    assert value(after, requests, **shown) == 2
    assert value(after, "sightbox_http_request_seconds_count", endpoint="detector.show") == 2
    assert value(after, requests, endpoint="none", method="GET", status="404") == 1
    assert {dict(labels)["method"] for name, labels in after if name == requests} <= {
        "GET", "POST", "other",
    }  # fmt: skip
    assert not any("471" in text for _, labels in after for _, text in labels)


def test_a_crash_is_counted_as_500(make_app):
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/crash", "crash", view_func=lambda: 1 / 0)
    app.test_client().get("/crash")
    found = value(
        scrape(app), "sightbox_http_requests_total", endpoint="crash", method="GET", status="500"
    )
    assert found == 1


def test_uploads_and_detections_are_counted_by_their_result(app, ann, upload):
    data = picture_bytes()
    upload(ann, data)

    def script(_picture):
        raise RuntimeError("out of luck")

    ann.post("/upload", data={"image": [(io.BytesIO(data), "again.jpg")]})
    ann.post("/upload", data={"image": [(io.BytesIO(b"text"), "notes.txt")]})
    services(app).detections.engine.script = script
    upload(ann)
    samples = scrape(app)
    for result, count in (("stored", 2), ("duplicate", 1), ("not_a_picture", 1)):
        assert value(samples, "sightbox_uploads_total", result=result) == count
    detections = "sightbox_detections_total"
    assert value(samples, detections, model="fake.test", result="done") == 1
    assert value(samples, detections, model="auto", result="crashed") == 1
    assert value(samples, "sightbox_detection_seconds_count", model="fake.test") == 1
    assert value(samples, "sightbox_detection_seconds_count", model="auto") is None


def test_refused_and_lost_detections_are_told_apart(app, ann, upload):
    image_id = upload(ann)

    def lose(_picture):
        with app.app_context():
            db.session.get_one(Image, image_id).attempts = 7
            db.session.commit()
        return ()

    services(app).detections.engine.script = lose
    ann.post(f"/detect/{image_id}")
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        image.status, key = ImageStatus.FAILED, image.original_key
        db.session.commit()
    services(app).storage.delete(key)
    ann.post(f"/detect/{image_id}")
    samples = scrape(app)
    detections = "sightbox_detections_total"
    assert value(samples, detections, model="fake.test", result="lost") == 1
    assert value(samples, detections, model="auto", result="refused") == 1


def test_the_rows_are_counted_at_each_scrape(app, ann, upload):
    upload(ann)
    assert value(scrape(app), "sightbox_pictures", status="done") == 1
    assert value(scrape(app), "sightbox_oldest_waiting_seconds") == 0
    with app.app_context():
        db.session.scalars(select(Image)).one().status = ImageStatus.QUEUED
        db.session.commit()
    samples = scrape(app)
    assert value(samples, "sightbox_pictures", status="done") == 0
    assert value(samples, "sightbox_pictures", status="queued") == 1
    assert (value(samples, "sightbox_oldest_waiting_seconds") or 0) > 0


def test_the_engine_is_described(app):
    assert value(scrape(app), "sightbox_engine_up") == 1
    assert value(scrape(app), "sightbox_engine_memory_used_bytes") is None  # nothing is loaded
    services(app).detections.engine.state = LOADED
    samples = scrape(app)
    assert value(samples, "sightbox_engine_info", device="cuda:0 (Test GPU)") == 1
    assert value(samples, "sightbox_engine_memory_used_bytes") == 3 * 2**30
    assert value(samples, "sightbox_engine_memory_free_bytes") == 2**30
    assert value(samples, "sightbox_engine_models_loaded") == 1
    assert value(samples, "sightbox_engine_model_bytes", model="fake.test") == 2**20
    assert value(samples, "sightbox_engine_waiting") == 2
    assert value(samples, "sightbox_engine_capacity") == 8
    services(app).detections.engine.state = replace(LOADED, trouble="The device is lost.")
    assert value(scrape(app), "sightbox_engine_up") == 0


def test_an_engine_that_cannot_even_answer_is_down_and_the_rest_is_served(app, monkeypatch):
    monkeypatch.setattr(services(app).detections.engine, "status", lambda: 1 / 0)
    samples = scrape(app)
    assert value(samples, "sightbox_engine_up") == 0
    assert value(samples, "sightbox_database_up") == 1


def test_metrics_outlive_the_database(away):
    samples = scrape(away)
    assert value(samples, "sightbox_database_up") == 0
    assert value(samples, "sightbox_engine_up") == 1
    assert value(samples, "sightbox_pictures", status="done") is None
    assert (value(samples, "process_resident_memory_bytes") or 0) > 0
    assert value(samples, "sightbox_info", version=versions()["sightbox"]) == 1


def test_two_applications_count_for_themselves(make_app):
    one, other = make_app(), make_app()
    one.test_client().get("/")
    index = {"endpoint": "detector.index", "method": "GET", "status": "200"}
    assert value(scrape(one), "sightbox_http_requests_total", **index) == 1
    assert value(scrape(other), "sightbox_http_requests_total", **index) is None


# -- who may scrape ------------------------------------------------------------------------


def test_without_a_token_anybody_may_read(app):
    assert app.test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer s3cret-tokeX", 401),
        ("Basic czNjcmV0LXRva2Vu", 401),
        ("s3cret-token", 401),
        ("Bearer sécret", 401),
        ("Bearer s3cret-token", 200),
        ("bearer s3cret-token", 200),
    ],
)
def test_with_a_token_only_who_knows_it(make_app, header, status):
    client = make_app(METRICS_TOKEN="s3cret-token").test_client()
    answer = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert answer.status_code == status
    if status == 401:
        assert "SIGHTBOX_METRICS_TOKEN" in answer.text
        assert "s3cret" not in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert client.get("/healthz").status_code == 200  # these stay open


def test_a_token_may_have_letters_of_any_language(make_app):
    client = make_app(METRICS_TOKEN="비밀").test_client()
    spoken = "Bearer " + "비밀".encode().decode("latin-1")
    assert client.get("/metrics", headers={"Authorization": spoken}).status_code == 200


def test_a_token_that_is_read_as_a_number_stops_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_METRICS_TOKEN", "12345678")
    with pytest.raises(ConfigError, match="SIGHTBOX_METRICS_TOKEN"):
        create_app("local", INSTANCE_PATH=str(tmp_path))


def test_a_flood_of_questions_is_not_limited(make_app):
    client = make_app(RATELIMIT_ENABLED=True, RATELIMIT_DEFAULT="1 per hour").test_client()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3


# -- other processes -----------------------------------------------------------------------


@pytest.mark.parametrize("engine_here", [True, False])
def test_a_worker_serves_its_own_numbers_on_a_port(app, engine_here):
    if not engine_here:  # its settings are those of a web process whose pictures others detect
        app.extensions["sightbox"] = replace(
            services(app), metrics=Metrics(), engine_here=engine_here
        )
    services(app).metrics.detection("fake.test", "done", 0.2)
    server = metrics.serve_metrics(app, 0)
    try:
        address = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            samples = parse(answer.read().decode())
    finally:
        server.stop()
    assert value(samples, "sightbox_detections_total", model="fake.test", result="done") == 1
    assert value(samples, "sightbox_engine_up") == 1
    assert value(samples, "sightbox_pictures", status="done") is None  # the web process says that


def test_health_and_numbers_come_without_torch(tmp_path):
    script = """
import sys
from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Role, User
app = create_app("local", INSTANCE_PATH=sys.argv[1], MODEL_DOWNLOADS=False)
with app.app_context():
    db.create_all()
    user = User(username="root", email="root@example.com", password="x", role=Role.ADMIN)
    db.session.add(user)
    db.session.commit()
    key = user.fs_uniquifier
client = app.test_client()
with client.session_transaction() as session:
    session["_user_id"], session["_fresh"] = key, True
for path in ("/healthz", "/readyz", "/metrics", "/crud/status", "/crud/status.json"):
    assert client.get(path).status_code == 200, path
loaded = {"torch", "torchvision"} & set(sys.modules)
assert not loaded, loaded
services(app).queue.stop(20)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
