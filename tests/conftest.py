"""Fixtures: a fresh application on real SQLite, people who are logged in, and pictures."""

import io
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as Picture
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Role, User
from apps.services.models import ModelService, ModelState
from apps.vision.zoo.registry import BLOOD_CELLS, get_detector
from apps.vision.zoo.store import WeightsState
from tests.broker import Broker
from tests.served import stop_queues

PASSWORD = "correct horse battery"  # of every account that make_user makes
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)


class Client(FlaskClient):
    """Reads every answer to its end, as a server would, so that no file stays open."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        kwargs.setdefault("buffered", True)
        return super().open(*args, **kwargs)


@pytest.fixture
def make_app(tmp_path) -> Iterator[Callable[..., Flask]]:
    """make_app(KEY=value) -> an application with an empty database in a folder of its own."""
    apps = []

    def make_app(**overrides: object) -> Flask:
        folder = tmp_path / f"instance{len(apps)}"
        app = create_app("testing", **({"INSTANCE_PATH": str(folder)} | overrides))
        app.test_client_class = Client
        with app.app_context():
            db.create_all()
        apps.append(app)
        # No context stays open: Flask < 3.2 would lend it to every request of the test, and with
        # it flask.g, where Flask-Login keeps the user.
        return app

    yield make_app
    for app in apps:
        stop_queues(app)
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def app(make_app) -> Flask:
    return make_app()


@pytest.fixture
def make_user(app) -> Callable[..., int]:
    """make_user("ann", role=Role.ADMIN) -> id of an account that exists, made if missing."""

    def make_user(name: str = "ann", **values: object) -> int:
        with app.app_context():
            user = db.session.scalar(select(User).where(User.username == name))
            if user is None:
                user = User(username=name, email=f"{name}@example.com", password=HASH, **values)
                db.session.add(user)
                db.session.commit()
            return user.id

    return make_user


@pytest.fixture
def client_of(app, make_user) -> Callable[..., FlaskClient]:
    """client_of("ann") -> a client that is logged in as that account, made if missing."""

    def client_of(name: str = "ann", **values: object) -> FlaskClient:
        user_id = make_user(name, **values)
        with app.app_context():
            key = db.session.get_one(User, user_id).fs_uniquifier
        client = app.test_client()
        with client.session_transaction() as session:
            session["_user_id"] = key
            session["_fresh"] = True
        return client

    return client_of


@pytest.fixture
def ann(client_of) -> FlaskClient:
    return client_of("ann")


@pytest.fixture
def bob(client_of) -> FlaskClient:
    return client_of("bob")


@pytest.fixture
def admin(client_of) -> FlaskClient:
    return client_of("root", role=Role.ADMIN)


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL database of this test's own."""
    if not (given := os.environ.get("SIGHTBOX_TEST_POSTGRES")):
        pytest.skip("set SIGHTBOX_TEST_POSTGRES to the address of a PostgreSQL server")
    url = sa.make_url(given).set(database=f"sightbox_{secrets.token_hex(4)}")
    server = sa.create_engine(given, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {url.database}"))
    yield url.render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {url.database} WITH (FORCE)"))
    server.dispose()


DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def app_on(request: pytest.FixtureRequest, **overrides: object) -> Flask:
    """For a fixture with ``params=DATABASES``: what make_app makes, on that database."""
    if request.param == "postgres":  # before make_app, so that it is dropped after its app closed
        overrides["SQLALCHEMY_DATABASE_URI"] = request.getfixturevalue("postgres")
    app: Flask = request.getfixturevalue("make_app")(**overrides)
    return app


@pytest.fixture
def broker(tmp_path) -> Iterator[Broker]:
    """A Redis server of this test's own, which runs."""
    if not shutil.which("redis-server"):
        pytest.skip("install redis-server")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


_colors = itertools.count()


def picture_bytes(
    size: tuple[int, int] = (64, 48), format: str = "JPEG", color: object = None, **options: object
) -> bytes:
    """A file of one colour; a new one each time, so that no two are the same picture."""
    number = next(_colors)
    if format == "JPEG":  # near colours can compress to the same bytes
        options = {"comment": f"picture {number}"} | options
    if color is None:
        color = (number * 37 % 256, number * 101 % 256, number // 256 % 256)
    buffer = io.BytesIO()
    Picture.new("RGB", size, color).save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.fixture
def upload() -> Callable[..., int]:
    """upload(client) -> id of a new picture of the account that is logged in."""

    def upload(client: FlaskClient, data: bytes | None = None, name: str = "cat.jpg") -> int:
        file = (io.BytesIO(picture_bytes() if data is None else data), name)
        answer = client.post("/upload", data={"image": [file]})
        assert answer.status_code == 303, answer.text
        return int(answer.location.rsplit("/", 1)[1])

    return upload


@pytest.fixture
def count_queries(app) -> Callable[..., object]:
    """with count_queries() as statements: ... -> the SQL that was sent inside."""

    @contextmanager
    def counter() -> Iterator[list[str]]:
        statements: list[str] = []

        def record(_conn, _cursor, statement, *_args) -> None:
            if not statement.startswith(("BEGIN", "PRAGMA")):
                statements.append(statement)

        with app.app_context():
            engine = db.engine
        event.listen(engine, "before_cursor_execute", record)
        try:
            yield statements
        finally:
            event.remove(engine, "before_cursor_execute", record)

    return counter


def weights_here(app: Flask, name: str) -> Path:
    """The weights of a detector are there, as far as anybody can tell without reading them."""
    store = services(app).models.store
    file = get_detector(name).weights
    store.folder.mkdir(parents=True, exist_ok=True)
    store.path(file).touch()
    os.truncate(store.path(file), file.size)  # takes no room on the disk
    return store.path(file)


def stored_files(app: Flask) -> list[str]:
    """Every file below the storage folder."""
    root = Path(app.config["STORAGE_ROOT"])
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def one_model(monkeypatch) -> None:
    """The weights of one detector are there, and of no other."""
    usual = ModelService.all

    def alone(self: ModelService) -> list[ModelState]:
        return [
            model if model.spec is BLOOD_CELLS else replace(model, state=WeightsState.MISSING)
            for model in usual(self)
        ]

    monkeypatch.setattr(ModelService, "all", alone)
