"""Every address that names a thing: as anonymous, another account, owner, administrator."""

import re

import pytest
from sqlalchemy import select

from apps.extensions import db
from apps.models import Image, ImageTag

# (method, path) -> status for its owner. {id}, {tag} and the three files are filled in.
OWNED = {
    ("GET", "/images/{id}"): 200,
    ("GET", "/images/{id}/result"): 200,
    ("GET", "/images/{id}/card"): 200,
    ("GET", "/images/{id}/boxes.json"): 200,
    ("GET", "/images/{id}/state.json"): 200,
    ("GET", "/images/{id}/exif.json"): 200,
    ("GET", "/images/{id}/annotated"): 200,
    ("GET", "/images/{id}/compare"): 200,
    ("GET", "/classifier/?image={id}"): 200,
    ("GET", "/images/delete/{id}"): 200,
    ("GET", "/images/{original}"): 200,
    ("GET", "/images/{display}"): 200,
    ("GET", "/images/{thumbnail}"): 200,
    ("POST", "/images/{id}/result"): 303,
    ("POST", "/detect/{id}"): 303,
    ("POST", "/images/{id}/tags"): 303,
    ("POST", "/images/{id}/tags/{tag}/delete"): 303,
    ("POST", "/images/delete/{id}"): 303,
}
# see test_crud.py, tests/api, test_video.py, test_imports.py
ELSEWHERE = (
    *("/crud/", "/api/", "/v1/", "/video/", "/imports/"),
    *("/account/webhooks/", "/labelstudio/", "/connect/labelstudio/", "/connect/test/"),
)
# Rules with an argument that belong to nobody, or are tested elsewhere: test_classifier.py.
OPEN = {
    "/account/tokens/<int:token_id>/revoke",
    "/models/<name>",
    "/classifier/<name>",
    "/classifier/<name>/answer",
    "/classifier/<name>/predict",
    "/classifier/<name>/layers",
    "/images/filters/<id>",  # test_selection_actions.py
    "/images/filters/<id>/delete",
    "/exports/<int:export_id>/file",  # test_exports.py
    "/exports/<int:export_id>/cancel",
    "/exports/<int:export_id>/delete",
    "/assets/<tree>/<path:filename>",
    "/auth/reset/<token>",
    "/auth/confirm/<token>",
    "/auth/change-email/<token>",
}
PROGRAMS = {"/images/{id}/state.json"}  # saving is in test_annotations.py


FIELDS = {"tags": {"name": "tag"}, "result": {"model": "fake.test"}}


@pytest.fixture
def names(app, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        [tag_id] = db.session.scalars(select(ImageTag.tag_id)).all()
        return {
            "id": image_id,
            "tag": tag_id,
            "original": image.original_name,
            "display": image.display_name,
            "thumbnail": image.thumbnail_name,
        }


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_a_picture_exists_for_its_owner_alone(app, ann, bob, admin, names, method, path):
    address = path.format(**names)
    data = FIELDS.get(path.rpartition("/")[2])

    def status(client):
        return client.open(address, method=method, data=data).status_code

    assert status(app.test_client()) == (401 if path in PROGRAMS else 302)  # to the login page
    assert status(bob) == 404
    assert status(admin) == 404  # administrators use their own pages
    with app.app_context():  # nothing of it had an effect
        assert db.session.scalars(select(Image.id)).all() == [names["id"]]
    assert status(ann) == OWNED[method, path]


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_what_does_not_exist_looks_the_same_as_what_is_not_ones_own(bob, method, path):
    missing = {
        "id": 4711,
        "tag": 4711,
        "original": "0.jpg",
        "display": "0-d.jpg",
        "thumbnail": "x.y",
    }
    assert bob.open(path.format(**missing), method=method).status_code == 404


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_the_wrong_method_is_refused(ann, names, method, path):
    wrong = "DELETE"
    assert ann.open(path.format(**names), method=wrong).status_code == 405


@pytest.mark.parametrize(("method", "path"), [key for key in OWNED if key[0] == "POST"])
def test_a_change_without_a_csrf_token_is_refused(app, ann, names, method, path):
    app.config["WTF_CSRF_ENABLED"] = True
    answer = ann.open(path.format(**names), method=method, data={"name": "tag"})
    assert answer.status_code == 400
    assert "Load the page again" in answer.text


def test_every_address_with_an_argument_is_in_one_of_these_tests(app):
    def shape(rule: str) -> str:
        return re.sub(r"<[^>]+>|\{[^}]+\}", "<>", rule)

    known = {shape(path) for _, path in OWNED} | {shape(rule) for rule in OPEN}
    rules = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.arguments and "static" not in rule.endpoint and not rule.rule.startswith(ELSEWHERE)
    }
    assert {rule for rule in rules if shape(rule) not in known} == set()
