import re
import sqlite3
from urllib.parse import urljoin

import flask_security
import pytest
from sqlalchemy import select

from apps.container import services
from apps.errors import Conflict
from apps.extensions import db
from apps.models import Detection, Image, ImageTag, Role, User
from tests.conftest import PASSWORD, stored_files

ANN = {"username": "ann", "email": "Ann@Example.com", "password": PASSWORD}


def sign_up(client, **values):
    return client.post("/auth/signup", data=ANN | values)


def user(app, name="ann"):
    with app.app_context():
        return db.session.scalar(select(User).where(User.username == name))


def is_logged_in(client) -> bool:
    return client.get("/auth/account").status_code == 200


# -- sign-up -------------------------------------------------------------------------------


def test_sign_up_logs_in_at_once(app):
    client = app.test_client()
    answer = sign_up(client)
    assert (answer.status_code, answer.location) == (302, "/")
    assert is_logged_in(client)
    assert user(app).email == "ann@example.com"
    assert PASSWORD not in user(app).password


def test_sign_up_goes_where_one_wanted_to_go(app):
    client = app.test_client()
    assert client.post("/auth/signup?next=/upload", data=ANN).location == "/upload"


def test_the_first_account_is_administrator_and_the_second_is_not(app):
    sign_up(app.test_client())
    sign_up(app.test_client(), username="bob", email="bob@example.com")
    assert user(app).role is Role.ADMIN
    assert user(app, "bob").role is Role.USER


def test_only_one_of_two_first_accounts_becomes_administrator(app, make_user):
    make_user("one")
    make_user("two")
    with app.app_context():
        services().accounts.promote_first()
        services().accounts.promote_first()
        admins = db.session.scalars(select(User.username).where(User.role == Role.ADMIN)).all()
    assert admins == ["one"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"username": ""}, "required"),
        ({"username": "a"}, "2 to 32 characters"),
        ({"username": "a" * 33}, "2 to 32 characters"),
        ({"username": "<b>bold</b>"}, "letters and digits"),
        ({"username": "a@b"}, "letters and digits"),
        ({"email": "nonsense"}, "not an email address"),
        ({"email": ""}, "required"),
        ({"password": ""}, "required"),
        ({"password": "seven77"}, "at least 8 characters"),
        ({"password": "PassWord"}, "most common"),
        ({"password": "1234567890"}, "most common"),
        ({"password": "x" * 2000}, "at most 1024"),
    ],
)
def test_a_bad_sign_up_says_why_and_keeps_what_was_typed(app, values, text):
    answer = sign_up(app.test_client(), **values)
    assert answer.status_code == 422
    assert text in answer.text
    typed = (ANN | values)["email"]
    assert not typed or f'value="{typed}"'.lower() in answer.text.lower()
    assert user(app) is None


@pytest.mark.parametrize(
    "password", ["lowercase only words", "가나다라마바사아", "aaaaaaab!", "        1"]
)
def test_nothing_but_length_and_commonness_is_demanded_of_a_password(app, password):
    client = app.test_client()
    assert sign_up(client, password=password).status_code == 302
    other = app.test_client()
    other.post("/auth/login", data={"email": "ann", "password": password})
    assert is_logged_in(other)


@pytest.mark.parametrize("name", ["민수", "Ann Lee", "o-neil_2", "Ünal.Ö"])
def test_names_of_many_languages_are_welcome_whatever_their_case(app, name):
    assert sign_up(app.test_client(), username=name).status_code == 302
    assert user(app, name) is not None
    other = {"username": name.lower(), "email": "other@example.com"}
    assert sign_up(app.test_client(), **other).status_code == 422
    client = app.test_client()
    client.post("/auth/login", data={"email": name.lower(), "password": PASSWORD})
    assert is_logged_in(client)


@pytest.mark.parametrize(
    "values",
    [
        {"username": "ANN", "email": "new@example.com"},
        {"username": "new", "email": "ANN@example.com"},
    ],
)
def test_a_taken_name_or_email_is_refused(app, values):
    sign_up(app.test_client())
    answer = sign_up(app.test_client(), **values)
    assert answer.status_code == 422
    assert "taken" in answer.text or "belongs to an account" in answer.text


