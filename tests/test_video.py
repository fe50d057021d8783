"""Clips: what is taken and refused, how they are looked at, and who sees what came of it."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from apps.container import services
from apps.errors import ConfigError, DetectionError, WeightsError
from apps.extensions import db
from apps.jobs import TryLater
from apps.models import User, Video, VideoFrame, VideoStatus, utcnow
from apps.services import trying
from apps.vision.types import Box
from tests.clips import clip_bytes, sound_bytes
from tests.conftest import stored_files

JSON = {"Accept": "application/json"}
WEBM = clip_bytes(codec="libvpx", format="webm")


def send(client, data: bytes | None = None, name: str = "walk.mp4", **fields: Any):
    """The answer to an upload, as the page's script asks for it."""
    clip = clip_bytes() if data is None else data
    form = {"every": 1, **fields, "clip": (io.BytesIO(clip), name)}
    return client.post("/video/upload", data=form, headers=JSON)


def uploaded(client, data: bytes | None = None, **fields: Any) -> int:
    answer = send(client, data, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json["id"]


def clip(app, video_id: int) -> Video:
    with app.app_context():
        video = db.session.get_one(Video, video_id)
        db.session.expunge(video)
        return video


def numbers(app, video_id: int) -> list[int]:
    query = select(VideoFrame.number).where(VideoFrame.video_id == video_id)
    with app.app_context():
        return list(db.session.scalars(query.order_by(VideoFrame.number)))


@pytest.fixture
def idle(app, monkeypatch):
    """Clips wait until the test has them looked at."""
    monkeypatch.setattr(services(app).video_queue, "_run", lambda video_id: None)
    return services(app).video_detections


def work(app, video_id: int, **options: Any) -> bool:
    with app.app_context():
        return services(app).video_detections.run(video_id, **options)


# -- upload --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "format", "media_type", "extension"),
    [
        ("mpeg4", "mp4", "video/mp4", "mp4"),
        ("libvpx", "webm", "video/webm", "webm"),
        ("mpeg4", "mov", "video/quicktime", "mov"),
        ("mpeg4", "matroska", "video/x-matroska", "mkv"),
        ("mpeg4", "avi", "video/x-msvideo", "avi"),
        ("mpeg2video", "mpegts", "video/mp2t", "ts"),
    ],
)
def test_clips_of_many_kinds_are_read_whatever_they_are_called(
    app, ann, codec, format, media_type, extension
):
    rate = 25 if format == "mpegts" else 10
    data = clip_bytes(codec=codec, format=format, rate=rate)
    video_id = uploaded(ann, data, every=3, name="clip.txt")
    video = clip(app, video_id)
    assert (video.media_type, video.extension) == (media_type, extension)
    assert (video.width, video.height) == (64, 48)
    assert video.status is VideoStatus.DONE
    assert video.progress == 1
    assert video.duration_ms == pytest.approx(10_000 / rate, abs=45)
    assert numbers(app, video_id) == [0, 3, 6, 9]
    stored = ann.get(f"/video/{video_id}/file")
    assert (stored.data, stored.mimetype) == (data, media_type)
    assert len(stored_files(app)) == 2


def test_a_turned_clip_is_looked_at_upright(app, ann):
    seen = []

    def look(picture):
        seen.append(picture.size)
        return ()

    services(app).detections.engine.script = look
    video = clip(app, uploaded(ann, clip_bytes(rotation=90), every=5))
    assert (video.width, video.height) == (48, 64)
    assert seen == [(48, 64), (48, 64)]


def test_a_clip_recorded_live_has_no_length_in_its_header_and_is_measured(app, ann):
    whole = clip_bytes(codec="libvpx", format="webm")
    place = whole.index(b"\x44\x89")  # Duration
    data = whole[:place] + b"\xec\x88" + whole[place + 2 :]  # Void: an element to pass over
    video = clip(app, uploaded(ann, data))
    assert video.duration_ms == 900  # from the first frame to the last
    assert video.status is VideoStatus.DONE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_a_clip"),
        (b"not a clip at all" * 100, "not_a_clip"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not_a_clip"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_a_clip"),
        (b"\0\0\0\x18ftypisom" + b"\0" * 500, "truncated"),
        (b"\x1aE\xdf\xa3" + b"webm" * 200, "truncated"),
        (b"RIFF\0\0\0\0AVI " + b"\1" * 500, "truncated"),
        (b"G" + (b"\0" * 187 + b"G") * 4, "truncated"),
        (sound_bytes(), "no_picture"),
        (WEBM[: WEBM.index(b"\x1fC\xb6u")], "truncated"),  # no cluster, and so no frame
    ],
)
def test_what_is_no_clip_is_refused_with_a_reason(app, ann, data, code):
    answer = send(ann, data)
    assert answer.status_code == 422
    assert answer.json["error"]["code"] in (code, "no_picture" if code == "truncated" else code)
    assert answer.json["error"]["message"]
    assert stored_files(app) == []
    page = ann.post("/video/upload", data={"every": 1, "clip": (io.BytesIO(data), "x.mp4")})
    assert page.status_code == 422
    assert "alert" in page.text


