import pytest
from sqlalchemy import select

from apps.extensions import db
from apps.models import Role, User
from tests.conftest import PASSWORD, picture_bytes


@pytest.fixture
def flask(app):
    def flask(*arguments, **options):
        return app.test_cli_runner().invoke(args=list(arguments), **options)

    return flask


def user(app, name) -> User:
    with app.app_context():
        return db.session.scalars(select(User).where(User.username == name)).one()


def test_create_makes_an_account_that_can_log_in(app, flask):
    done = flask("users", "create", "ann", "ann@example.com", "--password", PASSWORD)
    assert done.exit_code == 0, done.output
    answer = app.test_client().post("/auth/login", data={"email": "ann", "password": PASSWORD})
    assert answer.status_code == 302


def test_create_asks_for_the_password_when_it_is_not_given(flask):
    typed = f"{PASSWORD}\n{PASSWORD}\n"
    done = flask("users", "create", "ann", "ann@example.com", input=typed)
    assert done.exit_code == 0
    assert PASSWORD not in done.output


def test_the_first_account_made_here_is_administrator_and_the_next_only_with_admin(app, flask):
    for name, flags in (("a1", []), ("b2", []), ("c3", ["--admin"])):
        flask("users", "create", name, f"{name}@example.com", "--password", PASSWORD, *flags)
    assert [user(app, name).role for name in ("a1", "b2", "c3")] == [
        Role.ADMIN,
        Role.USER,
        Role.ADMIN,
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "ann", "ann@example.com", "--password", "password"), "most common"),
        (("create", "ann", "nonsense", "--password", PASSWORD), "not an email"),
        (("create", "bob", "new@example.com", "--password", PASSWORD), "taken"),
        (("reset-password", "nobody", "--password", PASSWORD), "There is no account"),
        (("reset-password", "bob", "--password", "short"), "at least 8"),
        (("make-admin", "nobody"), "There is no account"),
        (("disable", "root"), "last administrator"),
    ],
)
def test_a_mistake_says_why_and_fails(app, flask, make_user, arguments, text):
    make_user("bob")
    make_user("root", role=Role.ADMIN)
    done = flask("users", *arguments)
    assert done.exit_code == 1
    assert text in done.output


def test_list_shows_every_account(flask, make_user):
    make_user("ann")
    make_user("root", role=Role.ADMIN)
    lines = flask("users", "list").output.splitlines()
    assert lines[0].split("\t")[1:] == ["ann", "ann@example.com", "user", "active"]
    assert lines[1].split("\t")[3] == "admin"


def test_reset_password_is_the_way_back_in_and_ends_sessions(app, flask, ann):
    done = flask("users", "reset-password", "ann@example.com", "--password", "brand new words")
    assert done.exit_code == 0
    assert ann.get("/auth/account").status_code == 302
    data = {"email": "ann", "password": "brand new words"}
    assert app.test_client().post("/auth/login", data=data).status_code == 302


def test_make_admin_disable_and_enable(app, flask, make_user):
    make_user("root", role=Role.ADMIN)
    make_user("ann")
    assert flask("users", "make-admin", "ann").exit_code == 0
    assert user(app, "ann").role is Role.ADMIN
    assert flask("users", "disable", "ann").exit_code == 0
    assert not user(app, "ann").active
    assert flask("users", "enable", "ann").exit_code == 0
    assert user(app, "ann").active


def test_detect_files_prints_the_boxes(flask, tmp_path):
    path = tmp_path / "dog.jpg"
    path.write_bytes(picture_bytes((100, 100)))
    done = flask("detect", "files", str(path))
    assert done.output.strip().split("\t") == [
        str(path),
        "dog",
        "0.900",
        "10.0",
        "10.0",
        "60.0",
        "70.0",
    ]
    path.write_bytes(b"nonsense")
    done = flask("detect", "files", str(path))
    assert done.exit_code == 1
    assert "not a picture" in done.output


def test_accounts_before_there_is_a_database_say_what_to_do(make_app):
    app = make_app()
    with app.app_context():
        db.drop_all()
    done = app.test_cli_runner().invoke(args=["users", "list"])
    assert done.exit_code == 1
    assert "script/server" in done.output