def test_a_name_taken_at_the_same_moment_is_a_clear_error(app, monkeypatch):
    sign_up(app.test_client())
    monkeypatch.setattr(type(services(app).accounts), "require_free", lambda *a, **k: None)
    monkeypatch.setattr("flask_security.forms.unique_user_email", lambda *a: None)
    answer = sign_up(app.test_client())
    assert answer.status_code == 409
    assert "Somebody else" in answer.text


def test_sign_up_can_be_closed(make_app):
    client = make_app(SIGNUP_OPEN=False).test_client()
    for answer in (client.get("/auth/signup"), sign_up(client)):
        assert answer.status_code == 403
        assert "Sign-up is closed here" in answer.text
    assert "/auth/signup" not in client.get("/").text


# -- login and logout ----------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["ann", "ANN", "ann@example.com", " Ann@Example.COM "])
def test_login_takes_the_email_or_the_name(app, make_user, identity):
    make_user("ann")
    client = app.test_client()
    answer = client.post("/auth/login", data={"email": identity, "password": PASSWORD})
    assert answer.status_code == 302
    assert is_logged_in(client)


def test_a_wrong_password_and_an_unknown_account_look_the_same(app, make_user):
    make_user("ann")
    pages = []
    for email in ("ann@example.com", "eve@example.com"):
        answer = app.test_client().post("/auth/login", data={"email": email, "password": "wrong"})
        assert answer.status_code == 422
        assert "The email or the password is wrong." in answer.text
        assert "wrong&#34;" not in answer.text
        text = re.sub(r'content="[^"]+"|value="[^"]*"', "", answer.text)
        pages.append(text)
    assert pages[0].count("is wrong") == pages[1].count("is wrong")


def test_an_unknown_account_costs_a_hash_too(app, monkeypatch):
    hashed = []
    monkeypatch.setattr("flask_security.forms.hash_password", lambda text: hashed.append(text))
    app.test_client().post("/auth/login", data={"email": "eve", "password": "guess"})
    assert hashed == ["guess"]


def test_remember_sets_a_lasting_cookie(app, make_user):
    make_user("ann")
    client = app.test_client()
    data = {"email": "ann", "password": PASSWORD, "remember": "y"}
    cookies = client.post("/auth/login", data=data).headers.getlist("Set-Cookie")
    [remember] = [cookie for cookie in cookies if cookie.startswith("sightbox_remember")]
    assert "Expires" in remember
    assert "HttpOnly" in remember
    assert "SameSite=Lax" in remember


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_login_never_redirects_to_another_site(app, make_user, target):
    make_user("ann")
    data = {"email": "ann", "password": PASSWORD, "next": target}
    answer = app.test_client().post("/auth/login", data=data)
    assert answer.status_code in (302, 422)
    assert urljoin("http://localhost", answer.headers.get("Location", "/")).startswith(
        "http://localhost/"
    )
    assert "\\" not in answer.headers.get("Location", "/")


def test_login_returns_to_the_page_that_asked_for_it(app, make_user):
    make_user("ann")
    client = app.test_client()
    wanted = client.get("/images/search?search=dog")
    assert wanted.status_code == 302
    assert wanted.location.startswith("/auth/login?next=")
    answer = client.post(wanted.location, data={"email": "ann", "password": PASSWORD})
    assert answer.location == "/images/search?search=dog"


def test_a_disabled_account_cannot_log_in_and_its_session_ends(app, client_of, make_user):
    make_user("ann")
    client = client_of("ann")
    assert is_logged_in(client)
    with app.app_context():
        db.session.scalar(select(User).where(User.username == "ann")).active = False
        db.session.commit()
    assert not is_logged_in(client)
    answer = app.test_client().post("/auth/login", data={"email": "ann", "password": PASSWORD})
    assert answer.status_code == 422
    assert "disabled" in answer.text


def test_logout_is_a_post(ann):
    assert ann.get("/auth/logout").status_code == 405
    assert ann.post("/auth/logout").status_code == 302
    assert not is_logged_in(ann)


def test_logout_from_another_site_is_refused(make_app):
    app = make_app(WTF_CSRF_ENABLED=True)
    client = app.test_client()
    token = re.search(r'csrf-token" content="([^"]+)"', client.get("/auth/signup").text)[1]
    client.post("/auth/signup", data=ANN | {"csrf_token": token})
    assert is_logged_in(client)
    assert client.post("/auth/logout").status_code == 400
    assert is_logged_in(client)


