import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image as Picture
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Detection, Image, ImageStatus, ImageTag, TagSource
from apps.vision.types import Box
from apps.vision.zoo.registry import BLOOD_CELLS, EMBEDDED_DEFAULT, detectors
from tests.conftest import picture_bytes, stored_files, weights_here


def script(app, *boxes: Box) -> None:
    """Make the fake engine find ``boxes`` in every picture."""
    services(app).detections.engine.script = lambda picture: boxes


def image(app, image_id) -> Image:
    with app.app_context():
        return db.session.get_one(Image, image_id)


# -- visitors ------------------------------------------------------------------------------


def test_visitors_see_what_this_is_and_how_to_begin(app):
    text = app.test_client().get("/").text
    assert "See what is in your photographs" in text
    assert 'href="/auth/signup"' in text
    assert 'href="/auth/login"' in text


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", "/upload"), ("post", "/upload"), ("get", "/images/search"), ("post", "/detect/1"),
     ("post", "/images/delete/1"), ("get", "/images/1"), ("get", "/images/x.jpg"),
     ("get", "/auth/account")],
)  # fmt: skip
def test_visitors_are_sent_to_log_in(app, method, path):
    answer = getattr(app.test_client(), method)(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/auth/login?next=" if method == "get" else "/auth/login")


def test_a_visitors_script_gets_401_and_not_a_page(app):
    answer = app.test_client().post("/upload", headers={"Accept": "application/json"})
    assert answer.status_code == 401


# -- upload --------------------------------------------------------------------------------


def test_an_uploaded_picture_is_detected_and_shown(ann, upload, app):
    page = ann.get(f"/images/{upload(ann)}").text
    assert 'data-status="done"' in page
    assert re.search(r'<img src="/images/[0-9a-f]{32}-display\.jpg" width="64" height="48"', page)
    assert re.search(r'<svg[^>]* viewBox="0 0 64 48"', page)
    assert page.count("<rect") == 2
    assert "dog 90 %" in page
    assert len(stored_files(app)) == 3


def test_several_files_at_once_lead_to_the_gallery(ann):
    files = [(io.BytesIO(picture_bytes()), f"{n}.jpg") for n in range(3)]
    answer = ann.post("/upload", data={"image": files})
    assert (answer.status_code, answer.location) == (303, "/")
    assert "3 pictures uploaded" in ann.get("/").text


def test_a_bad_file_says_why_and_the_good_ones_go_on(ann, app):
    files = [
        (io.BytesIO(picture_bytes()), "good.jpg"),
        (io.BytesIO(b"hello"), "notes.txt"),
        (io.BytesIO(picture_bytes()[:-300]), "cut.jpg"),
        (io.BytesIO(picture_bytes(format="PNG")), "also-good.png"),
    ]
    answer = ann.post("/upload", data={"image": files})
    assert answer.status_code == 200
    assert "2 of 4 files were uploaded" in answer.text
    assert "not a picture that Sightbox can read" in answer.text
    assert "cut short or damaged" in answer.text
    assert len(stored_files(app)) == 6


def test_a_bad_file_alone_is_refused(ann, app):
    answer = ann.post("/upload", data={"image": [(io.BytesIO(b"hello"), "cat.jpg")]})
    assert answer.status_code == 422
    assert "not a picture" in answer.text
    assert stored_files(app) == []


def test_an_upload_without_a_file_says_so(ann):
    answer = ann.post("/upload", data={})
    assert answer.status_code == 422
    assert "Choose at least one picture." in answer.text


def test_looking_at_the_upload_page_as_json_is_no_crash(ann):
    assert ann.get("/upload", headers={"Accept": "application/json"}).status_code == 200


def test_scripts_get_one_result_a_file(ann):
    files = [(io.BytesIO(picture_bytes()), "a.jpg"), (io.BytesIO(b"x"), "b.jpg")]
    answer = ann.post("/upload", data={"image": files}, headers={"Accept": "application/json"})
    assert answer.status_code == 201
    good, bad = answer.json["results"]
    assert good["ok"] is True
    assert ann.get(good["url"]).status_code == 200
    assert (bad["ok"], bad["code"]) == (False, "not_a_picture")


def test_the_same_picture_twice_is_refused_and_another_account_may_have_it(ann, bob, upload, app):
    data = picture_bytes()
    upload(ann, data)
    again = ann.post("/upload", data={"image": [(io.BytesIO(data), "again.jpg")]})
    assert again.status_code == 422
    assert "uploaded this picture already" in again.text
    upload(bob, data)
    assert len(stored_files(app)) == 6


def test_the_quota_holds_when_several_uploads_come_at_once(make_app):
    app = make_app(USER_QUOTA_BYTES=1500)
    values = {"username": "ann", "email": "a@b.c", "password": "many words"}
    app.test_client().post("/auth/signup", data=values)
    pictures = [picture_bytes() for _ in range(6)]

    def send(data: bytes) -> int:
        client = app.test_client()
        client.post("/auth/login", data={"email": "ann", "password": "many words"})
        return client.post("/upload", data={"image": [(io.BytesIO(data), "a.jpg")]}).status_code

    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(send, pictures))
    fit = 1500 // max(len(data) for data in pictures)
    assert sorted(codes) == [303] * fit + [422] * (6 - fit)
    assert len(stored_files(app)) == 3 * fit


