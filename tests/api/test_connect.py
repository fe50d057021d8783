"""The page that connects programs: settings, the test, and the latest calls."""

import io
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select, update

from apps.container import services
from apps.errors import Busy, Unauthorized
from apps.extensions import db
from apps.i18n import COOKIE
from apps.models import FOR_A_TEST, ClientCall, Token, User, utcnow
from apps.services import client_calls
from apps.services.client_calls import KEPT, Call
from tests.conftest import picture_bytes

PAGE = "/connect"


def detect(app, key: str, agent: str = "camera/1.0"):
    data = {"image": (io.BytesIO(picture_bytes()), "image"), "api_key": key}
    headers = {"User-Agent": agent}
    return app.test_client().post("/v1/vision/detection", data=data, headers=headers)


@pytest.fixture
def calls(app):
    def calls() -> list[tuple[object, ...]]:
        with app.app_context():
            rows = db.session.scalars(select(ClientCall).order_by(ClientCall.id)).all()
            return [(row.owner_id, row.status, row.error, row.calls) for row in rows]

    return calls


def test_the_page_is_for_people_who_are_logged_in(app, ann):
    assert app.test_client().get(PAGE).status_code == 302
    page = ann.get(PAGE).text
    for name in ("Home Assistant", "Blue Iris", "Agent DVR", "Node-RED", "curl"):
        assert name in page
    assert "http://localhost/v1/vision/detection" in page
    assert "api_url: http://localhost/v1/vision/custom/fast" in page


def test_the_test_says_whether_the_token_and_the_detector_are_good(app, ann, token_of, monkeypatch):
    page = ann.post("/connect/test", data={"token": token_of("ann")}).text
    assert "The token is good. It belongs to “ann”." in page
    assert "The detector answers" in page
    page = ann.post("/connect/test", data={"token": token_of("ann", "read")}).text
    assert "But it may not detect." in page
    page = ann.post("/connect/test", data={"token": "wrong"}).text
    assert "This token is not known here." in page

    def full(*_args, **_options):
        raise Busy("Many pictures wait.")

    monkeypatch.setattr(services(app).instant.engine, "detect", full)
    assert "Many pictures wait." in ann.post("/connect/test").text
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post("/connect/test").status_code == 400


def test_calls_are_shown_to_whose_token_it_was_with_what_went_wrong(app, ann, bob, token_of):
    key = token_of("ann")
    detect(app, key)
    detect(app, token_of("ann", "read"))
    page = ann.get(PAGE).text
    assert "/v1/vision/detection" in page
    assert "it lacks the scope “detect”" in page
    assert "camera/1.0" in page
    assert key not in page
    assert "camera/1.0" not in bob.get(PAGE).text


def test_a_revoked_token_is_told_apart_from_an_unknown_one(app, ann, admin, token_of, make_user):
    key, user_id = token_of("ann"), make_user("ann")
    with app.app_context():
        [token] = services(app).tokens.of_owner(user_id)
        services(app).tokens.revoke(user_id, token.id)
    detect(app, key, "revoked/1")
    detect(app, "nobody knows it", "unknown/1")
    assert "revoked/1" in ann.get(PAGE).text
    assert "unknown/1" not in ann.get(PAGE).text
    assert "unknown/1" in admin.get(PAGE).text


def test_a_damaged_token_is_in_the_log_of_its_owner_and_no_answer_tells_so(
    app, ann, bob, admin, token_of
):
    key, program = token_of("ann"), app.test_client()

    def answer(token: str) -> tuple[object, ...]:
        got = program.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
        return got.status_code, got.json, sorted(got.headers)

    unknown = answer("sb_AAAAAAAA" + key[11:])
    for damaged in (key[:11], key[:30], key + "x", key[:-1] + "!"):
        assert answer(damaged) == unknown
        detect(app, damaged, "damaged/1")
    detect(app, key[:10], "too short/1")
    page = ann.get(PAGE).text
    assert "The token begins like this one of yours" in page
    assert key[:11] in page
    assert key[:12] not in page
    assert "damaged/1" in page
    assert "too short/1" not in page
    assert "damaged/1" not in bob.get(PAGE).text
    assert "damaged/1" not in admin.get(PAGE).text
    assert "too short/1" in admin.get(PAGE).text
    ann.set_cookie(COOKIE, "ko")
    assert "이 토큰처럼 시작하지만" in ann.get(PAGE).text


def test_a_text_that_begins_like_two_tokens_or_a_test_is_nobodys(app, token_of, make_user):
    token_of("ann"), token_of("bob")
    with app.app_context():
        tokens = services(app).tokens
        text = tokens.create_for_test(make_user("ann"))[1]
        db.session.execute(
            update(Token).where(~FOR_A_TEST).values(prefix="sb_12345678", max_boxes=1)
        )
        db.session.commit()
        for wrong in (text[:12], "sb_12345678", "sb_\0", "\ud800"):
            with pytest.raises(Unauthorized) as refused:
                tokens.check(wrong)
            assert (refused.value.owner_id, refused.value.damaged) == (None, False)


def test_damaged_tokens_push_no_other_call_out_of_a_log(app, token_of, make_user, monkeypatch):
    monkeypatch.setattr(client_calls, "STRANGERS", 10_000)
    monkeypatch.setattr(client_calls, "MOST_DAMAGED", 3)
    monkeypatch.setattr(client_calls, "KEPT", 5)
    key, user_id = token_of("ann"), make_user("ann")
    for number in range(7):
        detect(app, key, f"camera/{number}")
    for number in range(20):
        detect(app, key[:20], f"made up/{number}")
    with app.app_context():
        rows = services(app).client_calls.latest(user_id)
        assert [row.client for row in rows] == [
            *(f"made up/{number}" for number in (19, 18, 17)),
            *(f"camera/{number}" for number in (6, 5, 4, 3, 2)),
        ]


