"""What the self-test of the page that connects programs borrows, and what it may do with it."""

import io
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from apps.container import services
from apps.extensions import db
from apps.models import Token, User, utcnow
from apps.services.tokens import MOST, TEST_FOR, TEST_MOST
from tests.conftest import picture_bytes

BEGIN = "/connect/test/begin"
WHY = "/connect/test/why"
CAP = "/connect/test/cap"
JSON = {"Accept": "application/json"}


def begun(client) -> dict[str, Any]:
    answer = client.post(BEGIN, headers=JSON)
    assert answer.status_code == 201, answer.text
    return answer.json


def asked(app, path: str, token: object):
    data = {"image": (io.BytesIO(picture_bytes()), "test.jpg")}
    headers = {"Authorization": f"Bearer {token}"}
    return app.test_client().post(path, data=data, headers=headers)


def number_of_tokens(app) -> int | None:
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(Token))


def test_a_borrowed_token_detects_and_may_do_nothing_else(app, ann):
    token = begun(ann)["token"]
    for path in ("/v1/vision/detection", "/api/v1/detect"):
        assert asked(app, path, token).status_code == 200, path
    assert asked(app, "/api/v1/images", token).status_code == 403
    headers = {"Authorization": f"Bearer {token}"}
    assert app.test_client().get("/api/v1/images", headers=headers).status_code == 403
    page = ann.get("/connect").text
    assert "/api/v1/detect" in page
    assert "the test of this page" in page
    assert str(token) not in page


def test_a_borrowed_token_ends_with_the_test_and_leaves_nothing(app, ann):
    made = begun(ann)
    assert ann.post(f"/connect/test/{made['id']}/end").status_code == 204
    assert asked(app, "/v1/vision/detection", made["token"]).status_code == 401
    assert number_of_tokens(app) == 0
    assert ann.post(f"/connect/test/{made['id']}/end").status_code == 204  # again is no error


def test_a_borrowed_token_that_nobody_ends_expires_by_itself_and_is_forgotten(app, ann, bob):
    made = begun(ann)
    assert timedelta(seconds=made["seconds"]) == TEST_FOR <= timedelta(minutes=5)
    with app.app_context():
        expires = db.session.scalar(select(Token.expires_at))
        assert timedelta() < expires - utcnow() <= TEST_FOR
        db.session.execute(update(Token).values(expires_at=utcnow()))
        db.session.commit()
    assert asked(app, "/v1/vision/detection", made["token"]).status_code == 401
    begun(bob)
    assert number_of_tokens(app) == 1


def test_a_borrowed_token_is_in_no_list_and_takes_no_place_of_others(app, ann, make_user):
    made = begun(ann)
    visible = str(made["token"])[:12]
    assert visible not in ann.get("/account/tokens").text
    assert "You have no token yet." in ann.get("/connect").text
    ann_id = make_user("ann")
    with app.app_context():
        tokens = services(app).tokens
        for _ in range(MOST):
            tokens.create(ann_id, "a camera", ["detect"])
        assert len(tokens.of_owner(ann_id)) == MOST
    assert f"You have {MOST} tokens that work." in ann.get("/connect").text
    assert begun(ann)["token"]  # an account with all its tokens can test too


def test_an_account_borrows_a_few_tokens_at_once(app, ann, bob):
    other = begun(bob)
    first, *rest = [begun(ann) for _ in range(TEST_MOST + 1)]
    assert asked(app, "/v1/vision/detection", first["token"]).status_code == 401
    for made in (*rest, other):
        assert asked(app, "/v1/vision/detection", made["token"]).status_code == 200


def test_nobody_ends_the_token_of_somebody_else_or_one_that_is_no_test(app, ann, bob, token_of):
    made, key = begun(ann), token_of("ann")
    assert bob.post(f"/connect/test/{made['id']}/end").status_code == 204
    with app.app_context():
        [mine] = db.session.scalars(select(Token.id).where(Token.id != made["id"]))
    assert ann.post(f"/connect/test/{mine}/end").status_code == 204
    for token in (made["token"], key):
        assert asked(app, "/v1/vision/detection", token).status_code == 200


@pytest.mark.parametrize("path", [BEGIN, WHY, CAP, "/connect/test/1/end"])
def test_the_test_is_for_pages_of_people_who_are_logged_in(app, ann, bearer, path):
    program = app.test_client()
    assert program.post(path).status_code == 401
    assert program.post(path, headers=bearer("ann")).status_code == 401  # a page's, not a program's
    assert ann.get(path).status_code in (404, 405)
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post(path).status_code == 400


def test_why_a_token_is_refused_is_told_in_words(app, ann, token_of, make_user):
    def why(token: str) -> str:
        return ann.post(WHY, data={"token": token}).json["reason"]

    key = token_of("ann")
    assert why(key) == ""
    assert "may not detect" in why(token_of("ann", "read"))
    assert "not known here" in why("nobody's")
    ann_id = make_user("ann")
    with app.app_context():
        tokens = services(app).tokens
        for token in tokens.of_owner(ann_id):
            tokens.revoke(ann_id, token.id)
    assert "was revoked" in why(key)


def test_the_cap_of_a_token_is_told_to_who_shows_it(ann, token_of):
    def cap(token: str):
        return ann.post(CAP, data={"token": token}, headers=JSON)

    assert cap(token_of("ann")).json == {"max_boxes": None}
    assert cap(token_of("ann", max_boxes=20)).json == {"max_boxes": 20}
    assert cap(token_of("ann")[:11]).status_code == 401


def test_a_borrowed_token_is_in_no_log(app, ann, caplog):
    with caplog.at_level(0):
        token = str(begun(ann)["token"])
        asked(app, "/v1/vision/detection", token)
    assert token not in caplog.text
    assert token[12:] not in caplog.text


def test_tests_are_counted_together_in_the_log_and_push_no_camera_out(app, ann, token_of):
    camera = token_of("ann")
    assert asked(app, "/v1/vision/detection", camera).status_code == 200
    for _ in range(3):
        made = begun(ann)
        assert asked(app, "/api/v1/detect", made["token"]).status_code == 200
        ann.post(f"/connect/test/{made['id']}/end")
    with app.app_context():
        rows = services(app).client_calls.latest(db.session.scalars(select(User.id)).one())
        assert [(row.token, row.calls) for row in rows] == [("sbt_", 3), (camera[:11], 1)]
    page = ann.get("/connect").text
    assert "the test of this page" in page
    assert camera[:11] in page
