"""Real workers, a real PostgreSQL and a real Redis: what is lost when one of them goes away."""

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from apps.config import ROOT
from apps.container import services
from apps.extensions import db
from apps.models import (
    Detection,
    Export,
    ExportStatus,
    Image,
    ImageStatus,
    Import,
    ImportStatus,
    User,
)
from apps.vision.zoo.registry import BLOOD_CELLS
from tests.api.test_webhooks import receiver  # noqa: F401 (a fixture)
from tests.smear import smear

PATIENCE = 120  # seconds for what takes some seconds on an idle machine
PICTURES = 200

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.fixture
def web(make_app, postgres, broker, tmp_path) -> Flask:
    """The web process: it takes pictures and detects nothing."""
    return make_app(
        INSTANCE_PATH=str(tmp_path / "instance"),
        SQLALCHEMY_DATABASE_URI=postgres,
        QUEUE="celery",
        CELERY_BROKER_URL=broker.url,
        OUTBOUND_PRIVATE=True,  # the receiver of webhooks is on loopback
    )


@pytest.fixture
def start_worker(postgres, broker, tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start_worker("--pool", "solo", KEY=value) -> a worker with the shipped model; it logs."""
    processes: list[subprocess.Popen[str]] = []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    environment |= {
        "SIGHTBOX_CONFIG": "local",
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path / "instance"),
        "SIGHTBOX_SQLALCHEMY_DATABASE_URI": postgres,
        "SIGHTBOX_QUEUE": "celery",
        "SIGHTBOX_CELERY_BROKER_URL": broker.url,
        "SIGHTBOX_SWEEP_SECONDS": "2",
        "SIGHTBOX_WORKER_LOST_SECONDS": "6",
        "SIGHTBOX_MODEL_DOWNLOADS": "false",
        "SIGHTBOX_DETECTOR": BLOOD_CELLS.name,
        "OMP_NUM_THREADS": "1",
    }

    def start(*options: str, **settings: str) -> subprocess.Popen[str]:
        given = {f"SIGHTBOX_{key}": value for key, value in settings.items()}
        log = (tmp_path / f"worker{len(processes)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "apps.worker", "worker", "--beat",
             "--without-gossip", "--without-mingle", "--loglevel", "INFO", *options],
            cwd=ROOT, env=environment | given, stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        log.close()
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for number in range(len(processes)):  # shown when the test failed
        said = (tmp_path / f"worker{number}.log").read_text()[-6000:]
        sys.stdout.write(f"worker {number}\n{said}\n")


def until(condition: Callable[[], Any], what: str) -> Any:
    """What ``condition`` says as soon as it says anything true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)  # leaves the processor to the workers
    raise AssertionError(f"waited {PATIENCE} s: {what}")


def sign_up(app: Flask, name: str = "ann") -> FlaskClient:
    client = app.test_client()
    values = {"username": name, "email": f"{name}@example.com", "password": "plain long words"}
    assert client.post("/auth/signup", data=values).status_code == 302
    return client


def upload(client: FlaskClient, count: int) -> None:
    """The same small smear ``count`` times, in files that differ."""
    picture = smear(7)[0].resize((320, 240))
    for number in range(count):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", comment=f"picture {number}")
        file = (io.BytesIO(buffer.getvalue()), f"{number}.jpg")
        assert client.post("/upload", data={"image": [file]}).status_code == 303


def statuses(app: Flask) -> Counter[ImageStatus]:
    with app.app_context():
        return Counter(db.session.scalars(select(Image.status)))


def all_done(app: Flask, count: int) -> bool:
    return statuses(app) == {ImageStatus.DONE: count}


def claimed_by(app: Flask, pid: int) -> int | None:
    """The picture that this process looks at, if any."""
    with app.app_context():
        return db.session.scalar(
            select(Image.id).where(
                Image.status == ImageStatus.RUNNING, Image.claimed_by.contains(f":{pid}:")
            )
        )


