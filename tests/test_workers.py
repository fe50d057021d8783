"""Who detects: heartbeats, and workers that fell silent."""

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import update

from apps.config import ROOT
from apps.container import services
from apps.errors import ConfigError
from apps.extensions import db
from apps.jobs.heartbeat import Heartbeat
from apps.models import Annotation, Image, ImageStatus, Verdict, Worker, utcnow
from apps.services.workers import FORGOTTEN_AFTER, is_alive, worker_name
from apps.vision.types import Box, EngineStatus, LoadedModel

PATIENCE = 20  # seconds
ELSEWHERE = "gpu-2:7:another-boot:1234"  # a worker on another machine


def add_worker(app, name: str, silent: timedelta) -> None:
    with app.app_context():
        seen = utcnow() - silent
        host, pid = name.split(":")[:2]
        db.session.add(Worker(name=name, host=host, pid=int(pid), started_at=seen, seen_at=seen))
        db.session.commit()


def listed(app) -> list:
    with app.app_context():
        return services(app).workers.all()


def set_picture(app, image_id, **values) -> None:
    with app.app_context():
        db.session.execute(update(Image).where(Image.id == image_id).values(values))
        db.session.commit()


# -- the list ------------------------------------------------------------------------------


def test_a_worker_is_listed_from_its_first_beat_to_its_good_bye(app):
    with app.app_context():
        services(app).workers.beat()
        [first] = services(app).workers.all()
        services(app).workers.beat()
        [again] = services(app).workers.all()
        services(app).workers.leave()
        assert services(app).workers.all() == []
    assert first.name == worker_name()
    assert (first.pid, first.alive, first.pictures) == (os.getpid(), True, ())
    assert again.started_at == first.started_at
    assert again.seen_at >= first.seen_at


def test_a_worker_is_listed_with_its_picture_and_whether_it_is_alive(app, ann, upload):
    image_id = upload(ann)
    add_worker(app, ELSEWHERE, timedelta(seconds=1))
    add_worker(app, "gpu-3:7:x:1", timedelta(minutes=5))
    set_picture(app, image_id, status=ImageStatus.RUNNING, claimed_by=ELSEWHERE)
    [busy, lost] = listed(app)
    assert (busy.host, busy.alive, busy.pictures) == ("gpu-2", True, (image_id,))
    assert (lost.host, lost.alive, lost.pictures) == ("gpu-3", False, ())


def test_a_worker_that_fell_silent_long_ago_is_forgotten(app):
    add_worker(app, ELSEWHERE, FORGOTTEN_AFTER + timedelta(hours=1))
    with app.app_context():
        services(app).workers.beat()
    assert [worker.name for worker in listed(app)] == [worker_name()]


def test_the_commands_show_and_check_the_workers_of_this_host(app):
    runner = app.test_cli_runner()
    assert runner.invoke(args=["workers", "check"]).exit_code == 1
    add_worker(app, ELSEWHERE, timedelta(0))
    assert runner.invoke(args=["workers", "check"]).exit_code == 1
    with app.app_context():
        services(app).workers.beat()
    assert runner.invoke(args=["workers", "check"]).exit_code == 0
    said = runner.invoke(args=["workers", "list"]).output
    assert f"{ELSEWHERE}\talive\t-\t" in said
    assert worker_name() in said


ENGINE = EngineStatus(
    "cuda:0 (Test GPU)", 3 * 2**30, 2**30, (LoadedModel("fake.test", 2**20, 5.0),), 2, 8, None
)


def test_a_worker_tells_how_its_engine_is(app, admin):
    services(app).detections.engine.state = ENGINE
    with app.app_context():
        services(app).workers.beat()
    services(app).detections.engine.state = replace(ENGINE, models=(), memory_free=None)
    [worker] = listed(app)
    assert (worker.device, worker.engine, worker.trouble) == (ENGINE.device, ENGINE, None)
    page = admin.get("/crud/status").text
    assert "Memory free <span" in page
    for text in ("1.0 GB", "2 of 8", "fake.test"):
        assert text in page, text
    assert set(re.findall(r'data-text="([^"]+)"', page)) <= set(
        admin.get("/crud/status.json").json["texts"]
    )


def test_a_worker_that_cannot_work_fails_the_check_of_its_host(app, admin):
    services(app).detections.engine.state = replace(ENGINE, trouble="The device cuda is lost.")
    with app.app_context():
        services(app).workers.beat()
    runner = app.test_cli_runner()
    checked = runner.invoke(args=["workers", "check"])
    assert checked.exit_code == 1
    assert "cannot work. The device cuda is lost." in checked.output
    assert "\tin trouble\t" in runner.invoke(args=["workers", "list"]).output
    assert "The device cuda is lost." in admin.get("/crud/status").text
    with app.app_context():
        services(app).detections.engine.state = ENGINE
        services(app).workers.beat()
    assert runner.invoke(args=["workers", "check"]).exit_code == 0


LOST = """
import os, signal
import apps.worker as worker
from apps.container import services
from apps.extensions import db
from apps.vision.fake import FakeEngine
from dataclasses import replace

stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append("stopped"))
engine = FakeEngine()
object.__setattr__(services(worker.flask_app).detections, "engine", engine)
with worker.flask_app.app_context():
    db.create_all()
    worker._beat()
    print(stopped)
    engine.state = replace(engine.state, trouble="lost", lost=True)
    worker._beat()
    worker._beat()
    print(stopped)
"""


