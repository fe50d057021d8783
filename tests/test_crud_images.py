"""Administrators' pages about everybody's pictures."""

import io
import re

import pytest
from sqlalchemy import select, update

from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, ImageTag, Tag, TagSource, User
from tests.conftest import picture_bytes, stored_files


def file(data: bytes | None = None, name: str = "new.jpg") -> tuple[io.BytesIO, str]:
    return io.BytesIO(picture_bytes() if data is None else data), name


def image_of(app, image_id: int) -> Image | None:
    with app.app_context():
        return db.session.get(Image, image_id)


def change(app, image_id: int, **values: object) -> None:
    with app.app_context():
        db.session.execute(update(Image).where(Image.id == image_id).values(**values))
        db.session.commit()


# -- list ----------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do_next(admin):
    page = admin.get("/crud/images").text
    assert "Nobody has uploaded a picture yet." in page
    assert 'href="/crud/images/new"' in page


def test_the_list_shows_every_accounts_pictures_with_thumbnail_and_owner(
    app, ann, bob, upload, make_user, admin
):
    first, second = upload(ann, name="cat.jpg"), upload(bob, name="dog.jpg")
    change(app, second, status=ImageStatus.FAILED, error="50 % <b>broken</b>")
    page = admin.get("/crud/images").text
    assert "2 pictures" in page
    assert re.search(
        rf'<img[^>]*src="/crud/images/{first}/thumbnail" width="\d+" height="\d+" '
        'loading="lazy"[^>]*alt="cat.jpg"',
        page,
    )
    assert f'<a href="/crud/users/{make_user("ann")}">ann</a>' in page
    assert "50 % &lt;b&gt;broken" in page
    assert "KB" in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("search=CAT", {"cat.jpg"}),
        ("search=bob", {"dog.jpg"}),
        ("search=_", set()),
        ("status=failed", {"dog.jpg"}),
        ("status=done", {"cat.jpg"}),
        ("owner={ann}", {"cat.jpg"}),
        ("owner={ann}&status=failed", set()),
        ("owner=abc&status=x", {"cat.jpg", "dog.jpg"}),
    ],
)
def test_search_and_filters_narrow_the_list(query, shown, app, ann, bob, upload, make_user, admin):
    upload(ann, name="cat.jpg")
    change(app, upload(bob, name="dog.jpg"), status=ImageStatus.FAILED)
    page = admin.get("/crud/images?" + query.format(ann=make_user("ann"))).text
    assert {name for name in ("cat.jpg", "dog.jpg") if name in page} == shown
    if not shown:
        assert "Nothing matches." in page


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("title", ["ant.jpg", "Bee.jpg", "cat.jpg"]),
        ("-title", ["cat.jpg", "Bee.jpg", "ant.jpg"]),
        ("owner", ["cat.jpg", "ant.jpg", "Bee.jpg"]),
        ("-bytes", ["Bee.jpg", "cat.jpg", "ant.jpg"]),
        ("status", ["cat.jpg", "Bee.jpg", "ant.jpg"]),
        ("created", ["cat.jpg", "ant.jpg", "Bee.jpg"]),
        ("-created", ["Bee.jpg", "ant.jpg", "cat.jpg"]),
        ("nonsense", ["Bee.jpg", "ant.jpg", "cat.jpg"]),
    ],
)
def test_the_list_can_be_ordered_by_each_heading(sort, order, app, ann, bob, upload, admin):
    change(app, upload(ann, name="cat.jpg"), bytes=200)
    change(app, upload(bob, name="ant.jpg"), bytes=100, status=ImageStatus.QUEUED)
    change(app, upload(bob, name="Bee.jpg"), bytes=300, status=ImageStatus.FAILED)
    page = admin.get(f"/crud/images?sort={sort}").text
    assert re.findall(r'aria-label="Choose ([^"]+)"', page.partition("</main>")[0]) == order


def test_filters_travel_in_every_link_of_the_list(ann, upload, make_user, admin):
    upload(ann)
    owner = make_user("ann")
    page = admin.get(f"/crud/images?owner={owner}&sort=title").text
    assert f"/crud/images?sort=-title&amp;owner={owner}" in page
    assert f'action="/crud/images/delete?sort=title&amp;owner={owner}"' in page
    assert f'<option value="{owner}" selected>ann</option>' in page
    assert f'href="/crud/images/new?owner={owner}"' in page


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thumbnail", "display"])
def test_an_administrator_sees_the_stored_copy(kind, ann, upload, admin):
    address = f"/crud/images/{upload(ann)}/{kind}"
    with admin.get(address) as answer:  # closes the file
        assert answer.status_code == 200
        assert answer.mimetype == "image/jpeg"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.data[:3] == b"\xff\xd8\xff"
    with admin.get(address, headers={"If-None-Match": answer.headers["ETag"]}) as again:
        assert again.status_code == 304