def test_a_disk_that_is_full_fails_the_file_and_not_the_others(ann, app, monkeypatch):
    storage = services(app).storage
    real, calls = type(storage).put, []

    def put(self, key, data):
        calls.append(key)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(self, key, data)

    monkeypatch.setattr(type(storage), "put", put)
    files = [(io.BytesIO(picture_bytes()), "a.jpg"), (io.BytesIO(picture_bytes()), "b.jpg")]
    answer = ann.post("/upload", data={"image": files})
    assert answer.status_code == 200
    assert "storage is full" in answer.text
    assert len(stored_files(app)) == 3


def test_a_full_account_is_told_so(make_app):
    app = make_app(USER_QUOTA_BYTES=900)
    client = app.test_client()
    client.post(
        "/auth/signup", data={"username": "ann", "email": "a@b.c", "password": "many words"}
    )
    first = client.post("/upload", data={"image": [(io.BytesIO(picture_bytes()), "a.jpg")]})
    assert first.status_code == 303
    second = client.post("/upload", data={"image": [(io.BytesIO(picture_bytes()), "b.jpg")]})
    assert second.status_code == 422
    assert "is full" in second.text


def test_the_original_is_kept_byte_for_byte_and_derivatives_carry_no_exif(ann, upload, app):
    exif = Picture.Exif()
    exif[0x0112] = 6  # turned to the right
    exif[0x010F] = "secret camera"
    data = picture_bytes((3000, 1000), exif=exif)
    image_id = upload(ann, data)
    found = image(app, image_id)
    assert (found.width, found.height) == (1000, 3000)
    assert ann.get(f"/images/{found.original_name}").data == data
    display = Picture.open(io.BytesIO(ann.get(f"/images/{found.display_name}").data))
    thumbnail = Picture.open(io.BytesIO(ann.get(f"/images/{found.thumbnail_name}").data))
    assert display.format == thumbnail.format == "JPEG"
    assert max(display.size) == 2048
    assert max(thumbnail.size) == 384
    assert not display.getexif()
    assert not thumbnail.getexif()


def test_files_are_private_sandboxed_and_revalidated(ann, upload, app):
    found = image(app, upload(ann))
    answer = ann.get(f"/images/{found.original_name}")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == "attachment; filename=cat.jpg"
    assert answer.content_type == "image/jpeg"
    again = ann.get(
        f"/images/{found.original_name}", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=600-", 206, slice(600, None)),
        ("bytes=0-999999", 206, slice(None)),
        ("bytes=999999-", 416, None),
        ("nonsense", 416, None),
    ],
)
def test_a_part_of_a_file_is_sent_when_it_is_asked_for(ann, upload, app, asked, status, part):
    data = picture_bytes()
    address = f"/images/{image(app, upload(ann, data)).original_name}"
    assert len(data) > 600
    assert ann.get(address).headers["Accept-Ranges"] == "bytes"
    answer = ann.get(address, headers={"Range": asked})
    assert answer.status_code == status
    if part is not None:
        assert answer.data == data[part]
        assert answer.content_length == len(answer.data)
        assert answer.headers["Cache-Control"] == "private, no-cache"
    stale = ann.get(address, headers={"Range": asked, "If-Range": '"another"'})
    assert (stale.status_code, stale.data) == (200, data)


# -- gallery and search --------------------------------------------------------------------


def test_an_empty_gallery_says_what_to_do(ann):
    text = ann.get("/").text
    assert "Nothing here yet" in text
    assert 'type="file"' in text


