"""The administrators' page of the state: its numbers, its failures, and trying them again."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from apps.config import ROOT
from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, User, Worker, utcnow
from apps.services import status
from apps.services.detections import CRASHED, FAILED
from apps.services.requests import RETRY_LIMIT
from apps.services.status import percentile
from apps.vision.types import EngineStatus, LoadedModel
from apps.vision.zoo.registry import BLOOD_CELLS
from tests.conftest import picture_bytes
from tests.test_migrations import DATABASES, POSTGRES, _clear

LOADED = EngineStatus(
    "cuda:0 (Test GPU)", 3 * 2**30, 2**30, (LoadedModel("fake.test", 2**20, 125.0),), 2, 8, None
)
ROUTES = [
    ("GET", "/crud/status"),
    ("GET", "/crud/status.json"),
    ("POST", "/crud/status/again"),
    ("POST", "/crud/status/again/1"),
]


def add(app, owner_id: int, **values: object) -> int:
    """A picture's row with nothing stored for it."""
    with app.app_context():
        number = len(db.session.scalars(select(Image.id)).all())
        image = Image(
            **{
                "owner_id": owner_id,
                "title": f"picture {number}.jpg",
                "key": f"{number:032x}",
                "extension": "jpg",
                "media_type": "image/jpeg",
                "sha256": f"{number:064x}",
                "bytes": 1,
                "width": 1,
                "height": 1,
                **values,
            }
        )
        db.session.add(image)
        db.session.commit()
        return image.id


def ago(**units: float) -> datetime:
    return utcnow() - timedelta(**units)


def failed(app, owner_id: int, minutes: float = 1, reason: str = FAILED, **values: object) -> int:
    values = {"claimed_at": ago(minutes=minutes), "error": reason, "attempts": 3} | values
    return add(app, owner_id, status=ImageStatus.FAILED, **values)


def state(app, image_id: int) -> Image:
    with app.app_context():
        return db.session.get_one(Image, image_id)


@pytest.fixture(params=DATABASES)
def numbers(request, make_app):
    """(application, id of an account) on an empty database: SQLite, and PostgreSQL if there is."""
    other = {} if request.param == "sqlite" else {"SQLALCHEMY_DATABASE_URI": POSTGRES}
    app = make_app(**other)
    with app.app_context():
        _clear()  # what an earlier test may have left there
        db.create_all()
        user = User(username="ann", email="ann@example.com", password="x")
        db.session.add(user)
        db.session.flush()
        owner_id = user.id
        db.session.commit()
        yield app, owner_id
        db.session.remove()
        _clear()


# -- who may -------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_administrators_come_in(app, ann, method, path):
    assert app.test_client().open(path, method=method).status_code == 302
    assert ann.open(path, method=method).status_code == 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_wrong_method_is_refused(admin, method, path):
    wrong = "GET" if method == "POST" else "POST"
    assert admin.open(path, method=wrong).status_code == 405


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
def test_a_change_without_a_csrf_token_is_refused(app, admin, make_user, path):
    image_id = failed(app, make_user("ann"))
    app.config["WTF_CSRF_ENABLED"] = True
    assert admin.post(path).status_code == 400
    assert state(app, image_id).status is ImageStatus.FAILED


# -- numbers -------------------------------------------------------------------------------


def test_counts_and_the_oldest_waiting_picture(numbers):
    app, owner = numbers
    for minutes in (1, 90, 3):
        add(app, owner, created_at=ago(days=400), queued_at=ago(minutes=minutes))
    add(app, owner, status=ImageStatus.RUNNING, queued_at=ago(days=2))
    failed(app, owner)
    add(app, owner, status=ImageStatus.DONE, queued_at=ago(days=2))
    add(app, owner, status=ImageStatus.DONE)
    queue = services(app).status.queue()
    assert (queue.waiting, queue.running, queue.failed, queue.done) == (3, 1, 1, 2)
    assert queue.oldest_seconds == pytest.approx(90 * 60, abs=30)


def test_pictures_a_minute_over_three_windows(numbers):
    app, owner = numbers
    for minutes in (0.2, 0.5, 5, 14, 30, 59, 61, 600):
        add(app, owner, status=ImageStatus.DONE, detected_at=ago(minutes=minutes))
    assert services(app).status.per_minute() == {1: 2.0, 15: 4 / 15, 60: 6 / 60}


