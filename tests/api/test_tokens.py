"""Personal tokens: the page, and what they let programs do."""

import io
import re
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from apps.container import services
from apps.extensions import db
from apps.models import Token, User, utcnow
from apps.services.tokens import MOST
from tests.conftest import PASSWORD, picture_bytes

ME = "/api/v1/me"
FORM = {"name": "Front door", "scopes": ["detect", "read"], "days": "30"}


def made(client, **changes: object) -> str:
    answer = client.post("/account/tokens", data=FORM | changes)
    assert answer.status_code == 201, answer.text
    return re.search(r'id="new-token">([^<]+)<', answer.text)[1]


def test_a_token_is_shown_once_and_lets_a_program_in(app, ann):
    token = made(ann)
    assert token not in ann.get("/account/tokens").text
    program = app.test_client()
    answer = program.get(ME, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.json["username"] == "ann"
    assert answer.json["scopes"] == ["read", "detect"]
    with app.app_context():
        assert db.session.scalar(select(Token.digest)) not in token
        assert token.startswith(str(db.session.scalar(select(Token.prefix))))


def test_the_page_says_when_a_token_was_used_and_that_it_was_revoked(app, ann):
    token = made(ann)
    assert "never used" in ann.get("/account/tokens").text
    headers = {"Authorization": f"Bearer {token}"}
    app.test_client().get(ME, headers=headers)
    page = ann.get("/account/tokens").text
    assert "last used" in page
    revoke = re.search(r'action="(/account/tokens/\d+/revoke)"', page)[1]
    assert ann.post(revoke).status_code == 303
    assert "works no longer" in ann.get("/account/tokens").text
    answer = app.test_client().get(ME, headers=headers)
    assert answer.status_code == 401
    assert "revoked" in answer.json["detail"]


def test_somebody_elses_token_cannot_be_revoked(app, ann, bob, bearer):
    headers = bearer("ann")
    with app.app_context():
        token_id = db.session.scalar(select(Token.id))
    assert bob.post(f"/account/tokens/{token_id}/revoke").status_code == 404
    assert app.test_client().post(f"/account/tokens/{token_id}/revoke").status_code == 302
    assert app.test_client().get(ME, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "\u202e"}, "name that tells"),
        ({"name": "x" * 61}, "60 characters"),
        ({"scopes": []}, "at least one thing"),
        ({"scopes": ["admin"]}, "not a valid choice"),
        ({"days": "7"}, "Not a valid choice"),
        ({"max_boxes": "0"}, "between 1 and 1000"),
    ],
)
def test_a_form_that_breaks_a_rule_says_which(ann, changes, says):
    answer = ann.post("/account/tokens", data=FORM | changes)
    assert answer.status_code == 422
    assert says in answer.text


def test_only_administrators_make_tokens_that_administer(app, admin, make_user, ann):
    assert 'value="admin"' in admin.get("/account/tokens").text
    assert 'value="admin"' not in ann.get("/account/tokens").text
    token = made(admin, scopes=["admin"])
    headers = {"Authorization": f"Bearer {token}"}
    program = app.test_client()
    assert program.get("/api/v1/users", headers=headers).status_code == 200
    with app.app_context():
        db.session.execute(update(User).where(User.username == "root").values(role="user"))
        db.session.commit()
    assert program.get("/api/v1/users", headers=headers).status_code == 403


def test_an_account_has_a_limited_number_of_tokens(app, ann, make_user):
    user_id = make_user("ann")
    with app.app_context():
        for number in range(MOST):
            services(app).tokens.create(user_id, str(number), ["read"])
    answer = ann.post("/account/tokens", data=FORM)
    assert answer.status_code == 422
    assert "Revoke one" in answer.text
    with app.app_context():
        db.session.execute(update(Token).values(expires_at=utcnow()))
        db.session.commit()
    made(ann)  # those that have expired take no room


def test_tokens_end_with_their_time_their_account_and_what_is_old_is_forgotten(
    app, ann, make_user, bearer
):
    headers, program = bearer("ann", days=1), app.test_client()
    long_ago = utcnow() - timedelta(days=40)
    with app.app_context():
        db.session.execute(update(Token).values(expires_at=long_ago))
        db.session.commit()
    answer = program.get(ME, headers=headers)
    assert answer.status_code == 401
    assert "expired" in answer.json["detail"]
    headers = bearer("ann")
    with app.app_context():
        assert db.session.scalar(select(func.count(Token.id))) == 1
        db.session.execute(update(User).values(active=False))
        db.session.commit()
    answer = program.get(ME, headers=headers)
    assert answer.status_code == 401
    assert "disabled" in answer.json["detail"]


def test_a_cookie_lets_no_one_in(ann, upload):
    upload(ann)
    for path in (ME, "/api/v1/images"):
        answer = ann.get(path)
        assert answer.status_code == 401
        assert answer.mimetype == "application/problem+json"
        assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_no_csrf_token_is_asked_of_programs_but_of_the_page(app, ann, bearer):
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post("/account/tokens", data=FORM).status_code == 400
    data = {"image": (open_picture(), "x.jpg")}
    answer = app.test_client().post("/api/v1/detect", headers=bearer(), data=data)
    assert answer.status_code == 200


def open_picture() -> io.BytesIO:
    return io.BytesIO(picture_bytes())


def test_a_token_without_the_scope_may_not(app, bearer):
    headers = bearer("ann", "detect")
    answer = app.test_client().get("/api/v1/images", headers=headers)
    assert answer.status_code == 403
    assert "read" in answer.json["detail"]


@pytest.mark.parametrize("header", ["Bearer", "Bearer \u00e9", "Basic YTpi", "Bearer sb_x_y"])
def test_a_header_that_is_no_token_is_refused(app, header):
    answer = app.test_client().get(ME, headers={"Authorization": header})
    assert answer.status_code == 401


def test_each_token_may_ask_only_so_often(make_app):
    app = make_app(RATELIMIT_ENABLED=True, API_RATE="2 per hour", API_REFUSED_RATE="2 per hour")
    with app.app_context():
        user = User(username="ann", email="a@example.com", password="-")
        db.session.add(user)
        db.session.commit()
        first, second = (
            {"Authorization": f"Bearer {services(app).tokens.create(user.id, 'x', ['read'])[1]}"}
            for _ in range(2)
        )
    program = app.test_client()
    codes = [program.get(ME, headers=first).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    limited = program.get(ME, headers=first)
    assert int(limited.headers["Retry-After"]) > 0
    assert limited.headers["X-RateLimit-Limit"] == "2"
    assert limited.headers["X-RateLimit-Remaining"] == "0"
    assert limited.json["code"] == "rate_limited"
    assert program.get(ME, headers=second).status_code == 200
    wrong = {"Authorization": "Bearer guess"}
    assert [program.get(ME, headers=wrong).status_code for _ in range(3)] == [401, 401, 429]


def test_a_new_password_leaves_tokens_as_they_are_and_says_so(app, ann):
    token = made(ann)
    assert "Tokens of programs keep working." in ann.get("/auth/password").text
    new = {"new_password": "new words 1", "new_password_confirm": "new words 1"}
    assert ann.post("/auth/password", data={"password": PASSWORD} | new).status_code == 302
    program = app.test_client()
    assert program.get(ME, headers={"Authorization": f"Bearer {token}"}).status_code == 200