def test_a_worker_whose_gpu_is_lost_ends_so_that_its_supervisor_starts_a_new_one(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    environment |= {
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path),
        "SIGHTBOX_QUEUE": "celery",
        "SIGHTBOX_CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOST], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "['stopped']"]
    assert "this worker ends" in done.stderr


# -- whose pictures go to others -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "alive"),
    [
        (worker_name(), True),
        (ELSEWHERE, None),
        ("host:1:old-style", None),
        ("", False),
        ("host", False),
        ("host:x:y:z", False),
        ("host:²:y:z", False),
    ],
)
def test_whether_a_process_runs_is_known_where_it_can_be_seen(name, alive):
    assert is_alive(name) is alive


@pytest.fixture
def shared(make_app, postgres):
    """An application on PostgreSQL, which other machines may share."""
    return make_app(SQLALCHEMY_DATABASE_URI=postgres)


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("claimed", "seen", "moved"),
    [
        (timedelta(seconds=5), None, False),  # has not had the time to say anything
        (timedelta(minutes=2), None, True),
        (timedelta(minutes=2), timedelta(seconds=5), False),  # a slow picture
        (timedelta(minutes=2), timedelta(seconds=90), True),
        (timedelta(minutes=40), timedelta(seconds=5), True),  # stuck, however alive
    ],
)
def test_a_silent_worker_of_another_machine_loses_its_picture(shared, upload, claimed, seen, moved):
    client = shared.test_client()
    ann = {"username": "ann", "email": "ann@example.com", "password": "many words"}
    assert client.post("/auth/signup", data=ann).status_code == 302
    image_id = upload(client)
    set_picture(
        shared, image_id,
        status=ImageStatus.RUNNING, claimed_by=ELSEWHERE, claimed_at=utcnow() - claimed,
    )  # fmt: skip
    if seen is not None:
        add_worker(shared, ELSEWHERE, seen)
    with shared.app_context():
        assert services(shared).detections.recover() == int(moved)
        expected = ImageStatus.QUEUED if moved else ImageStatus.RUNNING
        assert db.session.get_one(Image, image_id).status is expected


@pytest.mark.postgres
def test_what_somebody_says_while_a_detection_ends_counts(shared, postgres, upload):
    """It holds the row of the picture until the detection waits for it."""
    client = shared.test_client()
    ann = {"username": "ann", "email": "ann@example.com", "password": "many words"}
    assert client.post("/auth/signup", data=ann).status_code == 302
    image_id = upload(client)
    set_picture(shared, image_id, status=ImageStatus.QUEUED)
    server = sa.create_engine(postgres)
    somebody = server.connect()
    waits = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def end() -> None:
        with server.connect() as other:
            deadline = time.monotonic() + PATIENCE
            while not other.scalar(waits) and time.monotonic() < deadline:
                other.rollback()
        somebody.commit()

    ending = threading.Thread(target=end)

    def speak(_picture: object) -> list[Box]:
        taken = update(Image).where(Image.id == image_id).values(version=Image.version + 1)
        somebody.execute(taken)
        word = {"verdict": Verdict.DRAWN, "label": "bird", "x1": 1, "y1": 1, "x2": 9, "y2": 9}
        somebody.execute(sa.insert(Annotation).values(image_id=image_id, ref="a", **word))
        ending.start()
        return [Box("dog", 0.9, 10, 10, 30, 30)]

    services(shared).detections.engine.script = speak
    with shared.app_context():
        services(shared).detections.run(image_id)
        ending.join(PATIENCE)
        somebody.close()
        server.dispose()
        image = services(shared).images.get(image_id)
        assert image.status is ImageStatus.DONE
        assert {tag.name for tag in image.tags} == {"bird", "dog"}


def test_the_patience_with_workers_is_a_setting(make_app):
    app = make_app(WORKER_LOST_SECONDS=3600)
    add_worker(app, ELSEWHERE, timedelta(minutes=5))
    assert [worker.alive for worker in listed(app)] == [True]
    with pytest.raises(ConfigError, match="SIGHTBOX_WORKER_LOST_SECONDS"):
        make_app(WORKER_LOST_SECONDS=0)


# -- the thread ----------------------------------------------------------------------------


def test_a_heartbeat_beats_until_it_is_stopped_and_says_good_bye():
    beats, third, left = [], threading.Event(), threading.Event()

    def beat():
        beats.append(1)
        if len(beats) == 3:
            third.set()

    heart = Heartbeat(beat, left.set, nullcontext, every=0.001)
    heart.start()
    heart.start()  # again is no error, and no second thread
    assert third.wait(PATIENCE)
    heart.stop()
    assert left.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_a_heartbeat_survives_a_database_that_is_away_and_says_so_once(caplog):
    failures = [OSError("away"), OSError("away")]
    again = threading.Event()

    def beat():
        if failures:
            raise failures.pop()
        again.set()

    heart = Heartbeat(beat, lambda: None, nullcontext, every=0.001)
    heart.start()
    assert again.wait(PATIENCE)
    heart.stop()
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        "heartbeat failed; trying again every 0 s"
    ]


def test_the_web_process_that_detects_is_a_worker_too(make_app):
    app = make_app(QUEUE="thread")
    app.test_client().get("/")  # the first request starts the thread
    deadline = time.monotonic() + PATIENCE
    while not (found := listed(app)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [worker.pid for worker in found] == [os.getpid()]
    services(app).queue.stop(PATIENCE)
    assert listed(app) == []