def test_the_gallery_shows_the_newest_first_with_links_and_tags(ann, upload):
    first, second = upload(ann, name="first.jpg"), upload(ann, name="second.jpg")
    text = ann.get("/").text
    assert text.index(f'href="/images/{second}"') < text.index(f'href="/images/{first}"')
    assert 'href="/images/search?search=dog"' in text
    assert re.search(r'<img src="/images/[^"]+-thumbnail.jpg" width="64" height="48"', text)
    assert "2 pictures" in text


def test_the_gallery_has_pages(make_app):
    app = make_app(GALLERY_PAGE_SIZE=2)
    client = app.test_client()
    client.post(
        "/auth/signup", data={"username": "ann", "email": "a@b.c", "password": "many words"}
    )
    for _ in range(3):
        client.post("/upload", data={"image": [(io.BytesIO(picture_bytes()), "a.jpg")]})
    first, second = client.get("/").text, client.get("/?page=2").text
    assert first.count("<article") == 2
    assert second.count("<article") == 1
    assert 'href="/?page=2"' in first
    assert client.get("/?page=3").status_code == 404
    assert client.get("/images/search?search=dog&page=2&endpoint=x&_external=1").status_code == 200


def test_search_finds_by_tag_and_says_when_it_does_not(ann, app, upload):
    script(app, Box("dog", 0.9, 1, 1, 9, 9))
    dog = upload(ann)
    script(app, Box("hot dog", 0.9, 1, 1, 9, 9))
    snack = upload(ann)

    def found(text):
        page = ann.get("/images/search", query_string={"search": text}).text
        return {int(n) for n in re.findall(r'href="/images/(\d+)"', page)}

    assert found("dog") == {dog}  # an exact tag hides those that only contain it
    assert found("DOG") == {dog}
    assert found("hot") == {snack}
    assert found("do") == {dog, snack}
    assert found("zebra") == set()
    assert found("%") == found("_") == set()
    assert found("") == {dog, snack}
    miss = ann.get("/images/search?search=zebra").text
    assert "No picture of yours has the tag “zebra”" in miss


def test_search_sees_only_ones_own_pictures(ann, bob, upload):
    upload(ann)
    text = bob.get("/images/search?search=dog").text
    assert "<article" not in text
    assert "chip" not in re.sub(r"<link[^>]*>", "", bob.get("/").text)


def test_chips_count_pictures(ann, upload):
    for _ in range(3):
        upload(ann)
    assert re.search(r"dog <b>3</b>", ann.get("/").text)


@pytest.mark.parametrize("count", [1, 48])
def test_the_gallery_sends_the_same_queries_for_any_number_of_pictures(
    ann, app, count, count_queries, make_user
):
    _fill(app, make_user("ann"), count)
    with count_queries() as statements:
        text = ann.get("/").text
    assert text.count("<article") == count
    assert len(statements) == 11, "\n".join(statements)


def test_the_picture_page_sends_the_same_queries_for_any_number_of_boxes(
    ann, app, upload, count_queries
):
    counts = []
    for boxes in (1, 60):
        script(app, *(Box("dog", 0.9, n, 1, n + 2, 9) for n in range(boxes)))
        page = f"/images/{upload(ann)}"
        with count_queries() as statements:
            assert ann.get(page).status_code == 200
        counts.append(len(statements))
    assert counts[0] == counts[1]


def _fill(app, owner_id: int, count: int) -> None:
    with app.app_context():
        tag = services(app).tags.ensure("dog")
        for n in range(count):
            row = Image(
                owner_id=owner_id, title=f"{n}.jpg", key=f"{n:032x}", extension="jpg",
                media_type="image/jpeg", sha256=f"{n:064x}", bytes=10, width=4, height=3,
                status=ImageStatus.DONE,
            )  # fmt: skip
            db.session.add(row)
            db.session.flush()
            db.session.add(ImageTag(image_id=row.id, tag_id=tag.id, source=TagSource.MODEL))
        db.session.commit()


# -- the picture page ----------------------------------------------------------------------


def test_the_slider_works_without_a_script_too(ann, upload):
    page = f"/images/{upload(ann)}"
    assert ann.get(page).text.count('class="box c') == 2
    assert len(re.findall(r'class="box c\d+ d-none"', ann.get(page).text)) == 1
    assert not re.findall(r'class="box c\d+ d-none"', ann.get(f"{page}?threshold=0.2").text)
    for odd in ("nan", "x", "", "-5", "1e9"):
        assert ann.get(page, query_string={"threshold": odd}).status_code == 200