def test_a_clip_that_is_cut_short_shows_what_can_be_read(app, ann):
    data = clip_bytes(frames=40, codec="libvpx", format="webm")
    video_id = uploaded(ann, data[: len(data) * 2 // 3])
    assert clip(app, video_id).status is VideoStatus.DONE
    assert 0 < len(numbers(app, video_id)) < 40


@pytest.mark.parametrize(
    ("settings", "fields", "code"),
    [
        ({"MAX_VIDEO_SECONDS": 0.5}, {}, "too_long"),
        ({"MAX_VIDEO_BYTES": 1000}, {}, "too_large"),
        ({"MAX_IMAGE_PIXELS": 1000}, {}, "too_many_pixels"),
        ({"USER_QUOTA_BYTES": 1000}, {}, "over_quota"),
        ({}, {"every": 0}, "invalid"),
        ({}, {"every": "x"}, "invalid"),
        ({}, {"every": 10**9}, "invalid"),
        ({}, {"model": "nothing.known"}, "not_found"),
    ],
)
def test_limits_are_told(make_app, settings, fields, code):
    app = make_app(**settings)
    with app.app_context():
        db.session.add(User(username="ann", email="ann@example.com", password="x"))
        db.session.commit()
        key = db.session.scalars(select(User.fs_uniquifier)).one()
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    answer = send(client, **fields)
    assert answer.json["error"]["code"] == code
    assert answer.status_code == {"not_found": 404, "too_large": 413}.get(code, 422)
    assert stored_files(app) == []


def large_body() -> dict:
    """Three megabytes, without the file that the test client would leave open."""
    head = b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\n\r\n'
    body = head + b"x" * 3 * 2**20 + b"\r\n--x--\r\n"
    return {"data": body, "content_type": "multipart/form-data; boundary=x"}


def test_a_body_larger_than_any_clip_is_not_read(app, ann):
    app.config["MAX_VIDEO_BYTES"] = 1000
    assert ann.post("/video/upload", **large_body()).status_code == 413
    app.config["MAX_VIDEO_BYTES"] = 4 * 2**20
    assert ann.post("/video/upload", **large_body()).status_code == 422


def test_limits_that_allow_nothing_stop_the_start(make_app):
    with pytest.raises(ConfigError, match="MAX_VIDEO_SECONDS"):
        make_app(MAX_VIDEO_SECONDS=0)


def test_the_same_clip_twice_is_refused_but_not_to_another_account(app, ann, bob):
    data = clip_bytes()
    uploaded(ann, data)
    assert send(ann, data).json["error"]["code"] == "duplicate"
    uploaded(bob, data)
    assert len(stored_files(app)) == 4


def test_a_form_without_a_file_says_so_and_a_plain_one_leads_to_the_clip(ann):
    assert send(ann).status_code == 201
    answer = ann.post("/video/upload", data={"every": 1}, headers=JSON)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "no_file")
    data = {"every": 1, "clip": (io.BytesIO(clip_bytes()), "x.mp4")}
    assert ann.post("/video/upload", data=data).status_code == 303


def test_a_storage_that_is_full_leaves_nothing(app, ann, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(services(app).storage, "put_file", full, raising=False)
    monkeypatch.setattr(type(services(app).storage), "put_file", full)
    assert send(ann).json["error"]["code"] == "not_stored"
    with app.app_context():
        assert db.session.scalar(select(func.count(Video.id))) == 0


# -- looking at it -------------------------------------------------------------------------


def test_a_pause_between_two_frames_goes_on_where_it_was(app, ann, idle):
    video_id = uploaded(ann, clip_bytes(frames=30, codec="libvpx", format="webm"), every=2)
    asked = iter([False, False, True])
    assert work(app, video_id, pause=lambda: next(asked))
    video = clip(app, video_id)
    assert (video.status, video.attempts) == (VideoStatus.QUEUED, 0)
    assert numbers(app, video_id) == [0, 2, 4]
    assert 0 < video.progress < 1
    looked = []
    engine = services(app).detections.engine
    engine.script = lambda picture: looked.append(1) or ()
    assert not work(app, video_id)
    assert numbers(app, video_id) == list(range(0, 30, 2))
    assert len(looked) == 12
    assert clip(app, video_id).status is VideoStatus.DONE


def test_a_cancelled_clip_keeps_what_was_found_and_is_not_looked_at_further(app, ann, idle):
    video_id = uploaded(ann, clip_bytes(frames=20))
    object.__setattr__(idle, "save_seconds", 0)

    def look(picture):
        if len(numbers(app, video_id)) == 3:
            ann.post(f"/video/{video_id}/cancel")
        return ()

    services(app).detections.engine.script = look
    work(app, video_id)
    video = clip(app, video_id)
    assert video.status is VideoStatus.CANCELLED
    assert numbers(app, video_id) == [0, 1, 2, 3]
    assert "Cancelled" in ann.get(f"/video/{video_id}").text


def test_a_waiting_clip_is_cancelled_at_once_and_a_settled_one_says_so(app, ann, idle):
    video_id = uploaded(ann)
    ann.post(f"/video/{video_id}/cancel")
    assert clip(app, video_id).status is VideoStatus.CANCELLED
    work(app, video_id)
    assert numbers(app, video_id) == []
    page = ann.post(f"/video/{video_id}/cancel", follow_redirects=True)
    assert "to its end already" in page.text


def test_a_clip_that_is_deleted_meanwhile_ends_the_work(app, ann, idle):
    video_id = uploaded(ann, clip_bytes(frames=20))
    object.__setattr__(idle, "save_seconds", 0)
    looked = []

    def look(picture):
        looked.append(1)
        ann.post(f"/video/{video_id}/delete")
        return ()

    services(app).detections.engine.script = look
    work(app, video_id)
    assert len(looked) == 1
    assert stored_files(app) == []
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(VideoFrame)) == 0


def test_three_failures_are_final_and_what_was_found_stays(app, ann, idle, caplog):
    video_id = uploaded(ann, clip_bytes(frames=5))
    object.__setattr__(idle, "save_seconds", 0)

    def look(picture):
        if len(numbers(app, video_id)) == 2:
            raise RuntimeError("broken")
        return ()

    services(app).detections.engine.script = look
    for attempt in (1, 2):
        work(app, video_id)
        assert (clip(app, video_id).status, clip(app, video_id).attempts) == ("queued", attempt)
    work(app, video_id)
    assert clip(app, video_id).status is VideoStatus.FAILED
    assert "failed three times" in ann.get(f"/video/{video_id}").text
    assert numbers(app, video_id) == [0, 1]


def test_a_reason_that_trying_again_cannot_help_is_told_at_once(app, ann, idle):
    video_id = uploaded(ann)

    def look(picture):
        raise DetectionError("These weights never work.")

    services(app).detections.engine.script = look
    work(app, video_id)
    assert clip(app, video_id).error == "These weights never work."


def test_a_worker_that_cannot_work_leaves_the_clip_to_others(app, ann, idle):
    video_id = uploaded(ann)

    def look(picture):
        raise ConfigError("no such device")

    services(app).detections.engine.script = look
    with pytest.raises(TryLater):
        work(app, video_id)
    assert (clip(app, video_id).status, clip(app, video_id).attempts) == ("queued", 0)


def test_a_worker_without_the_weights_leaves_the_clip_to_others_for_a_day(
    app, ann, idle, monkeypatch
):
    video_id = uploaded(ann)

    def look(picture):
        raise WeightsError("The weights w are missing.")

    services(app).detections.engine.script = look
    worker = replace(services(app).video_detections, local_errors=(WeightsError,))
    with app.app_context():
        assert worker.run(video_id) is False  # nor is it at the end of the queue at once
    assert (clip(app, video_id).status, clip(app, video_id).attempts) == ("queued", 0)
    with app.app_context():
        db.session.execute(update(Video).values(queued_at=utcnow() - trying.PATIENCE))
        db.session.commit()
        worker.run(video_id)
        assert clip(app, video_id).status == "queued"  # it may be the first one after a pause
        monkeypatch.setattr(trying, "BEGUN", utcnow() - trying.COMPANY)
        worker.run(video_id)
    assert clip(app, video_id).status is VideoStatus.FAILED
    assert clip(app, video_id).error == "The weights w are missing."


def test_a_file_that_is_gone_fails_and_a_storage_that_is_away_waits(app, ann, idle, monkeypatch):
    video_id, other = uploaded(ann), uploaded(ann)
    services(app).storage.delete(clip(app, video_id).file_key)
    work(app, video_id)
    assert "gone" in clip(app, video_id).error
    assert ann.get(f"/video/{video_id}/file").status_code == 404

    def away(*_):
        raise OSError("away")

    monkeypatch.setattr(type(services(app).storage), "open", away)
    monkeypatch.setattr(type(services(app).storage), "check", away)
    with pytest.raises(TryLater):
        work(app, other)
    assert (clip(app, other).status, clip(app, other).attempts) == ("queued", 0)
    assert ann.get(f"/video/{other}/file").status_code == 503


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"attempts": 1}, "queued"),
        ({"attempts": 3}, "failed"),
        ({"attempts": 1, "cancelled": True}, "cancelled"),
    ],
)
def test_what_a_process_that_is_gone_left_running_is_taken_back(app, ann, idle, values, expected):
    video_id = uploaded(ann)
    gone = {"status": VideoStatus.RUNNING, "claimed_by": "elsewhere:0:x:y"}
    with app.app_context():
        db.session.execute(update(Video).values(**gone, **values))
        db.session.commit()
        assert idle.recover() == 1
        assert idle.recover() == 0
    assert clip(app, video_id).status == expected