def test_forms_without_a_token_are_refused_with_the_next_step(make_app):
    client = make_app(WTF_CSRF_ENABLED=True).test_client()
    answer = client.post("/auth/preferences", data={"theme": "dark"})
    assert answer.status_code == 400
    assert "Load the page again" in answer.text


@pytest.mark.parametrize("path", ["/auth/login", "/auth/signup"])
def test_trying_often_is_slowed_down(make_app, path):
    app = make_app(RATELIMIT_ENABLED=True, LOGIN_RATE="3 per minute", SIGNUP_RATE="3 per minute")
    client = app.test_client()
    data = {"email": "x@example.com", "password": "wrong"}
    codes = [client.post(path, data=data).status_code for _ in range(4)]
    assert codes == [422, 422, 422, 429]
    answer = client.post(path, data=data)
    assert "Wait a minute" in answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get(path).status_code == 200  # looking at the form is free


def test_no_token_logs_in_beside_the_session(app, make_user):
    """Flask-Security can give out lasting tokens; ours are sessions alone."""
    make_user("ann")
    with app.app_context():
        token = db.session.scalars(select(User)).one().get_auth_token()
    client = app.test_client()
    assert client.get(f"/auth/account?auth_token={token}").status_code == 302
    headers = {"Authentication-Token": str(token)}
    assert client.get("/auth/account", headers=headers).status_code == 302


def test_a_disabled_accounts_old_session_stays_ended_when_it_is_enabled(app, ann, make_user):
    make_user("root", role=Role.ADMIN)
    user_id = make_user("ann")
    with app.app_context():
        services(app).accounts.update(user_id, active=False)
        services(app).accounts.update(user_id, active=True)
    assert not is_logged_in(ann)


@pytest.mark.parametrize("path", ["/auth/login", "/auth/password", "/auth/delete", "/auth/account"])
def test_a_password_of_megabytes_is_refused_and_no_crash(ann, app, path):
    long = "x" * 5000
    data = {"email": "ann@example.com", "username": "ann", "threshold": "0.5", "password": long,
            "new_password": long, "new_password_confirm": long}  # fmt: skip
    client = app.test_client() if path == "/auth/login" else ann
    data |= {"email": "new@example.com"} if path == "/auth/account" else {}
    make = client.post(path, data=data)
    assert make.status_code == 422


def test_a_form_sent_by_a_visitor_is_not_the_page_to_return_to(app):
    assert app.test_client().post("/detect/1").location == "/auth/login"


def test_the_write_lock_is_free_while_a_password_is_hashed_or_a_mail_is_sent(mailing, monkeypatch):
    """Another connection writes in the middle of each."""
    from flask_security.mail_util import MailUtil

    def write(*_arguments, **_options) -> None:
        with sqlite3.connect(f"{mailing.instance_path}/testing.sqlite", timeout=0.1) as other:
            other.execute("INSERT INTO settings (name, value) VALUES (hex(randomblob(8)), 'x')")
        written.append(1)

    written: list[int] = []
    real = flask_security.utils.hash_password

    def hashing(text):
        write()
        return real(text)

    for module in ("forms", "registerable", "changeable"):
        monkeypatch.setattr(f"flask_security.{module}.hash_password", hashing)
    monkeypatch.setattr(MailUtil, "send_mail", write)
    client = mailing.test_client()
    assert sign_up(client, username="bob", email="bob@example.com").status_code == 302
    assert len(written) == 2  # the hash and the welcome mail
    mailing.test_client().post("/auth/login", data={"email": "eve", "password": "guess"})
    assert len(written) == 3
    mailing.test_client().post("/auth/reset", data={"email": "ann@example.com"})
    assert len(written) == 4
    data = {
        "password": PASSWORD,
        "new_password": "new words 1",
        "new_password_confirm": "new words 1",
    }
    assert client.post("/auth/password", data=data).status_code == 302
    assert len(written) == 6


# -- account page --------------------------------------------------------------------------