def test_nothing_found_is_a_result_and_says_so(ann, app, upload):
    script(app)
    page = ann.get(f"/images/{upload(ann)}").text
    assert 'data-status="done"' in page
    assert "The model found nothing here." in page


def test_own_tags_are_added_and_survive_another_detection(ann, app, upload):
    image_id = upload(ann)
    answer = ann.post(f"/images/{image_id}/tags", data={"name": "  My   Holiday "})
    assert answer.status_code == 303
    script(app, Box("cat", 0.9, 1, 1, 9, 9))
    ann.post(f"/detect/{image_id}")
    text = ann.get(f"/images/{image_id}").text
    assert "search=My+Holiday" in text
    assert "search=cat" in text
    assert "search=dog" not in text


def test_a_tag_taken_off_by_a_person_is_not_brought_back_by_a_model(ann, app, upload):
    image_id = upload(ann)
    with app.app_context():
        [tag_id] = db.session.scalars(select(ImageTag.tag_id)).all()
    assert ann.post(f"/images/{image_id}/tags/{tag_id}/delete").status_code == 303
    ann.post(f"/detect/{image_id}")
    assert "search=dog" not in ann.get(f"/images/{image_id}").text
    assert "search=dog" not in ann.get("/").text
    assert ann.post(f"/images/{image_id}/tags/{tag_id}/delete").status_code == 404
    ann.post(f"/images/{image_id}/tags", data={"name": "Dog"})  # a person may
    assert "search=dog" in ann.get(f"/images/{image_id}").text


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "a\x00b", "a\u202eb"])
def test_a_bad_tag_says_why(ann, upload, name):
    image_id = upload(ann)
    answer = ann.post(f"/images/{image_id}/tags", data={"name": name}, follow_redirects=True)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


def test_detect_again_replaces_the_boxes(ann, app, upload):
    image_id = upload(ann)
    script(app, Box("cat", 0.9, 1, 1, 9, 9))
    answer = ann.post(f"/detect/{image_id}")
    assert (answer.status_code, answer.location) == (303, f"/images/{image_id}")
    with app.app_context():
        assert db.session.scalars(select(Detection.label)).all() == ["cat"]


@pytest.mark.parametrize("spec", [spec for spec in detectors() if spec.weights.embedded])
def test_a_card_has_the_figures_of_every_class(ann, spec):
    text = ann.get(f"/models/{spec.name}").text
    for row in spec.card.per_class:
        assert re.search(rf"{row.label}\b.*{row.ap50:.3f}</td>.*{row.ap:.3f}</td>", text)


def test_a_card_says_what_classes_mean_in_the_language_of_its_reader(ann):
    row = r"pottedplant <span[^>]*>화분"
    page = ann.get(f"/models/{EMBEDDED_DEFAULT.name}", headers={"Accept-Language": "ko"}).text
    assert re.search(row, page)


def test_detect_again_with_another_model_uses_it_once(ann, app, upload):
    image_id = upload(ann)
    name = "ssd300_vgg16.coco_v1"
    assert f'value="{name}"' not in ann.get(f"/images/{image_id}").text
    missing = ann.post(f"/detect/{image_id}", data={"model": name})
    assert missing.status_code == 422
    assert "not here yet" in missing.text
    weights_here(app, name)
    assert f'<option value="{name}">' in ann.get(f"/images/{image_id}").text
    assert ann.post(f"/detect/{image_id}", data={"model": name}).status_code == 303
    assert image(app, image_id).model == name
    assert f'href="/models/{name}"' in ann.get(f"/images/{image_id}").text
    ann.post(f"/detect/{image_id}")
    assert image(app, image_id).model == "fake.test"
    assert ann.post(f"/detect/{image_id}", data={"model": "nonsense"}).status_code == 404


@pytest.mark.parametrize("image_id", [999, 2**40, 2**70])
def test_detect_on_an_unknown_picture_is_404(ann, image_id):
    assert ann.post(f"/detect/{image_id}").status_code == 404


