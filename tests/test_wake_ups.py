"""Messages to workers: what the web process does with a broker, and without one."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

import apps.jobs.celery
from apps.config import ROOT
from apps.container import services
from apps.errors import ConfigError
from apps.extensions import db
from apps.jobs import CLIP, DETECT
from apps.jobs.celery import QUEUES, REFILL, CeleryQueue, make_celery
from apps.models import Image, ImageStatus
from tests.broker import free_port

SCHEMES = ["redis", "amqp"]


def make_web(make_app, broker: str):
    return make_app(QUEUE="celery", CELERY_BROKER_URL=broker)


def sign_up(app):
    client = app.test_client()
    values = {"username": "ann", "email": "ann@example.com", "password": "plain long words"}
    assert client.post("/auth/signup", data=values).status_code == 302
    return client


def statuses(app) -> set[ImageStatus]:
    with app.app_context():
        return set(db.session.scalars(select(Image.status)))


def warnings(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.levelno >= logging.WARNING]


# -- the broker is away --------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_broker_uploads_succeed_and_the_log_says_it_once(
    make_app, upload, caplog, scheme
):
    app = make_web(make_app, f"{scheme}://127.0.0.1:{free_port()}/")
    client = sign_up(app)
    ids = [upload(client) for _ in range(5)]
    assert statuses(app) == {ImageStatus.QUEUED}
    assert 'data-status="queued"' in client.get(f"/images/{ids[0]}").text
    [warning] = warnings(caplog)
    assert "broker away" in warning


@pytest.fixture
def deaf() -> Iterator[tuple[int, list[object]]]:
    """The port of a server that takes every connection and never says a word; its connections."""
    taken: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:  # closed
                return

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_that_never_answers_is_asked_by_one_upload_and_not_by_the_next(
    make_app, upload, deaf, scheme
):
    port, taken = deaf
    app = make_web(make_app, f"{scheme}://127.0.0.1:{port}/")
    client = sign_up(app)
    upload(client)
    asked = len(taken)
    assert 1 <= asked <= 2  # once, and once more over a new connection
    for _ in range(5):
        upload(client)
    assert len(taken) == asked


@pytest.mark.redis
def test_a_broker_that_comes_back_gets_messages_again(
    make_app, upload, broker, caplog, monkeypatch
):
    monkeypatch.setattr(apps.jobs.celery, "REST", 0.0)
    app = make_web(make_app, broker.url)
    caplog.set_level(logging.INFO, "apps")
    client = sign_up(app)
    upload(client)
    broker.stop()
    upload(client)
    upload(client)
    broker.start()
    upload(client)
    assert [r.message.split(";")[0] for r in caplog.records if "broker" in r.message] == [
        "broker away",
        "broker is back",
    ]
    assert services(app).queue.messages() == 1


@pytest.mark.redis
def test_a_broker_that_restarts_between_two_uploads_costs_no_message(
    make_app, upload, broker, caplog
):
    app = make_web(make_app, broker.url)
    client = sign_up(app)
    upload(client)
    broker.stop()
    broker.start()
    upload(client)  # over the connection that died
    assert services(app).queue.messages() == 1
    assert warnings(caplog) == []


# -- messages that were lost ---------------------------------------------------------------


@pytest.fixture
def queue() -> CeleryQueue:
    """A queue on a broker in memory, which is empty."""
    queue = CeleryQueue(make_celery("memory://", 30))
    with queue.celery.connection() as connection:
        QUEUES[DETECT](connection.default_channel).declare()
        QUEUES[DETECT](connection.default_channel).purge()
    return queue


def named(queue: CeleryQueue) -> list[int]:
    """Which jobs the messages name, in their order; takes them out."""
    found = []
    with queue.celery.connection() as connection:
        detections = QUEUES[DETECT](connection.default_channel)
        while message := detections.get(no_ack=True):
            assert message.content_type == "application/json"
            [[image_id], _, _] = message.payload
            found.append(image_id)
    return found


def test_a_sweep_names_the_oldest_jobs_for_which_messages_are_missing(queue):
    waiting = [7, 3, 9, 5]
    queue.enqueue(5)
    queue.enqueue(9)
    assert queue.refill(4, lambda count: waiting[:count]) == 2
    assert queue.refill(4, lambda count: waiting[:count]) == 0  # they are under way
    assert named(queue) == [5, 9, 7, 3]


def test_a_sweep_sends_a_bounded_number_of_messages(queue):
    assert queue.refill(REFILL * 3, range) == REFILL
    assert queue.refill(REFILL * 3, range) == REFILL
    assert len(named(queue)) == 2 * REFILL


def test_a_sweep_with_more_messages_than_jobs_sends_none(queue):
    queue.enqueue(1)
    queue.enqueue(1)
    assert queue.refill(1, range) == 0


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [None, "", "127.0.0.1:6379", "http://127.0.0.1", "sqla+sqlite://"])
def test_celery_needs_the_address_of_a_broker(make_app, url):
    with pytest.raises(ConfigError, match="SIGHTBOX_CELERY_BROKER_URL, for example redis://"):
        make_app(QUEUE="celery", CELERY_BROKER_URL=url)


def test_sweeps_need_a_sensible_rhythm(make_app):
    with pytest.raises(ConfigError, match="SIGHTBOX_SWEEP_SECONDS"):
        make_app(QUEUE="celery", CELERY_BROKER_URL="memory://", SWEEP_SECONDS=0)


def test_a_web_process_with_workers_elsewhere_never_loads_torch_and_detects_nothing(tmp_path):
    script = """