def test_a_claim_that_somebody_else_took_over_writes_nothing_more(app, ann, idle):
    video_id = uploaded(ann, clip_bytes(frames=5))
    object.__setattr__(idle, "save_seconds", 0)

    def look(picture):
        with app.app_context():
            db.session.execute(update(Video).values(attempts=2))
            db.session.commit()
        return ()

    services(app).detections.engine.script = look
    work(app, video_id)
    assert numbers(app, video_id) == []
    assert clip(app, video_id).status is VideoStatus.RUNNING


def test_again_with_other_wishes_replaces_what_was_found(app, ann):
    video_id = uploaded(ann)
    answer = ann.post(f"/video/{video_id}/again", data={"every": 4})
    assert answer.status_code == 303
    assert numbers(app, video_id) == [0, 4, 8]
    assert clip(app, video_id).status is VideoStatus.DONE
    page = ann.post(f"/video/{video_id}/again", data={"every": "x"}, follow_redirects=True)
    assert "whole number" in page.text
    with app.app_context():
        db.session.execute(update(Video).values(status=VideoStatus.QUEUED))
        db.session.commit()
    assert ann.post(f"/video/{video_id}/again", data={"every": 4}).status_code == 409


# -- pages and downloads -------------------------------------------------------------------


def test_pages_with_and_without_clips(ann):
    assert "No clips yet" in ann.get("/video").text
    video_id = uploaded(ann, name="=walk <b>.mp4")
    page = ann.get("/video").text
    assert "=walk &lt;b&gt;.mp4" in page
    assert "data-timeline" in ann.get(f"/video/{video_id}").text
    assert ann.get(f"/video/{video_id}/poster.jpg").data[:2] == b"\xff\xd8"


