"""The whole application with its pictures in S3."""

import io
import json
import urllib.request
from email.message import Message
from urllib.parse import urlsplit

import pytest

from apps.container import services
from apps.extensions import db
from apps.jobs import TryLater
from apps.models import Image, ImageStatus
from tests.conftest import picture_bytes
from tests.storage.conftest import free_port


@pytest.fixture
def settings(s3) -> dict[str, object]:
    return s3.settings


@pytest.fixture
def app(make_app, settings):
    return make_app(**settings)


def image(app, image_id) -> Image:
    with app.app_context():
        return db.session.get_one(Image, image_id)


def fetch(address: str) -> tuple[int, Message, bytes]:
    with urllib.request.urlopen(address) as answer:
        return answer.status, answer.headers, answer.read()


@pytest.fixture
def dead(make_app, app, s3):
    """The same accounts and pictures, seen by a server whose storage is away."""
    options = s3.options | {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    return make_app(INSTANCE_PATH=app.instance_path, **s3.settings | {"STORAGE_OPTIONS": options})


def same_person(app, client):
    """A client of another application, with the session of ``client``."""
    other = app.test_client()
    cookie = client.get_cookie("sightbox_session")
    other.set_cookie("sightbox_session", cookie.value)
    return other


# -- all is well ---------------------------------------------------------------------------


def test_a_picture_from_upload_to_deletion(app, s3, ann, bob, upload):
    data = picture_bytes(size=(640, 480))
    image_id = upload(ann, data)
    found = image(app, image_id)
    assert found.status is ImageStatus.DONE
    assert s3.stored() == sorted(f"pictures/{key}" for key in found.storage_keys)
    assert "<rect" in ann.get(f"/images/{image_id}").text
    original = ann.get(f"/images/{found.original_name}")
    assert original.data == data
    assert original.headers["Content-Disposition"] == "attachment; filename=cat.jpg"
    for name in (found.display_name, found.thumbnail_name):
        assert ann.get(f"/images/{name}").mimetype == "image/jpeg"
        assert bob.get(f"/images/{name}").status_code == 404
    assert ann.get(f"/images/{image_id}/annotated").mimetype == "image/jpeg"
    assert ann.post(f"/detect/{image_id}").status_code == 303
    assert image(app, image_id).status is ImageStatus.DONE
    assert ann.post(f"/images/delete/{image_id}").status_code == 303
    assert len(s3.stored()) == 3  # in the trash
    assert ann.get(f"/images/{found.thumbnail_name}").mimetype == "image/jpeg"
    assert ann.post("/trash/delete", data={"all": "1", "confirmed": "1"}).status_code == 303
    assert s3.stored() == []


def test_no_page_promises_that_pictures_stay_on_this_machine(app, make_app):
    here, elsewhere = (a.test_client().get("/").text for a in (make_app(), app))
    assert "on this machine alone" in here
    assert "stay here" in here
    assert "on this machine alone" not in elsewhere
    assert "stay here" not in elsewhere


def test_readiness_says_that_the_storage_works(app, s3):
    assert app.test_client().get("/readyz").json["checks"]["storage"] is True
    assert s3.stored() == []


def test_a_file_is_asked_about_and_sent_in_parts(app, ann, upload):
    data = picture_bytes()
    name = image(app, upload(ann, data)).original_name
    first = ann.get(f"/images/{name}")
    assert first.headers["Accept-Ranges"] == "bytes"
    same = ann.get(f"/images/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    part = ann.get(f"/images/{name}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"


def test_a_lost_file_is_reported_as_gone(app, s3, ann, upload):
    found = image(app, upload(ann))
    s3.client().delete_object(Bucket=s3.bucket, Key=f"pictures/{found.original_key}")
    assert ann.get(f"/images/{found.original_name}").status_code == 404
    ann.post(f"/detect/{found.id}")
    assert image(app, found.id).status is ImageStatus.FAILED
    assert "is gone" in ann.get(f"/images/{found.id}").text


# -- the storage is away -------------------------------------------------------------------


def test_an_upload_is_refused_with_its_reason(dead, ann):
    client = same_person(dead, ann)
    files = {"image": [(io.BytesIO(picture_bytes()), "a.jpg")]}
    answer = client.post("/upload", data=files, headers={"Accept": "application/json"})
    assert answer.status_code == 422
    [result] = answer.json["results"]
    assert result["code"] == "not_stored"
    assert "does not answer" in result["message"]
    with dead.app_context():
        assert db.session.query(Image).count() == 0


def test_reading_says_that_the_storage_does_not_answer(app, dead, ann, upload):
    found = image(app, upload(ann))
    client = same_person(dead, ann)
    for path in (found.original_name, found.thumbnail_name, f"{found.id}/annotated"):
        answer = client.get(f"/images/{path}")
        assert answer.status_code == 503
        assert "does not answer" in answer.text
    assert client.get(f"/images/{found.id}").status_code == 200  # the page itself comes


def test_readiness_says_that_the_storage_is_away(dead):
    answer = dead.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {"database": True, "storage": False, "engine": True}


def test_a_detection_waits_until_the_storage_is_back(app, dead, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        row = db.session.get_one(Image, image_id)
        row.status, row.attempts = ImageStatus.QUEUED, 0
        db.session.commit()
    for _ in range(4):  # more often than a picture may fail
        with dead.app_context(), pytest.raises(TryLater, match="away"):
            services(dead).detections.run(image_id)
        assert image(app, image_id).status is ImageStatus.QUEUED
        assert image(app, image_id).attempts == 0
    with app.app_context():
        services(app).detections.run(image_id)
    assert image(app, image_id).status is ImageStatus.DONE


def test_a_picture_is_deleted_although_its_files_cannot_be(app, dead, ann, upload, caplog):
    image_id = upload(ann)
    assert same_person(dead, ann).post(f"/images/delete/{image_id}").status_code == 303
    data = {"all": "1", "confirmed": "1"}
    assert same_person(dead, ann).post("/trash/delete", data=data).status_code == 303
    assert ann.get(f"/images/{image_id}").status_code == 404
    assert caplog.text.count("not deleted key=") == 3


def test_a_bucket_that_vanished_loses_no_picture(app, make_app, s3, ann, upload):
    image_id = upload(ann)
    gone = make_app(
        INSTANCE_PATH=app.instance_path, **s3.settings | {"STORAGE_URL": "s3://no-such-bucket"}
    )
    same_person(gone, ann).post(f"/detect/{image_id}")
    assert image(app, image_id).status is ImageStatus.QUEUED


# -- addresses of the storage --------------------------------------------------------------


@pytest.fixture
def presigned(settings):
    settings["STORAGE_PRESIGN"] = 120


@pytest.mark.usefixtures("presigned")
def test_files_are_fetched_from_the_storage_itself(app, ann, upload):
    data = picture_bytes()
    found = image(app, upload(ann, data, name="고양이.jpg"))
    answer = ann.get(f"/images/{found.original_name}")
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "X-Amz-Expires=120" in answer.location
    status, headers, body = fetch(answer.location)
    assert (status, body) == (200, data)
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''%EA%B3%A0")
    shown = fetch(ann.get(f"/images/{found.thumbnail_name}").location)
    assert shown[1]["Content-Type"] == "image/jpeg"
    assert "Content-Disposition" not in shown[1]


@pytest.mark.usefixtures("presigned")
def test_nobody_else_gets_an_address(app, ann, bob, admin, upload):
    found = image(app, upload(ann))
    anonymous = app.test_client()
    for name in (found.original_name, found.display_name, found.thumbnail_name):
        assert bob.get(f"/images/{name}").status_code == 404
        assert admin.get(f"/images/{name}").status_code == 404
        assert "/auth/login" in anonymous.get(f"/images/{name}").location
    assert bob.get(f"/crud/images/{found.id}/thumbnail").status_code == 403
    address = admin.get(f"/crud/images/{found.id}/thumbnail").location
    assert fetch(address)[1]["Content-Type"] == "image/jpeg"


@pytest.mark.usefixtures("presigned")
def test_an_address_is_good_for_one_file_alone(app, ann, upload):
    found = image(app, upload(ann))
    address = urlsplit(ann.get(f"/images/{found.thumbnail_name}").location)
    assert address.path.endswith(found.thumbnail_key)
    assert "X-Amz-Signature" in address.query


@pytest.mark.usefixtures("presigned")
def test_pages_may_show_pictures_of_the_storage(app, s3, ann):
    policy = ann.get("/").headers["Content-Security-Policy"]
    assert f"img-src 'self' data: blob: {s3.endpoint};" in policy
    assert f"media-src 'self' blob: {s3.endpoint};" in policy
    assert policy.count(s3.endpoint) == 2


def test_pages_show_their_own_pictures_alone(ann):
    assert "img-src 'self' data: blob:;" in ann.get("/").headers["Content-Security-Policy"]


@pytest.mark.usefixtures("presigned")
def test_without_credentials_there_are_pages_but_no_addresses(app, make_app, s3, ann, upload):
    found = image(app, upload(ann))
    options = {"endpoint_url": s3.endpoint}
    other = make_app(
        INSTANCE_PATH=app.instance_path,
        **s3.settings | {"STORAGE_OPTIONS": options, "STORAGE_PRESIGN": 60},
    )
    client = same_person(other, ann)
    assert client.get("/").status_code == 200
    answer = client.get(f"/images/{found.thumbnail_name}", headers={"Accept": "application/json"})
    assert answer.status_code == 503
    assert json.loads(answer.data)["error"]["code"] == "unavailable"