def test_originals_and_lost_files_are_not_found(app, ann, upload, admin):
    image_id = upload(ann)
    assert admin.get(f"/crud/images/{image_id}/original").status_code == 404
    image = image_of(app, image_id)
    assert image is not None
    services(app).storage.delete(image.thumbnail_key)
    assert admin.get(f"/crud/images/{image_id}/thumbnail").status_code == 404


# -- upload --------------------------------------------------------------------------------


def test_a_picture_can_be_uploaded_for_somebody(app, make_user, ann, admin):
    owner = make_user("ann")
    page = admin.get(f"/crud/images/new?owner={owner}").text
    assert f'<option selected value="{owner}">ann</option>' in page
    answer = admin.post("/crud/images/new", data={"owner": owner, "image": file(name="gift.jpg")})
    assert answer.status_code == 303
    page = admin.get(answer.location).text
    assert "gift.jpg" in page
    assert "fake.test" in page
    assert "gift.jpg" in ann.get("/").text


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "Choose a picture."), (b"text", "is-invalid"), (b"", "is-invalid")]
)
def test_a_bad_file_says_why_and_keeps_the_owner(data, reason, app, make_user, admin):
    owner = make_user("ann")
    form: dict[str, object] = {"owner": owner}
    if data is not None:
        form["image"] = file(data)
    answer = admin.post("/crud/images/new", data=form, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert reason in answer.text
    assert f'<option selected value="{owner}">ann</option>' in answer.text
    assert stored_files(app) == []


def test_the_same_picture_twice_is_refused(app, ann, upload, make_user, admin):
    data = picture_bytes()
    upload(ann, data)
    answer = admin.post("/crud/images/new", data={"owner": make_user("ann"), "image": file(data)})
    assert answer.status_code == 422
    assert "already" in answer.text
    assert len(stored_files(app)) == 3


@pytest.mark.parametrize("owner", ["4711", "abc", "", "9" * 40])
def test_an_unknown_owner_is_refused(owner, app, admin):
    answer = admin.post("/crud/images/new", data={"owner": owner, "image": file()})
    assert answer.status_code == 422
    assert "invalid-feedback" in answer.text
    assert stored_files(app) == []
    assert admin.get(f"/crud/images/new?owner={owner}").status_code == 200


# -- edit ----------------------------------------------------------------------------------


def test_the_picture_page_shows_what_is_known(app, ann, upload, admin):
    image_id = upload(ann)
    page = admin.get(f"/crud/images/{image_id}").text
    assert f'src="/crud/images/{image_id}/display"' in page
    assert "<dd>2</dd>" in page  # boxes
    assert ">dog</a>" in page
    assert ">cat</a>" not in page  # below the owner's threshold
    assert "fake.test" in page
    change(app, image_id, status=ImageStatus.FAILED, error="Gone for 100 % sure.")
    assert "Gone for 100 % sure." in admin.get(f"/crud/images/{image_id}").text


def test_a_title_is_cleaned_and_saved(app, ann, upload, make_user, admin):
    image_id = upload(ann)
    form = {"title": "  ..\\x/My \u202ecat.jpg", "owner": make_user("ann")}
    answer = admin.post(f"/crud/images/{image_id}", data=form)
    assert answer.status_code == 303
    image = image_of(app, image_id)
    assert image is not None
    assert image.title == "My cat.jpg"


@pytest.mark.parametrize("title", ["", "   ", "x" * 121])
def test_a_wrong_title_says_why_and_keeps_what_was_typed(title, app, ann, upload, make_user, admin):
    image_id, other = upload(ann), make_user("bob")
    answer = admin.post(f"/crud/images/{image_id}", data={"title": title, "owner": other})
    assert answer.status_code == 422
    assert "invalid-feedback" in answer.text
    assert f'<option selected value="{other}">bob</option>' in answer.text
    if title.strip():
        assert f'value="{title}"' in answer.text
    image = image_of(app, image_id)
    assert image is not None
    assert image.title == "cat.jpg"


def test_a_picture_moves_to_another_account_with_its_boxes_and_tags(
    app, ann, bob, upload, make_user, admin
):
    image_id, target = upload(ann), make_user("bob")
    with app.app_context():
        services(app).tags.add(make_user("ann"), image_id, "holiday")
        db.session.execute(update(User).where(User.id == target).values(threshold=0.2))
        db.session.commit()
    answer = admin.post(f"/crud/images/{image_id}", data={"title": "cat.jpg", "owner": target})
    assert answer.status_code == 303
    assert bob.get(f"/images/{image_id}").status_code == 200
    assert ann.get(f"/images/{image_id}").status_code == 404
    with app.app_context():
        rows = db.session.execute(select(Tag.name, ImageTag.source).join(ImageTag.tag))
        tags = dict(rows.all())
    # The model's tags follow the new owner's threshold; a person's stays.
    assert tags == {"dog": "model", "cat": "model", "holiday": TagSource.PERSON}


def test_moving_onto_the_same_picture_is_refused_and_nothing_is_lost(
    app, ann, bob, upload, make_user, admin
):
    data = picture_bytes()
    image_id, _ = upload(ann, data), upload(bob, data)
    target = make_user("bob")
    answer = admin.post(f"/crud/images/{image_id}", data={"title": "typed.jpg", "owner": target})
    assert answer.status_code == 409
    assert "bob has the same picture already." in answer.text
    assert 'value="typed.jpg"' in answer.text
    assert f'<option selected value="{target}">bob</option>' in answer.text
    image = image_of(app, image_id)
    assert image is not None
    assert (image.title, image.owner_id) == ("cat.jpg", make_user("ann"))


@pytest.mark.parametrize("owner", ["4711", "abc", ""])
def test_a_picture_cannot_move_to_nobody(owner, app, ann, upload, admin):
    image_id = upload(ann)
    answer = admin.post(f"/crud/images/{image_id}", data={"title": "typed.jpg", "owner": owner})
    assert answer.status_code == 422
    assert 'value="typed.jpg"' in answer.text


def test_detect_again_repeats_a_failed_detection(app, ann, upload, admin):
    image_id = upload(ann)
    change(app, image_id, status=ImageStatus.FAILED, error="Broken.")
    answer = admin.post(f"/crud/images/{image_id}/detect")
    assert answer.status_code == 303
    image = image_of(app, image_id)
    assert image is not None
    assert (image.status, image.error) == (ImageStatus.DONE, None)


def test_detect_again_is_refused_while_it_waits(app, ann, upload, admin):
    image_id = upload(ann)
    change(app, image_id, status=ImageStatus.RUNNING)
    assert admin.post(f"/crud/images/{image_id}/detect").status_code == 409
    assert "disabled>" in admin.get(f"/crud/images/{image_id}").text
    assert admin.get(f"/crud/images/{image_id}/detect").status_code == 405


# -- delete --------------------------------------------------------------------------------


def test_deleting_a_picture_asks_first_and_removes_its_files(app, ann, upload, admin):
    image_id = upload(ann)
    page = admin.get(f"/crud/images/{image_id}/delete").text
    for part in ("cat.jpg", "1 picture", "2 boxes", "1 tag on them", "KB"):
        assert part in page
    assert len(stored_files(app)) == 3
    answer = admin.post(f"/crud/images/{image_id}/delete")
    assert answer.status_code == 303
    assert "1 picture deleted." in admin.get(answer.location).text
    assert stored_files(app) == []
    assert image_of(app, image_id) is None


def test_deleting_many_asks_first_and_then_deletes_those(app, ann, bob, upload, admin):
    ids = [str(upload(ann, name="cat.jpg")), str(upload(bob, name="dog.jpg"))]
    kept = upload(bob, name="keep.jpg")
    question = admin.post("/crud/images/delete?sort=title", data={"ids": ids})
    assert question.status_code == 200
    for part in ("cat.jpg", "dog.jpg", "2 pictures", "4 boxes", 'href="/crud/images?sort=title"'):
        assert part in question.text
    assert "keep.jpg" not in question.text
    assert len(stored_files(app)) == 9
    answer = admin.post("/crud/images/delete?sort=title", data={"ids": ids, "confirmed": "1"})
    assert (answer.status_code, answer.location) == (303, "/crud/images?sort=title")
    assert len(stored_files(app)) == 3
    assert image_of(app, kept) is not None