def test_the_script_gets_frames_in_parts_and_how_far_it_is(ann):
    video_id = uploaded(ann)
    found = ann.get(f"/video/{video_id}/frames.json?after=7").json
    assert [frame["n"] for frame in found["frames"]] == [8, 9]
    assert found["frames"][0]["t"] == 800
    label, score, *box = found["frames"][0]["b"][0]
    assert (label, score, box) == ("dog", 0.9, [6.4, 4.8, 38.4, 33.6])
    assert set(found["colors"]) == {"dog", "cat"}
    assert (found["settled"], found["more"], found["text"]) == (True, False, "Done.")
    for wrong in ("x", "99999999999999999999", "-5"):
        assert ann.get(f"/video/{video_id}/frames.json?after={wrong}").status_code == 200
    states = ann.get(f"/video/status?id={video_id}&id=4711&id=x").json["clips"]
    assert list(states) == [str(video_id)]


def test_downloads_hold_each_box_above_the_threshold(ann):
    video_id = uploaded(ann, every=5, name="Spaziergang ä.mp4")
    table = ann.get(f"/video/{video_id}/boxes.csv?threshold=0.5")
    assert "attachment" in table.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["frame"], row["time"], row["label"]) for row in rows] == [
        ("0", "0.000", "dog"), ("5", "0.500", "dog"),
    ]  # fmt: skip
    found = json.loads(ann.get(f"/video/{video_id}/boxes.json").text)
    assert [len(frame["boxes"]) for frame in found["frames"]] == [2, 2]
    assert found["frames"][1]["time"] == 0.5


