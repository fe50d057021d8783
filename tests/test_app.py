import io
import os
import re
import stat
import subprocess
import sys
from contextlib import ExitStack

import pytest

from apps.app import create_app
from apps.config import ROOT, config
from apps.errors import ConfigError
from apps.extensions import db
from apps.web import safe_next
from tests.served import stop_queues


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SIGHTBOX_"):
            monkeypatch.delenv(name)


def test_production_says_which_settings_are_missing(tmp_path):
    with pytest.raises(ConfigError) as caught:
        create_app("production", INSTANCE_PATH=str(tmp_path))
    assert "SIGHTBOX_SECRET_KEY" in str(caught.value)
    assert "SIGHTBOX_SQLALCHEMY_DATABASE_URI" in str(caught.value)


def test_production_sends_its_cookies_over_tls_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_SECRET_KEY", "long and random")
    monkeypatch.setenv("SIGHTBOX_SQLALCHEMY_DATABASE_URI", f"sqlite:///{tmp_path}/x.sqlite")
    app = create_app("production", INSTANCE_PATH=str(tmp_path))
    answer = app.test_client().get("/auth/login", base_url="https://boxes.example")
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Strict-Transport-Security" in answer.headers
    stop_queues(app)


def test_an_unknown_configuration_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="local, testing, production"):
        create_app("staging", INSTANCE_PATH=str(tmp_path))


def test_the_local_secret_is_made_once_and_private(tmp_path):
    first = create_app("local", INSTANCE_PATH=str(tmp_path)).config["SECRET_KEY"]
    second = create_app("local", INSTANCE_PATH=str(tmp_path)).config["SECRET_KEY"]
    assert first == second
    assert len(first) == 64
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_settings_come_from_prefixed_variables_and_overrides_win(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_GALLERY_PAGE_SIZE", "7")
    monkeypatch.setenv("SIGHTBOX_RATELIMIT_ENABLED", "false")
    monkeypatch.setenv("SIGHTBOX_INSTANCE_PATH", str(tmp_path / "elsewhere"))
    app = create_app("local")
    assert app.config["GALLERY_PAGE_SIZE"] == 7
    assert app.config["RATELIMIT_ENABLED"] is False
    assert app.instance_path == str(tmp_path / "elsewhere")
    assert create_app("local", GALLERY_PAGE_SIZE=9).config["GALLERY_PAGE_SIZE"] == 9


def test_the_testing_configuration_ignores_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_SQLALCHEMY_DATABASE_URI", "sqlite:////real/data.sqlite")
    app = create_app("testing", INSTANCE_PATH=str(tmp_path))
    assert "real" not in app.config["SQLALCHEMY_DATABASE_URI"]


def test_as_many_connections_are_kept_as_threads_may_have_whatever_else_is_asked_for(make_app):
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 7}})
    with app.app_context(), ExitStack() as stack:
        held = [stack.enter_context(db.engine.connect()) for _ in range(40)]
        kept = {id(one.connection.dbapi_connection) for one in held}
        stack.close()
        with ExitStack() as again:
            held = [again.enter_context(db.engine.connect()) for _ in range(40)]
            assert {id(one.connection.dbapi_connection) for one in held} == kept


@pytest.mark.parametrize("uri", ["sqlite//typo", "oracle or so"])
def test_an_address_of_a_database_that_is_none_stops_the_start(tmp_path, uri):
    with pytest.raises(ConfigError, match="SIGHTBOX_SQLALCHEMY_DATABASE_URI"):
        create_app("local", INSTANCE_PATH=str(tmp_path), SQLALCHEMY_DATABASE_URI=uri)


@pytest.mark.parametrize("key", ["STORAGE", "ENGINE", "QUEUE"])
def test_an_unknown_adapter_stops_the_start(tmp_path, key):
    with pytest.raises(ConfigError, match=f"SIGHTBOX_{key}"):
        create_app("local", INSTANCE_PATH=str(tmp_path), **{key: "nonsense"})