def stop_in_the_middle(app: Flask, process: subprocess.Popen[str]) -> int:
    """Freeze a worker while it looks at a picture, and kill it; the picture."""

    def frozen_with_a_picture() -> int | None:
        process.send_signal(signal.SIGSTOP)
        image_id = claimed_by(app, process.pid)
        if image_id is None:
            process.send_signal(signal.SIGCONT)
        return image_id

    image_id = until(frozen_with_a_picture, "the worker takes a picture")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    return int(image_id)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Numbers of the processes that it started (Linux)."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def is_running(pid: int) -> bool:
    """Whether there is such a process that is more than a zombie (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def assert_every_picture_was_detected_once(app: Flask, twice_tried: set[int]) -> None:
    """The same boxes on each picture, none doubled, and no try too many."""
    with app.app_context():
        attempts = {
            row.id: row.attempts for row in db.session.execute(select(Image.id, Image.attempts))
        }
        boxes = db.session.execute(
            select(Detection.image_id, Detection.label, Detection.x1, Detection.y1, Detection.x2)
        ).all()
    assert {image_id for image_id, count in attempts.items() if count != 1} == twice_tried
    assert {attempts[image_id] for image_id in twice_tried} <= {2}
    assert len(set(boxes)) == len(boxes)
    counts = Counter(box.image_id for box in boxes)
    assert set(counts) == set(attempts)
    assert len(set(counts.values())) == 1


def test_a_killed_worker_and_an_emptied_broker_lose_nothing_and_double_nothing(
    web, broker, start_worker
):
    doomed, survivor = start_worker("--pool", "solo"), start_worker("--pool", "solo")
    upload(sign_up(web), PICTURES)
    until(lambda: statuses(web)[ImageStatus.DONE] >= 20, "the workers get going")
    [beat] = children(doomed)
    image_id = stop_in_the_middle(web, doomed)
    until(lambda: not is_running(beat), "its beat ends with it")
    broker.stop()
    broker.start()
    with broker.client() as client:
        assert client.llen("sightbox.detect") < statuses(web)[ImageStatus.QUEUED]  # it forgot
    until(lambda: all_done(web, PICTURES), "every picture is done")
    assert_every_picture_was_detected_once(web, {image_id})
    survivor.send_signal(signal.SIGTERM)
    assert survivor.wait(PATIENCE) == 0
    with web.app_context():  # the one said good-bye, the other could not
        assert [worker.pid for worker in services().workers.all()] == [doomed.pid]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_database_that_ends_every_connection_costs_no_picture(web, postgres, start_worker, pool):
    start_worker("--pool", pool, "--concurrency", "2")
    upload(sign_up(web), 30)
    until(lambda: statuses(web)[ImageStatus.DONE] >= 5, "the worker gets going")
    server = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        ended = connection.execute(
            sa.text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
    server.dispose()
    assert ended > 0
    until(lambda: all_done(web, 30), "every picture is done")


THREADS = ("--pool", "threads", "--concurrency", "16")  # as a worker on a GPU


def in_hand(app: Flask) -> int:
    """Pictures that the one worker looks at, as it is listed."""
    with app.app_context():
        return sum(len(worker.pictures) for worker in services().workers.all())


def test_a_worker_with_threads_has_many_pictures_in_hand_and_ends_them_when_it_is_stopped(
    web, start_worker
):
    upload(sign_up(web), 40)
    worker = start_worker(*THREADS)
    until(lambda: in_hand(web) > 8, "it has more than one batch in hand")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    with web.app_context():
        tries = Counter(map(tuple, db.session.execute(select(Image.status, Image.attempts))))
        assert services().workers.all() == []  # it said good-bye
    assert set(tries) <= {(ImageStatus.DONE, 1), (ImageStatus.QUEUED, 0)}
    assert tries[ImageStatus.DONE, 1] > 8


def test_a_worker_with_threads_whose_gpu_is_lost_ends_and_costs_no_picture(web, start_worker):
    upload(sign_up(web), 40)
    worker = start_worker(*THREADS, "--include", "tests.losing")
    assert worker.wait(PATIENCE) == 0
    assert statuses(web)[ImageStatus.RUNNING] == statuses(web)[ImageStatus.FAILED] == 0
    with web.app_context():
        tried = select(Image.id).where(Image.status == ImageStatus.QUEUED, Image.attempts == 1)
        twice_tried = set(db.session.scalars(tried))
    assert 0 < len(twice_tried) <= 16
    start_worker(*THREADS)
    until(lambda: all_done(web, 40), "another one goes on")
    assert_every_picture_was_detected_once(web, twice_tried)


def test_pictures_wait_while_the_storage_is_away(web, start_worker, tmp_path):
    upload(sign_up(web), 3)
    blobs, away = tmp_path / "instance" / "blobs", tmp_path / "away"
    blobs.rename(away)
    blobs.write_text("a file where the folder was")
    start_worker("--pool", "solo")
    log = tmp_path / "worker0.log"
    until(lambda: log.read_text().count("the storage is away") >= 2, "the worker finds no storage")
    assert statuses(web)[ImageStatus.FAILED] == 0
    blobs.unlink()
    away.rename(blobs)
    until(lambda: all_done(web, 3), "every picture is done")
    assert_every_picture_was_detected_once(web, set())  # and the tries before do not count


def state_of(app: Flask, kind: type[Export] | type[Import]) -> Any:
    """Of the one export or import that there is."""
    with app.app_context():
        return db.session.scalars(select(kind.status)).one()


def test_webhooks_exports_and_imports_are_done_by_a_worker_and_go_on_after_its_death(
    web,
    broker,
    start_worker,
    receiver,  # noqa: F811
):
    ann, bob = sign_up(web), sign_up(web, "bob")
    made = ann.post("/account/webhooks", data={"url": receiver.url, "events": ["detection.done"]})
    assert made.status_code == 201
    worker = start_worker("--pool", "solo", OUTBOUND_PRIVATE="true")
    upload(ann, 2)
    until(lambda: len(receiver.got) == 2, "both ends are told")
    worker.kill()
    worker.wait(PATIENCE)
    assert ann.post("/exports", data={"format": "native", "pictures": "1"}).status_code == 303
    broker.stop()
    broker.start()  # it has forgotten that there is an export
    start_worker("--pool", "solo", OUTBOUND_PRIVATE="true")
    until(lambda: state_of(web, Export) is ExportStatus.READY, "the export is ready")
    archive = ann.get("/exports/1/file").data
    sent = bob.post("/imports/upload", data={"archive": (io.BytesIO(archive), "all.zip")})
    assert sent.status_code == 303
    until(lambda: state_of(web, Import) is ImportStatus.READY, "the archive was looked into")
    assert bob.post("/imports/1/confirm", data={"keep": ["0", "1", "2"]}).status_code == 303
    until(lambda: state_of(web, Import) is ImportStatus.DONE, "its pictures are there")
    with web.app_context():
        boxes = {
            name: sorted(
                db.session.execute(
                    select(Detection.label, Detection.score, Detection.x1, Detection.y1)
                    .join(Image)
                    .join(User)
                    .where(User.username == name)
                ).all()
            )
            for name in ("ann", "bob")
        }
    assert boxes["ann"]
    assert boxes["bob"] == boxes["ann"]