def test_percentiles_of_the_last_hour(numbers):
    app, owner = numbers
    for number in range(1, 21):
        detected = ago(minutes=number)
        add(
            app, owner, status=ImageStatus.DONE, detected_at=detected, duration_ms=number * 10,
            claimed_at=detected, queued_at=detected - timedelta(seconds=number),
        )  # fmt: skip
    add(app, owner, status=ImageStatus.DONE, detected_at=ago(hours=2), duration_ms=9999)
    # Queued again: its last duration counts, and it has no time of waiting yet.
    again = {"queued_at": utcnow(), "claimed_at": ago(minutes=9), "detected_at": ago(minutes=9)}
    add(app, owner, duration_ms=5, **again)
    timing = services(app).status.timing()
    assert (timing.samples, timing.p50_ms, timing.p95_ms) == (21, 100, 190)
    assert timing.wait_p50_ms == pytest.approx(10_000)
    assert timing.wait_p95_ms == pytest.approx(19_000)


def test_only_the_newest_samples_are_compared(numbers, monkeypatch):
    app, owner = numbers
    monkeypatch.setattr(status, "SAMPLES", 2)
    for minutes, duration in ((3, 1000), (2, 10), (1, 20)):
        done = {"status": ImageStatus.DONE, "detected_at": ago(minutes=minutes)}
        add(app, owner, duration_ms=duration, **done)
    timing = services(app).status.timing()
    assert (timing.samples, timing.p50_ms, timing.p95_ms) == (2, 10, 20)


def test_nothing_at_all_is_no_error(numbers):
    app, _ = numbers
    found = services(app).status
    assert found.queue().oldest_seconds is None
    assert found.per_minute() == {1: 0, 15: 0, 60: 0}
    assert found.timing().samples == 0
    assert found.timing().p95_ms is None
    assert found.failures() == []


def test_failures_are_the_newest_first_and_not_too_many(numbers):
    app, owner = numbers
    ids = [failed(app, owner, minutes=minutes) for minutes in (30, 10, 20)]
    add(app, owner, status=ImageStatus.DONE)
    found = services(app).status.failures()
    assert [failure.image_id for failure in found] == [ids[1], ids[2], ids[0]]
    assert (found[0].owner, found[0].reason, found[0].attempts) == ("ann", FAILED, 3)
    assert len(services(app).status.failures(limit=2)) == 2


def test_the_database_says_what_it_is(numbers):
    app, _ = numbers
    found = services(app).status.database()
    assert re.match(r"(SQLite|PostgreSQL) \d+\.\d+", found.name)
    assert (found.bytes or 0) > 4096


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        ([], 0.5, None),
        ([7], 0.95, 7),
        ([3, 1, 2], 0.5, 2),
        ([4, 3, 2, 1], 0.5, 2),
        (range(1, 101), 0.95, 95),
        (range(1, 101), 1.0, 100),
        (range(1, 101), 0.0, 1),
    ],
)
def test_percentiles_are_values_that_occurred(values, part, expected):
    assert percentile(values, part) == expected