def test_the_fake_engine_cannot_be_chosen_outside_the_tests(tmp_path):
    with pytest.raises(ConfigError, match="SIGHTBOX_ENGINE"):
        create_app("local", INSTANCE_PATH=str(tmp_path), ENGINE="fake")


def test_the_committed_env_file_makes_plain_flask_work():
    assert 'FLASK_APP=apps.app:create_app("local")' in (ROOT / ".env").read_text()


def test_a_wrong_setting_ends_the_start_with_its_reason(tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "SIGHTBOX_CONFIG": "production",
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "apps"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "SIGHTBOX_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_page_comes_without_torch(tmp_path):
    script = """
import sys
from apps.app import create_app
app = create_app("local", INSTANCE_PATH=sys.argv[1], MODEL_DOWNLOADS=False)
client = app.test_client()
assert client.get("/").status_code == 200
assert client.get("/auth/signup").status_code == 200
loaded = {"torch", "torchvision"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_course_applications_names_stay_importable():
    from apps.crud.models import User
    from apps.detector.models import UserImage, UserImageTag

    assert (User.__tablename__, UserImage.__tablename__) == ("users", "images")
    assert UserImageTag.__tablename__ == "image_tags"


def test_the_three_blueprints_are_registered(app):
    assert {"crud", "auth", "detector"} <= set(app.blueprints)


def test_every_configuration_is_reachable_by_its_key():
    assert set(config) == {"local", "testing", "production"}


# -- pages ---------------------------------------------------------------------------------


def test_an_unknown_address_gives_our_own_404(app):
    answer = app.test_client().get("/no/such/page")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.text
    assert "<nav" in answer.text


def test_programs_get_errors_as_json(app):
    answer = app.test_client().get("/no/such/page", headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "http"


def test_the_wrong_method_says_which_are_right(app):
    answer = app.test_client().get("/auth/logout")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_a_crash_shows_a_page_and_not_a_traceback(make_app):
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/crash", view_func=lambda: 1 / 0)
    answer = app.test_client().get("/crash")
    assert answer.status_code == 500
    assert "Something went wrong on the server" in answer.text
    assert "ZeroDivisionError" not in answer.text


PAGES = ["/", "/auth/login", "/auth/signup", "/auth/help", "/models", "/no/such/page"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_language_navigation_and_token(app, path):
    text = app.test_client().get(path).text
    assert re.search(r'<html lang="en"', text)
    assert "<nav" in text
    assert re.search(r'<meta name="csrf-token" content="[^"]+">', text)


@pytest.mark.parametrize("path", PAGES)
def test_pages_ask_no_other_host_and_need_no_inline_code(app, path):
    answer = app.test_client().get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)", answer.text)
    assert not re.search(r"\sstyle=|\son\w+=", answer.text)
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_browser_chooses_the_language_and_the_switch_wins(app):
    client = app.test_client()
    korean = {"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"}
    assert '<html lang="ko"' in client.get("/", headers=korean).text
    assert '<html lang="en"' in client.get("/", headers={"Accept-Language": "fr"}).text
    answer = client.post("/auth/preferences", data={"language": "ko", "next": "/models"})
    assert (answer.status_code, answer.location) == (303, "/models")
    assert '<html lang="ko"' in client.get("/", headers={"Accept-Language": "en"}).text
    assert "가입" in client.get("/").text


def test_the_theme_is_remembered_and_nonsense_is_not(app):
    client = app.test_client()
    client.post("/auth/preferences", data={"theme": "dark", "language": "xx"})
    assert 'data-bs-theme="dark"' in client.get("/").text
    client.post("/auth/preferences", data={"theme": '"><script>'})
    assert 'data-bs-theme="dark"' in client.get("/").text


@pytest.mark.parametrize(
    "target",
    [None, "", "//evil.example", "/\\evil.example", "https://evil.example", "\t//evil.example",
     "/\t/evil.example", "javascript:alert(1)", "evil", "/ok\r\nSet-Cookie: x"],
)  # fmt: skip
def test_a_redirect_never_leaves_the_site(target):
    assert safe_next(target) is None


def test_a_path_of_this_site_is_a_good_target():
    assert safe_next("/images/search?search=a b".replace(" ", "+")) is not None


@pytest.mark.parametrize("body", ["[1]", "5", '{"email": true}', "{", "[" * 200_000, '"\\ud800"'])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/auth/login", "/auth/signup", "/auth/preferences", "/nosuch"])
def test_forms_are_not_sent_as_json(app, method, path, body):
    headers = {"Content-Type": "application/json"}
    answer = app.test_client().open(path, method=method, data=body, headers=headers)
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json["error"]["message"]


def test_a_large_body_is_for_uploads_of_people_who_are_logged_in(app, ann):
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = head + b"x" * 3 * 2**20 + b"\r\n--x--\r\n"
    big = {"data": body, "content_type": "multipart/form-data; boundary=x"}
    for path in ("/upload", "/auth/login", "/auth/preferences"):
        answer = app.test_client().post(path, **big)
        assert answer.status_code in (302, 413)  # never read: to the login page, or refused
    assert ann.post("/auth/preferences", **big).status_code == 413
    assert ann.post("/upload", **big).status_code == 422  # read, and no picture in it


def test_an_upload_above_the_limit_is_told_so(make_app):
    client = make_app(MAX_CONTENT_LENGTH=1000).test_client()
    answer = client.post("/upload", data={"image": (io.BytesIO(b"x" * 2000), "a.jpg")})
    assert answer.status_code in (302, 413)


@pytest.mark.parametrize(
    ("text", "value"),
    [("False", False), ("no", False), ("off", False), ("0", False), ("YES", True)],
)
def test_yes_and_no_are_understood_in_many_spellings(tmp_path, monkeypatch, text, value):
    monkeypatch.setenv("SIGHTBOX_SIGNUP_OPEN", text)
    app = create_app("local", INSTANCE_PATH=str(tmp_path))
    assert app.config["SIGNUP_OPEN"] is value


@pytest.mark.parametrize(
    ("name", "value"),
    [("SIGNUP_OPEN", "maybe"), ("MAX_FILE_BYTES", "64MB"), ("GALLERY_PAGE_SIZE", "true")],
)
def test_a_setting_of_the_wrong_kind_stops_the_start(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(f"SIGHTBOX_{name}", value)
    with pytest.raises(ConfigError, match=f"SIGHTBOX_{name}"):
        create_app("local", INSTANCE_PATH=str(tmp_path))


def test_a_mail_server_needs_the_names_that_links_may_carry(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_MAIL_SERVER", "localhost")
    with pytest.raises(ConfigError, match="SIGHTBOX_TRUSTED_HOSTS"):
        create_app("local", INSTANCE_PATH=str(tmp_path))


def test_a_forged_host_is_refused(make_app):
    client = make_app(TRUSTED_HOSTS=["boxes.example"]).test_client()
    assert client.get("/", base_url="http://boxes.example").status_code == 200
    for path in ("/", "/auth/reset", "/nosuch"):
        answer = client.get(path, base_url="http://evil.example")
        assert answer.status_code == 400
        assert "does not answer to this name" in answer.text


def test_a_fresh_local_installation_makes_its_tables_at_the_first_request(tmp_path):
    app = create_app("local", INSTANCE_PATH=str(tmp_path), MODEL_DOWNLOADS=False)
    client = app.test_client()
    assert client.get("/").status_code == 200
    assert client.get("/readyz").status_code == 200
    stop_queues(app)
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("page", ["0", "-1", "abc", "9" * 30, "2"])
def test_pages_that_do_not_exist_are_no_crash(ann, page):
    assert ann.get(f"/?page={page}").status_code in (200, 404)
    assert ann.get(f"/images/search?search=a&page={page}").status_code in (200, 404)