import io, sys, threading
from apps.app import create_app
from apps.extensions import db
from tests.conftest import Client, picture_bytes
app = create_app("local", INSTANCE_PATH=sys.argv[1], QUEUE="celery", WTF_CSRF_ENABLED=False,
    CELERY_BROKER_URL="redis://127.0.0.1:" + sys.argv[2])
app.test_client_class = Client
with app.app_context():
    db.create_all()
client = app.test_client()
ann = {"username": "ann", "email": "ann@example.com", "password": "plain long words"}
assert client.post("/auth/signup", data=ann).status_code == 302
sent = client.post("/upload", data={"image": [(io.BytesIO(picture_bytes()), "a.jpg")]})
assert sent.status_code == 303
for path in ("/", sent.location, "/models", "/crud/models", "/crud/images", "/readyz"):
    assert client.get(path).status_code == 200, path
assert 'data-status="queued"' in client.get(sent.location).text
loaded = {"torch", "torchvision"} & set(sys.modules)
assert not loaded, loaded
names = {thread.name for thread in threading.enumerate()}
assert names == {"MainThread"}, names  # no detector, no heartbeat, no download
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(free_port())],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# -- clips ---------------------------------------------------------------------------------

WORKER = """
import apps.worker as worker
from apps.container import services
from apps.extensions import db
from apps.models import Image, User, Video, VideoFrame
from apps.vision.fake import FakeEngine
from tests.clips import clip_bytes

worker.LOOK = 0
with worker.flask_app.app_context():
    db.create_all()
    user = User(username="ann", email="ann@example.com", password="x")
    db.session.add(user)
    db.session.flush()
    facts = {"owner_id": user.id, "title": "x", "sha256": "0", "width": 64, "height": 48}
    video = Video(**facts, key="clip", extension="mp4", media_type="video/mp4", every=1,
        bytes=1, duration_ms=1000, frames=10)
    image = Image(**facts, key="image", extension="jpg", media_type="image/jpeg", bytes=1)
    db.session.add_all([video, image])
    db.session.commit()
    video_id = video.id
    services().storage.put(video.file_key, clip_bytes())
    object.__setattr__(services().video_detections, "engine", FakeEngine())
    worker.clip_queue.enqueue = lambda video_id: print("again", video_id)
    db.session.commit()

def look():
    worker.clip.run(video_id)
    with worker.flask_app.app_context():
        video = db.session.get_one(Video, video_id)
        print(video.status, video.attempts, db.session.query(VideoFrame).count())

look()
with worker.flask_app.app_context():
    db.session.delete(db.session.scalars(db.select(Image)).one())
    db.session.commit()
look()
"""


def test_messages_for_clips_have_a_queue_of_their_own():
    clips = CeleryQueue(make_celery("memory://", 30), CLIP)
    pictures = CeleryQueue(clips.celery)
    before = pictures.messages()
    clips.enqueue(1)
    assert clips.messages() == 1
    assert pictures.messages() == before


def test_a_worker_puts_a_clip_aside_while_pictures_wait(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    environment |= {
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path),
        "SIGHTBOX_QUEUE": "celery",
        "SIGHTBOX_CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "SIGHTBOX_LOG_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-c", WORKER], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["again 1", "queued 0 1", "done 1 10"]