def test_changing_the_password_ends_every_other_session(app, make_user):
    make_user("ann")
    here, elsewhere = app.test_client(), app.test_client()
    for client in (here, elsewhere):
        client.post("/auth/login", data={"email": "ann", "password": PASSWORD})
    data = {
        "password": PASSWORD,
        "new_password": "new words 1",
        "new_password_confirm": "new words 1",
    }
    assert here.post("/auth/password", data=data).status_code == 302
    assert is_logged_in(here)
    assert not is_logged_in(elsewhere)


@pytest.mark.parametrize(
    ("old", "new", "again", "text"),
    [
        ("wrong", "new words 1", "new words 1", "wrong"),
        (PASSWORD, "short", "short", "at least 8"),
        (PASSWORD, "password", "password", "most common"),
        (PASSWORD, "new words 1", "new words 2", "do not match"),
    ],
)
def test_a_bad_password_change_says_why(client_of, make_user, old, new, again, text):
    make_user("ann")
    data = {"password": old, "new_password": new, "new_password_confirm": again}
    answer = client_of("ann").post("/auth/password", data=data)
    assert answer.status_code == 422
    assert text in answer.text


def test_name_and_threshold_change_without_the_password(app, ann):
    answer = ann.post(
        "/auth/account",
        data={"username": "anna", "email": "ann@example.com", "threshold": "0.8"},
    )
    assert answer.status_code == 303
    assert user(app, "anna").threshold == 0.8


def test_the_email_changes_with_the_password_alone(app, make_user, client_of):
    make_user("ann")
    client = client_of("ann")
    data = {"username": "ann", "email": "new@example.com", "threshold": "0.5"}
    refused = client.post("/auth/account", data=data)
    assert refused.status_code == 422
    assert "present password" in refused.text
    assert client.post("/auth/account", data=data | {"password": PASSWORD}).status_code == 303
    assert user(app).email == "new@example.com"


@pytest.mark.parametrize(
    "values",
    [{"username": "bob"}, {"email": "bob@example.com"}, {"threshold": "7"}, {"threshold": "x"}],
)
def test_a_bad_profile_is_refused(app, ann, make_user, values):
    make_user("bob")
    data = {"username": "ann", "email": "ann@example.com", "threshold": "0.5", "password": "x"}
    assert ann.post("/auth/account", data=data | values).status_code == 422
    assert user(app) is not None


def test_a_new_threshold_changes_the_tags_at_once(ann, upload):
    page = f"/images/{upload(ann)}"
    assert "search=cat" not in ann.get(page).text  # the fake cat's score is 0.3
    data = {"username": "ann", "email": "ann@example.com", "threshold": "0.25"}
    ann.post("/auth/account", data=data)
    assert "search=cat" in ann.get(page).text
    ann.post("/auth/account", data=data | {"threshold": "0.95"})
    text = ann.get(page).text
    assert "search=cat" not in text
    assert "search=dog" not in text


def test_deleting_the_account_says_what_goes_and_takes_everything(
    app, make_user, client_of, upload
):
    make_user("root", role=Role.ADMIN)
    make_user("ann")
    client, bob = client_of("ann"), client_of("bob")
    for _ in range(2):
        upload(client)
    kept = upload(bob)
    page = client.get("/auth/delete").text
    assert "2 pictures" in page
    assert "4 boxes" in page
    assert client.post("/auth/delete", data={"password": "wrong"}).status_code == 422
    assert len(stored_files(app)) == 9
    assert client.post("/auth/delete", data={"password": PASSWORD}).status_code == 303
    assert not is_logged_in(client)
    with app.app_context():
        assert db.session.scalars(select(Image.id)).all() == [kept]
        assert len(db.session.scalars(select(Detection)).all()) == 2
        assert len(db.session.scalars(select(ImageTag)).all()) == 1
    assert len(stored_files(app)) == 3


def test_the_last_administrator_cannot_leave(app, make_user, client_of):
    make_user("root", role=Role.ADMIN)
    client = client_of("root")
    answer = client.post("/auth/delete", data={"password": PASSWORD})
    assert answer.status_code == 409
    assert "last administrator" in answer.text
    assert is_logged_in(client)


def test_two_administrators_cannot_both_be_removed_at_once(app, make_user):
    ids = [make_user(name, role=Role.ADMIN) for name in ("one", "two")]
    with app.app_context(), pytest.raises(Conflict):
        services().accounts.delete(ids)


# -- mail ----------------------------------------------------------------------------------


