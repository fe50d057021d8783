"""The camera's page and the address of its frames."""

import io

import pytest
from sqlalchemy import func, select

from apps.container import services
from apps.errors import ConfigError
from apps.extensions import db
from apps.models import Image, User
from apps.services import live
from tests.conftest import picture_bytes, stored_files

PAGE, DETECT = "/live", "/live/detect"


@pytest.fixture(autouse=True)
def _small_frames(monkeypatch):
    """The test client leaves files open that it makes for large bodies."""
    monkeypatch.setattr(live, "FRAME_BYTES", 200_000)


def ask(client, data: bytes | None = None, **fields: str):
    frame = (io.BytesIO(picture_bytes() if data is None else data), "frame.jpg")
    return client.post(DETECT, data={"frame": frame, **fields})


def test_a_frame_is_answered_with_its_boxes_and_nothing_is_kept(app, ann):
    answer = ask(ann)
    assert answer.status_code == 200
    assert (answer.json["width"], answer.json["height"]) == (64, 48)
    dog, cat = answer.json["boxes"]
    assert (dog["label"], dog["score"], cat["label"]) == ("dog", 0.9, "cat")
    assert dog["box"] == [6.4, 4.8, 38.4, 33.6]
    assert 0 <= dog["color"] < 24
    assert stored_files(app) == []
    with app.app_context():
        assert db.session.scalar(select(func.count(Image.id))) == 0


def test_the_page_alone_may_use_the_camera(ann):
    assert "camera=(self)" in ann.get(PAGE).headers["Permissions-Policy"]
    assert "camera=()" in ann.get("/").headers["Permissions-Policy"]


def test_only_who_is_logged_in_looks(app, ann):
    visitor = app.test_client()
    assert visitor.get(PAGE).status_code == 302
    assert ask(visitor).status_code == 401
    assert ann.get(DETECT).status_code == 405


def test_a_frame_without_a_csrf_token_is_refused(app, ann):
    app.config["WTF_CSRF_ENABLED"] = True
    answer = ask(ann)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "csrf")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_a_picture"),
        (b"nothing that is a picture", "not_a_picture"),
        (picture_bytes()[:300], "truncated"),
        (b"\0" * 200_001, "too_large"),
        (picture_bytes((3000, 2000)), "too_many_pixels"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(ann, data, code):
    answer = ask(ann, data)
    status = 413 if code == "too_large" else 422
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


def test_bodies_that_hold_no_frame(ann):
    assert ann.post(DETECT).status_code == 422
    assert ann.post(DETECT, data={"frame": "text"}).json["error"]["code"] == "no_file"
    assert ann.post(DETECT, json={"frame": "x"}).status_code == 415
    head = b'--x\r\nContent-Disposition: form-data; name="frame"; filename="a.jpg"\r\n\r\n'
    body = head + b"x" * 3 * 2**20 + b"\r\n--x--\r\n"
    big = {"data": body, "content_type": "multipart/form-data; boundary=x"}
    assert ann.post(DETECT, **big).status_code == 413


def test_a_model_that_is_not_there_is_told(ann):
    assert ask(ann, model="nothing.known").status_code == 404
    missing = ask(ann, model="fasterrcnn_resnet50_fpn_v2.coco_v1")
    assert (missing.status_code, missing.json["error"]["code"]) == (422, "invalid")


def test_too_many_cameras_are_told_when_to_try_again(app, ann):
    live = services(app).live
    taken = 0
    while live.slots.acquire(blocking=False):
        taken += 1
    answer = ask(ann)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    for _ in range(taken):
        live.slots.release()
    assert ask(ann).status_code == 200


def test_a_device_that_is_not_there_is_no_crash(app, ann):
    def look(picture):
        raise ConfigError("There is no such device.")

    services(app).live.instant.engine.script = look
    answer = ask(ann)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")


def celery_client(make_app, **settings):
    app = make_app(QUEUE="celery", CELERY_BROKER_URL="memory://", **settings)
    with app.app_context():
        db.session.add(User(username="ann", email="ann@example.com", password="x"))
        db.session.commit()
        key = db.session.scalars(select(User.fs_uniquifier)).one()
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    return client


def test_where_others_detect_the_page_says_so_and_no_frame_is_taken(make_app):
    client = celery_client(make_app)
    page = client.get(PAGE).text
    assert "SIGHTBOX_LIVE_ON_CPU" in page
    assert "live.js" not in page
    answer = ask(client)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")


def test_there_the_web_process_looks_itself_if_it_is_told_to(make_app):
    client = celery_client(make_app, LIVE_ON_CPU=True)
    assert "live.js" in client.get(PAGE).text
    assert ask(client).status_code == 200


def test_frames_are_counted_for_each_account(make_app):
    app = make_app(RATELIMIT_ENABLED=True, LIVE_RATE="2 per hour")
    clients = []
    for name in ("ann", "bob"):
        with app.app_context():
            user = User(username=name, email=f"{name}@example.com", password="x")
            db.session.add(user)
            db.session.commit()
            key = user.fs_uniquifier
        clients.append(app.test_client())
        with clients[-1].session_transaction() as session:
            session["_user_id"], session["_fresh"] = key, True
    ann, bob = clients
    assert [ask(ann).status_code for _ in range(3)] == [200, 200, 429]
    assert ask(bob).status_code == 200
