"""What holds for all administrators' pages: who may, odd addresses, numbers of queries."""

import re

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import ImageTag, Tag, User
from tests.conftest import PASSWORD, stored_files

PAGES = [
    "/crud/",
    "/crud/users",
    "/crud/users/new",
    "/crud/users/{user}",
    "/crud/users/{user}/delete",
    "/crud/images",
    "/crud/images/new",
    "/crud/images/{image}",
    "/crud/images/{image}/delete",
    "/crud/images/{image}/thumbnail",
    "/crud/images/{image}/display",
    "/crud/tags",
    "/crud/tags/new",
    "/crud/tags/{tag}",
    "/crud/tags/{tag}/delete",
]
ACTIONS = [
    "/crud/users/new",
    "/crud/users/{user}",
    "/crud/users/{user}/delete",
    "/crud/users/delete",
    "/crud/images/new",
    "/crud/images/{image}",
    "/crud/images/{image}/delete",
    "/crud/images/{image}/detect",
    "/crud/images/delete",
    "/crud/tags/new",
    "/crud/tags/{tag}",
    "/crud/tags/{tag}/delete",
    "/crud/tags/delete",
]


@pytest.fixture
def things(app, ann, upload, make_user) -> dict[str, int]:
    """Ids of an account, its picture and that picture's tag."""
    image_id = upload(ann)
    with app.app_context():
        tag_id = db.session.scalars(select(ImageTag.tag_id)).one()
    return {"user": make_user("ann"), "image": image_id, "tag": tag_id}


# -- who may -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_administrators_only(path, app, things, bob, admin):
    address = path.format(**things)
    anonymous = app.test_client().get(address)
    assert anonymous.status_code == 302
    assert "/auth/login" in anonymous.location
    assert bob.get(address).status_code == 403
    with admin.get(address) as answer:  # closes the file that some of them send
        assert answer.status_code == (302 if path == "/crud/" else 200)


@pytest.mark.parametrize("path", ACTIONS)
def test_an_action_of_somebody_else_changes_nothing(path, app, things, bob):
    address, form = path.format(**things), {"ids": "1", "confirmed": "1", "name": "x"}
    anonymous = app.test_client().post(address, data=form)
    assert anonymous.status_code == 302
    assert "/auth/login" in anonymous.location
    assert bob.post(address, data=form).status_code == 403
    assert len(stored_files(app)) == 3
    with app.app_context():
        assert db.session.get(User, things["user"]) is not None
        assert db.session.get(Tag, things["tag"]) is not None


@pytest.mark.parametrize("path", [path for path in PAGES + ACTIONS if "{" in path])
@pytest.mark.parametrize("number", [4711, 2**31, 10**30])
def test_what_does_not_exist_answers_404(path, number, admin):
    address = path.format(user=number, image=number, tag=number)
    if path in PAGES:
        assert admin.get(address).status_code == 404
    if path in ACTIONS:
        assert admin.post(address).status_code == 404


@pytest.mark.parametrize("path", PAGES + ACTIONS)
def test_a_wrong_method_answers_405(path, things, admin):
    address = path.format(**things)
    if path not in ACTIONS:
        assert admin.post(address).status_code == 405
    if path not in PAGES and path.count("/") == 3:  # the bulk actions are no rows either
        assert admin.get(address).status_code in (404, 405)
    assert admin.put(address).status_code == 405


def test_every_action_needs_the_csrf_token(make_app):
    app = make_app(WTF_CSRF_ENABLED=True)
    with app.app_context():
        key = services(app).accounts.create("root", "root@example.com", PASSWORD).fs_uniquifier
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    for path in ACTIONS:
        answer = client.post(path.format(user=1, image=1, tag=1), data={"confirmed": "1"})
        assert answer.status_code == 400, path
    page = client.get("/crud/users/new").text
    token = re.findall(r'name="csrf_token" value="([^"]+)"', page)[-1]
    form = {"username": "carol", "email": "carol@example.com", "password": PASSWORD}
    form |= {"role": "user", "csrf_token": token}
    assert client.post("/crud/users/new", data=form).status_code == 303


def test_the_pages_obey_the_strict_content_policy(things, admin):
    for path in PAGES[1:]:
        with admin.get(path.format(**things)) as answer:
            text = answer.get_data().decode(errors="replace")
        assert not re.search(r"<[^>]+\s(style|on\w+)=", text), path
        assert not re.search(r'<script(?![^>]*\b(src=|type="application/json"))', text), path


# -- odd addresses ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["users", "images", "tags"])
@pytest.mark.parametrize(
    "query",
    [
        "page=abc",
        "page=-1",
        "page=0",
        "page=99999999999999999999999",
        "sort=x",
        "sort=--",
        "sort=-",
        "owner=abc",
        "owner=99999999999999999999999",
        "status=nonsense",
        "search=%00",
        "search=a%00b&role=%00&owner=%00&status=%00",
        "search=" + "x" * 5000,
        "search=%ff%fe%25%5f%5c",
    ],
)
def test_garbage_in_the_address_is_no_server_error(kind, query, things, admin):
    assert admin.get(f"/crud/{kind}?{query}").status_code in (200, 404)


@pytest.mark.parametrize("kind", ["users", "images", "tags"])
def test_garbage_ids_choose_nothing(kind, things, admin):
    for ids in (["abc"], ["\0"], ["-1"], ["9" * 5000], [str(2**31)], ["²"], []):
        answer = admin.post(f"/crud/{kind}/delete", data={"ids": ids, "confirmed": "1"})
        assert answer.status_code == 303, ids
        assert "first" in admin.get(answer.location).text


@pytest.mark.parametrize("kind", ["users", "images", "tags"])
def test_a_list_asks_the_database_equally_often_for_1_and_for_30_rows(
    kind, app, make_user, ann, upload, admin, count_queries
):
    upload(ann)
    with count_queries() as few:
        admin.get(f"/crud/{kind}")
    with app.app_context():
        for number in range(29):
            services(app).tags.create(f"tag {number}")
    for number in range(29):
        make_user(f"user{number}")
        upload(ann)
    with count_queries() as many:
        page = admin.get(f"/crud/{kind}").text
    assert page.count("<tr>") > 29
    assert len(many) == len(few) <= 6