def test_without_mail_the_page_says_who_to_ask(make_app):
    client = make_app(ADMIN_CONTACT="Kim, room 12").test_client()
    for path in ("/auth/reset", "/auth/help"):
        text = client.get(path).text
        assert "Kim, room 12" in text
        assert "flask users reset-password" in text
    assert "/auth/help" in client.get("/auth/login").text


@pytest.fixture
def mailing(make_app):
    """An application with a mail server; what it sends lands in ``outbox``."""
    import flask_mailman

    app = make_app(MAIL_SERVER="localhost", MAIL_BACKEND="locmem")
    with app.app_context():
        db.session.add(User(username="ann", email="ann@example.com", password="x"))
        db.session.commit()
    app.extensions["mailman"].outbox = []
    assert flask_mailman
    return app


def link_in(message, word) -> str:
    return re.search(rf"http://localhost(/auth/{word}/\S+)", message.body)[1]


def test_a_reset_link_sets_a_new_password(mailing):
    client, outbox = mailing.test_client(), mailing.extensions["mailman"].outbox
    assert "/auth/reset" in client.get("/auth/login").text
    client.post("/auth/reset", data={"email": "ann@example.com"})
    [message] = outbox
    assert message.to == ["ann@example.com"]
    link = link_in(message, "reset")
    assert client.get(link).status_code == 200
    bad = client.post(link, data={"password": "password", "password_confirm": "password"})
    assert bad.status_code == 422
    good = client.post(link, data={"password": "new words 1", "password_confirm": "new words 1"})
    assert good.status_code == 302
    client.post("/auth/login", data={"email": "ann", "password": "new words 1"})
    assert is_logged_in(client)
    assert "/auth/reset" in mailing.test_client().get(link).location  # a link works once


def test_asking_for_a_reset_does_not_tell_who_has_an_account(mailing):
    client, outbox = mailing.test_client(), mailing.extensions["mailman"].outbox
    known = client.post("/auth/reset", data={"email": "ann@example.com"})
    unknown = client.post("/auth/reset", data={"email": "eve@example.com"})
    assert known.status_code == unknown.status_code
    assert "eve@example.com" in unknown.text
    assert len(outbox) == 1


def test_mails_speak_korean_too(mailing):
    client, outbox = mailing.test_client(), mailing.extensions["mailman"].outbox
    client.post("/auth/preferences", data={"language": "ko"})
    client.post("/auth/reset", data={"email": "ann@example.com"})
    [message] = outbox
    assert "비밀번호" in message.subject
    assert "1일" in message.body
    assert not re.search(r"\bday|\bUse\b|expire", message.body)


def test_sign_up_sends_a_confirmation_link_that_works(mailing):
    client, outbox = mailing.test_client(), mailing.extensions["mailman"].outbox
    sign_up(client, username="bob", email="bob@example.com")
    assert is_logged_in(client)
    assert "Not confirmed yet" in client.get("/auth/account").text
    client.get(link_in(outbox[-1], "confirm"))
    assert user(mailing, "bob").confirmed_at is not None
    assert "Not confirmed yet" not in client.get("/auth/account").text


def test_a_new_email_counts_once_its_link_was_opened(mailing):
    client, outbox = mailing.test_client(), mailing.extensions["mailman"].outbox
    sign_up(client, username="bob", email="bob@example.com")
    client.post("/auth/change-email", data={"email": "robert@example.com"})
    assert user(mailing, "bob").email == "bob@example.com"
    client.get(link_in(outbox[-1], "change-email"))
    assert user(mailing, "bob").email == "robert@example.com"


def test_a_dead_mail_server_does_not_stop_a_sign_up(make_app):
    app = make_app(MAIL_SERVER="127.0.0.1", MAIL_PORT=1, MAIL_BACKEND="smtp")
    client = app.test_client()
    assert sign_up(client).status_code == 302
    assert "mail server did not answer" in client.get("/").text
    assert user(app) is not None


def test_login_pages_speak_korean(app):
    client = app.test_client()
    client.post("/auth/preferences", data={"language": "ko"})
    answer = client.post("/auth/login", data={"email": "eve", "password": "wrong"})
    assert "비밀번호" in answer.text
    assert "is wrong" not in answer.text
    refused = client.get("/upload", follow_redirects=True)
    assert "You must sign in" not in refused.text