def test_every_query_uses_an_index(app, make_user):
    owner = make_user("ann")
    failed(app, owner)
    sent: list[tuple[str, Any]] = []
    with app.app_context():
        engine = db.engine

        def note(_connection, _cursor, statement, parameters, *_rest) -> None:
            if "FROM images" in statement and not statement.startswith("EXPLAIN"):
                sent.append((statement, parameters))

        event.listen(engine, "before_cursor_execute", note)
        found = services(app).status
        for ask in (found.queue, found.per_minute, found.timing, found.failures):
            ask()
        connection = db.session.connection()
        plans = [
            row[-1]
            for statement, parameters in sent
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
        event.remove(engine, "before_cursor_execute", note)
    assert len(sent) == 5
    assert [plan for plan in plans if re.search(r"SCAN images(?! USING COVERING)", plan)] == []
    assert [plan for plan in plans if "TEMP B-TREE" in plan] == []


# -- when a picture was queued -------------------------------------------------------------


def test_the_wait_begins_anew_when_a_picture_is_detected_again(app, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        db.session.get_one(Image, image_id).queued_at = ago(days=3)
        db.session.commit()
    ann.post(f"/detect/{image_id}")
    found = state(app, image_id)
    assert found.queued_at > ago(minutes=5)
    assert found.queued_at <= found.claimed_at


# -- the page ------------------------------------------------------------------------------


def test_an_empty_installation_says_so(admin):
    page = admin.get("/crud/status")
    assert page.status_code == 200
    assert "No picture has failed." in page.text
    assert "Not loaded yet" in page.text
    assert "Detect all failed ones again" not in page.text
    assert re.search(r'data-text="p95">–<', page.text)
    assert 'href="/crud/status" aria-current="page"' in page.text


def test_the_page_tells_of_device_queue_and_versions(app, admin, ann, upload):
    upload(ann)
    services(app).detections.engine.state = LOADED
    page = admin.get("/crud/status").text
    for text in ("cuda:0 (Test GPU)", "3.0 GB", "1.0 GB", "2 of 8", "fake.test", "2 minutes"):
        assert text in page, text
    assert re.search(r'data-text="done">1<', page)
    assert re.search(r"<dt>Sightbox</dt><dd[^>]*>\d+\.\d+\.\d+<", page)
    assert "SQLite 3" in page
    assert str(app.config["STORAGE_ROOT"]) in page


def test_trouble_of_the_engine_is_an_alert(app, admin):
    services(app).detections.engine.state = replace(LOADED, trouble="The <device> is lost.")
    page = admin.get("/crud/status").text
    assert "The detector cannot work." in page
    assert "The &lt;device&gt; is lost." in page


def test_a_device_that_is_not_there_is_an_alert_and_not_ready(make_app):
    app = make_app(ENGINE="torch", DEVICE="cuda:99", DETECTOR=BLOOD_CELLS.name)
    assert not services(app).detections.engine.try_device()
    with app.app_context():
        status = services(app).status.engine_status()
    assert status.trouble == "SIGHTBOX_DEVICE is cuda:99, which this machine does not have."
    client = app.test_client()
    assert client.get("/readyz").json["checks"]["engine"] is False
    assert "sightbox_engine_up 0.0" in client.get("/metrics").text


def test_where_workers_detect_the_web_process_looks_for_programs_on_its_cpu(make_app):
    app = make_app(
        ENGINE="torch", DEVICE="cuda:99", DETECTOR=BLOOD_CELLS.name, LIVE_ON_CPU=True,
        QUEUE="celery", CELERY_BROKER_URL="memory://",
    )  # fmt: skip
    here = services(app).instant
    assert here.engine is services(app).live.instant.engine
    assert here.detect(picture_bytes(), "auto").detections.model
    assert services(app).status.engine_status().device == "cpu (cuda:99 was not found)"
    assert services(app).detections.engine.status().device is None  # of workers
    numbers = app.test_client().get("/metrics").text
    assert "sightbox_engine_up 1.0" in numbers
    assert "sightbox_engine_models_loaded 1.0" in numbers


def test_where_workers_detect_the_page_says_so(app, admin):
    services(app).detections.engine.state = LOADED
    app.extensions["sightbox"] = replace(services(app), engine_here=False)
    page = admin.get("/crud/status").text
    assert "Workers look at stored pictures." in page
    assert "cuda:0 (Test GPU)" in page


def test_the_page_names_the_classifiers_in_memory(app, admin):
    loaded = (LoadedModel("lenet5.mnist", 2**20, 61.0),)
    services(app).status.classifier.loaded = loaded
    page = admin.get("/crud/status").text
    assert "lenet5.mnist" in page
    assert "classifier · 1.0 MB" in page
    assert admin.get("/crud/status.json").json["classifiers"][0]["name"] == "lenet5.mnist"


def test_the_json_has_the_numbers_and_the_texts_of_the_page(app, admin, make_user):
    services(app).detections.engine.state = LOADED
    owner = make_user("ann")
    image_id = failed(app, owner, reason=CRASHED)
    add(app, owner, queued_at=ago(minutes=3))
    data = admin.get("/crud/status.json").json
    assert data["queue"]["waiting"] == 1
    assert data["queue"]["oldest_seconds"] == pytest.approx(180, abs=30)
    assert set(data["per_minute"]) == {"1", "15", "60"}
    assert data["timing"] == {
        "samples": 0, "p50_ms": None, "p95_ms": None, "wait_p50_ms": None, "wait_p95_ms": None,
    }  # fmt: skip
    assert data["engine"]["models"] == [
        {"name": "fake.test", "bytes": 2**20, "idle_seconds": 125.0}
    ]
    [found] = data["failures"]
    assert (found["image_id"], found["owner"], found["reason"]) == (image_id, "ann", CRASHED)
    assert found["at"].endswith("+00:00")
    assert data["database"]["name"].startswith("SQLite")
    assert data["disk"]["free"] > 0
    assert data["versions"]["sightbox"] in (ROOT / "pyproject.toml").read_text()
    page = admin.get("/crud/status").text
    assert set(re.findall(r'data-text="([^"]+)"', page)) <= set(data["texts"])
    for name, mark in data["marks"].items():
        assert f'data-part="{name}" data-mark="{mark}"' in page


def test_marks_change_with_the_lists_and_not_with_the_numbers(app, admin, make_user):
    owner = make_user("ann")
    engine = services(app).detections.engine
    engine.state = LOADED
    first = admin.get("/crud/status.json").json["marks"]
    engine.state = replace(
        LOADED, memory_used=1, models=(replace(LOADED.models[0], idle_seconds=9),)
    )
    add(app, owner)
    assert admin.get("/crud/status.json").json["marks"] == first
    failed(app, owner)
    engine.state = replace(LOADED, models=(), trouble="The device is lost.")
    second = admin.get("/crud/status.json").json["marks"]
    assert all(first[name] != second[name] for name in ("trouble", "engine", "failures"))


def test_storage_elsewhere_and_a_disk_that_is_gone_are_no_crash(app, admin, monkeypatch):
    def gone(_path):
        raise OSError("gone")

    monkeypatch.setattr("shutil.disk_usage", gone)
    assert re.search(r'data-text="disk_free">–<', admin.get("/crud/status").text)
    container = services(app)
    elsewhere = replace(container, status=replace(container.status, folder=None))
    app.extensions["sightbox"] = elsewhere
    assert "no disk of this machine" in admin.get("/crud/status").text


# -- failures ------------------------------------------------------------------------------


def test_a_failure_is_listed_with_its_picture_owner_and_reason(app, admin, make_user):
    owner = make_user("ann")
    image_id = failed(app, owner, title="50 % <b>.jpg")
    page = admin.get("/crud/status").text
    assert f'href="/crud/images/{image_id}">50 % &lt;b&gt;.jpg</a>' in page
    assert f'<a href="/crud/users/{owner}">ann</a>' in page
    assert "Detection failed three times." in page
    korean = admin.get("/crud/status", headers={"Accept-Language": "ko"}).text
    assert "Detection failed three times." not in korean


def test_one_failed_picture_is_tried_again_with_the_model_it_asked_for(app, admin, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        image.status, image.error, image.attempts = ImageStatus.FAILED, FAILED, 3
        image.wanted_model = BLOOD_CELLS.name
        db.session.commit()
    answer = admin.post(f"/crud/status/again/{image_id}", follow_redirects=True)
    assert "queued for detection" in answer.text
    assert "No picture has failed." in answer.text
    found = state(app, image_id)
    assert (found.status, found.error, found.model) == (ImageStatus.DONE, None, BLOOD_CELLS.name)


def test_what_cannot_be_tried_again_says_why(app, admin, make_user):
    owner = make_user("ann")
    assert admin.post("/crud/status/again/4711").status_code == 404
    running = add(app, owner, status=ImageStatus.RUNNING)
    busy = admin.post(f"/crud/status/again/{running}", follow_redirects=True)
    assert "being looked at already" in busy.text
    missing = failed(app, owner, wanted_model="ssd300_vgg16.coco_v1")
    answer = admin.post(f"/crud/status/again/{missing}", follow_redirects=True)
    assert "not here yet" in answer.text
    assert state(app, missing).status is ImageStatus.FAILED


def test_all_failed_pictures_are_tried_again(app, admin, ann, upload):
    ids = [upload(ann) for _ in range(3)]
    with app.app_context():
        for image_id in ids[:2]:
            image = db.session.get_one(Image, image_id)
            image.status, image.error, image.attempts = ImageStatus.FAILED, FAILED, 3
            image.queued_at = image.claimed_at = ago(days=1)
        db.session.commit()
    untouched = state(app, ids[2]).detected_at
    page = admin.post("/crud/status/again", follow_redirects=True)
    assert "2 pictures are queued again." in page.text
    for image_id in ids[:2]:
        found = state(app, image_id)
        assert (found.status, found.error, found.attempts) == (ImageStatus.DONE, None, 1)
        assert found.queued_at > ago(hours=1)
    assert state(app, ids[2]).detected_at == untouched
    assert "0 pictures" in admin.post("/crud/status/again", follow_redirects=True).text


def test_trying_all_again_is_bounded_and_takes_the_newest(numbers, monkeypatch):
    app, owner = numbers
    woken: list[int] = []
    monkeypatch.setattr(services(app).queue, "enqueue", woken.append)
    ids = [failed(app, owner, minutes=minutes) for minutes in (30, 10, 20)]
    assert services(app).requests.again_failed(limit=2) == 2
    assert sorted(woken) == sorted(ids[1:])
    waiting = db.session.scalars(select(Image.id).where(Image.status == ImageStatus.QUEUED)).all()
    assert sorted(waiting) == sorted(ids[1:])
    assert RETRY_LIMIT <= 1000  # one statement, one transaction, short


def test_workers_are_listed_and_a_silent_one_is_called_gone(app, admin):
    assert "No process is detecting" in admin.get("/crud/status").text
    with app.app_context():
        workers = services().workers
        workers.beat()
        [alive] = workers.all()
        db.session.add(
            Worker(
                name="elsewhere:7:x:y", host="elsewhere", pid=7, device="cuda:0 (NVIDIA H200)",
                started_at=utcnow(), seen_at=utcnow() - timedelta(hours=1),
            )
        )  # fmt: skip
        db.session.commit()
    page = admin.get("/crud/status").text
    assert f"{alive.host} · {alive.pid}" in page
    assert "cuda:0 (NVIDIA H200)" in page
    assert page.count(">gone<") == 1
    listed = admin.get("/crud/status.json").json["workers"]
    assert {worker["pid"]: worker["alive"] for worker in listed} == {alive.pid: True, 7: False}