def test_who_knows_the_start_of_a_token_makes_up_no_more_rows_than_strangers(
    app, token_of, calls, monkeypatch
):
    monkeypatch.setattr(client_calls, "STRANGERS", 3)
    key, program = token_of("ann"), app.test_client()
    for number in range(20):
        detect(app, key[:11], f"made up/{number}")
        program.post(f"/v1/vision/custom/{number}", data={"api_key": key[:11]})
    with app.app_context():
        rows = db.session.scalars(select(ClientCall).order_by(ClientCall.id)).all()
        assert {row.path for row in rows} == {
            "/v1/vision/detection", "/v1/vision/custom/<name>", "…",
        }  # fmt: skip
        assert len(rows) == 4


def test_calls_that_are_alike_are_one_line_with_a_number(app, ann, token_of, calls, make_user):
    key = token_of("ann")
    for _ in range(5):
        detect(app, key)
    detect(app, key, "another/1")
    ann.get(PAGE)
    assert calls() == [(make_user("ann"), 200, "", 5), (make_user("ann"), 200, "", 1)]


def test_only_the_latest_lines_of_an_account_are_kept(app, make_user):
    user_id = make_user("ann")
    with app.app_context():
        log = services(app).client_calls
        for n in range(KEPT + 5):
            log.note(Call(user_id, "", "GET", f"/v1/{n}", 404, "x" * 300, "\x00", "127.0.0.1"))
        assert db.session.scalar(select(func.count(ClientCall.id))) <= KEPT + 1
        newest = log.latest(user_id)[0]
        assert newest.path == f"/v1/{KEPT + 4}"
        assert len(newest.error) == 200
        db.session.execute(update(ClientCall).values(last_at=utcnow() - timedelta(days=15)))
        db.session.commit()
        log.note(Call(user_id, "", "GET", "/v1/new", 404, "", "", "127.0.0.1"))
        assert [row.path for row in log.latest(user_id)] == ["/v1/new"]


@pytest.mark.parametrize("path", ["/api/v1/x", "/v1/x", "/infer/x", "/model/x", "/labelstudio/a/x"])
def test_strangers_leave_no_row_where_nothing_is(app, calls, token_of, make_user, path):
    program, headers = app.test_client(), {"Authorization": f"Bearer {token_of()}"}
    for number in range(3):
        assert program.get(f"{path}{number}").status_code == 404
    assert program.patch("/v1/vision/detection").status_code == 405
    assert calls() == []
    assert program.get(path, headers=headers).status_code == 404  # its owner may want to know
    assert [row[:2] for row in calls()] == [(make_user("ann"), 404)]


def test_asking_where_nothing_is_counts_as_refused(make_app):
    app = make_app(RATELIMIT_ENABLED=True, API_REFUSED_RATE="2 per minute")
    program = app.test_client()
    codes = [program.get(f"/v1/{number}").status_code for number in range(3)]
    assert codes == [404, 404, 429]


def test_strangers_cannot_make_up_any_number_of_rows(app, admin, calls, token_of, monkeypatch):
    monkeypatch.setattr(client_calls, "STRANGERS", 3)
    monkeypatch.setattr(client_calls, "REMEMBERED", 6)
    key = token_of("ann")
    for _ in range(5):
        detect(app, key)
    for number in range(20):
        detect(app, "nobody knows it", f"made up/{number}")
        app.test_client().post(f"/v1/vision/custom/{number}")
    page = admin.get(PAGE).text
    assert "made up/0" in page
    assert "made up/19" not in page
    assert sorted(row[3] for row in calls()) == [1, 1, 5, 18, 20]


def test_a_kind_of_call_that_is_forgotten_is_written_first(app, make_user, calls, monkeypatch):
    monkeypatch.setattr(client_calls, "REMEMBERED", 1)
    user_id = make_user("ann")
    with app.app_context():
        log = services(app).client_calls
        for path in ("/v1/a", "/v1/a", "/v1/a", "/v1/b"):
            log.note(Call(user_id, "", "GET", path, 200, "", "", "127.0.0.1"))
    assert [row[3] for row in calls()] == [3, 1]


@pytest.mark.parametrize("others", [[], ["next"]])  # SQLite gives them the number again
def test_calls_of_an_account_that_is_gone_are_in_nobodys_way(app, admin, make_user, calls, others):
    gone = make_user("gone")
    with app.app_context():
        log = services(app).client_calls
        for owner in (gone, make_user("ann")):
            for _ in range(2):  # of which the second one is only counted
                log.note(Call(owner, "", "GET", "/v1/a", 200, "", "", "127.0.0.1"))
        db.session.execute(delete(User).where(User.id == gone))
        db.session.commit()
        for name in others:
            db.session.add(User(id=gone, username=name, email="n@example.org", password="x"))
        db.session.commit()
    assert admin.get(PAGE).status_code == 200
    assert [row[0] for row in calls()] == [make_user("ann")]


def test_a_log_that_cannot_be_written_costs_no_answer(app, token_of, monkeypatch):
    def broken(*_args):
        raise RuntimeError("no")

    key = token_of("ann")
    app.logger.disabled = True
    monkeypatch.setattr("apps.api.access.logger.exception", lambda *_: None)
    monkeypatch.setattr(type(services(app).client_calls), "note", broken)
    assert detect(app, key).status_code == 200