def test_a_part_of_the_file_is_sent_when_a_player_asks_for_it(ann):
    data = clip_bytes()
    video_id = uploaded(ann, data)
    address = f"/video/{video_id}/file"
    answer = ann.get(address, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.data) == (206, data[10:20])
    assert answer.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
    assert ann.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert "attachment" not in ann.get(address).headers.get("Content-Disposition", "")
    assert "attachment" in ann.get(f"{address}?save=1").headers["Content-Disposition"]


def test_a_frame_comes_as_a_picture_if_it_was_looked_at(app, ann):
    from PIL import Image

    video_id = uploaded(ann, clip_bytes(rotation=90), every=4)
    answer = ann.get(f"/video/{video_id}/frame/8.jpg")
    assert answer.mimetype == "image/jpeg"
    picture = Image.open(io.BytesIO(answer.data))
    assert picture.size == (48, 64)
    assert picture.getpixel((20, 20))[0] == pytest.approx(160, abs=20)  # the ninth of ten shades
    assert ann.get(f"/video/{video_id}/frame/3.jpg").status_code == 404


def test_deleting_asks_first_and_takes_everything_with_it(app, ann):
    video_id = uploaded(ann)
    assert "goes for good" in ann.get(f"/video/{video_id}/delete").text
    assert ann.post(f"/video/{video_id}/delete").status_code == 303
    assert stored_files(app) == []
    assert ann.get(f"/video/{video_id}").status_code == 404


def test_an_account_that_goes_takes_its_clips_with_it(app, ann, admin):
    uploaded(ann)
    with app.app_context():
        user = db.session.scalars(select(User.id).where(User.username == "ann")).one()
        services(app).accounts.delete([user])
        assert db.session.scalar(select(func.count(Video.id))) == 0
    assert stored_files(app) == []


def test_clips_count_in_the_space_of_an_account(app, ann):
    data = clip_bytes()
    uploaded(ann, data)
    with app.app_context():
        owner = db.session.scalars(select(User.id)).one()
        assert services(app).images.totals(owner).bytes == len(data)


# -- who may -------------------------------------------------------------------------------

OWNED = {
    ("GET", "/video/{id}"): 200,
    ("GET", "/video/{id}/frames.json"): 200,
    ("GET", "/video/{id}/file"): 200,
    ("GET", "/video/{id}/poster.jpg"): 200,
    ("GET", "/video/{id}/frame/0.jpg"): 200,
    ("GET", "/video/{id}/boxes.json"): 200,
    ("GET", "/video/{id}/boxes.csv"): 200,
    ("GET", "/video/{id}/delete"): 200,
    ("POST", "/video/{id}/again"): 303,
    ("POST", "/video/{id}/cancel"): 303,
    ("POST", "/video/{id}/delete"): 303,
}


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_a_clip_exists_for_its_owner_alone(app, ann, bob, admin, method, path):
    address = path.format(id=uploaded(ann))
    data = {"every": 2}

    def status(client, method=method):
        return client.open(address, method=method, data=data).status_code

    assert status(app.test_client()) == 302
    assert status(bob) == 404
    assert status(admin) == 404
    assert status(ann, "PUT") == 405
    assert bob.open(path.format(id=4711), method=method, data=data).status_code == 404
    app.config["WTF_CSRF_ENABLED"] = True
    if method == "POST":
        assert status(ann) == 400
        app.config["WTF_CSRF_ENABLED"] = False
    assert status(ann) == OWNED[method, path]


def test_visitors_are_sent_to_the_login_and_may_not_send_a_clip(app):
    visitor = app.test_client()
    assert visitor.get("/video").status_code == 302
    assert visitor.get("/video/status").status_code == 302
    assert send(visitor).status_code == 401
    assert visitor.post("/video/upload", **large_body()).status_code in (302, 413)


def test_an_upload_without_a_csrf_token_is_refused(app, ann):
    app.config["WTF_CSRF_ENABLED"] = True
    answer = send(ann)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "csrf")


def test_many_boxes_of_one_frame_are_kept_to_the_best(app, ann):
    boxes = [Box("dog", 0.1 + n / 1000, n, n, n + 10, n + 10) for n in range(300)]
    services(app).detections.engine.script = lambda picture: boxes
    video_id = uploaded(ann, every=10)
    with app.app_context():
        [frame] = db.session.scalars(select(VideoFrame).where(VideoFrame.video_id == video_id))
        assert len(frame.boxes) == 100
        assert frame.boxes[0]["score"] == pytest.approx(0.399)