def test_detect_is_refused_while_the_picture_waits(ann, app, upload):
    image_id = upload(ann)
    with app.app_context():
        db.session.get_one(Image, image_id).status = ImageStatus.RUNNING
        db.session.commit()
    answer = ann.post(f"/detect/{image_id}")
    assert answer.status_code == 409
    assert "already" in answer.text
    page = ann.get(f"/images/{image_id}").text
    assert 'data-status="running"' in page
    assert "Load the page again" in page


def test_a_waiting_picture_is_counted_and_followed(ann, app, upload):
    image_id = upload(ann)
    with app.app_context():
        db.session.get_one(Image, image_id).status = ImageStatus.QUEUED
        db.session.commit()
    assert "1 picture is waiting" in ann.get("/").text
    state = ann.get(f"/images/status?id={image_id}&id=x&id=99999999999999&id=7").json
    assert state["statuses"] == {str(image_id): "queued"}
    assert state["waiting"] == 1
    assert 'data-status="queued"' in ann.get(f"/images/{image_id}/result").text
    assert 'data-status="queued"' in ann.get(f"/images/{image_id}/card").text


def test_a_failed_picture_shows_its_reason(ann, app, upload):
    image_id = upload(ann)
    storage = services(app).storage
    storage.delete(image(app, image_id).original_key)
    ann.post(f"/detect/{image_id}")
    text = ann.get(f"/images/{image_id}").text
    assert 'data-status="failed"' in text
    assert "The stored file of this picture is gone." in text


def test_delete_asks_first_and_moves_everything_to_the_trash(ann, app, upload):
    image_id = upload(ann, name="cat.jpg")
    question = ann.get(f"/images/delete/{image_id}")
    assert "Delete “cat.jpg”?" in question.text
    assert len(stored_files(app)) == 3
    answer = ann.post(f"/images/delete/{image_id}")
    assert (answer.status_code, answer.location) == (303, "/")
    assert "“cat.jpg” is in the trash." in ann.get("/").text
    assert ann.get(f"/images/{image_id}").status_code == 404
    assert len(stored_files(app)) == 3
    with app.app_context():
        assert db.session.scalars(select(Detection)).all() == []
        assert db.session.scalars(select(ImageTag)).all() == []


# -- downloads -----------------------------------------------------------------------------


def test_boxes_download_as_json_in_picture_pixels(ann, app, upload):
    script(app, Box("dog", 0.875, 1.5, 2, 30, 40), Box("cat", 0.06, 3, 4, 5, 6))
    image_id = upload(ann, name="Straße.jpg")
    answer = ann.get(f"/images/{image_id}/boxes.json")
    assert "filename*=UTF-8''Stra%C3%9Fe-boxes.json" in answer.headers["Content-Disposition"]
    assert answer.json["boxes"][0] == {
        "label": "dog", "score": 0.875, "x1": 1.5, "y1": 2.0, "x2": 30.0, "y2": 40.0,
    }  # fmt: skip
    assert (answer.json["width"], answer.json["height"]) == (64, 48)
    assert (answer.json["model"], answer.json["tags"]) == ("fake.test", ["dog"])
    assert len(answer.json["boxes"]) == 2
    assert len(ann.get(f"/images/{image_id}/boxes.json?threshold=0.5").json["boxes"]) == 1


def test_the_annotated_picture_has_the_size_of_the_original(ann, upload):
    image_id = upload(ann, picture_bytes((640, 480), color="white"))
    answer = ann.get(f"/images/{image_id}/annotated")
    drawn = Picture.open(io.BytesIO(answer.data))
    assert (drawn.format, drawn.size) == ("JPEG", (640, 480))
    assert drawn.getcolors(640 * 480) != [(640 * 480, (255, 255, 255))]


def test_a_picture_too_long_for_jpeg_is_downloaded_smaller(ann, upload):
    image_id = upload(ann, picture_bytes((70_000, 10), format="PNG"))
    drawn = Picture.open(io.BytesIO(ann.get(f"/images/{image_id}/annotated").data))
    assert drawn.width == 65_500


# -- models --------------------------------------------------------------------------------


def test_the_model_card_is_shown(app):
    client = app.test_client()
    name = BLOOD_CELLS.name
    assert name in client.get("/models").text
    text = client.get(f"/models/{name}").text
    assert "0.903" in text
    assert "not made for diagnosis" in text
    assert client.get("/models/nonsense").status_code == 404
    missing = client.get("/models/ssd300_vgg16.coco_v1").text
    assert "flask models fetch ssd300_vgg16.coco_v1" in missing
    assert "toothbrush" in missing
