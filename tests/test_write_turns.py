"""Writers of one process take turns on SQLite."""

import sqlite3
import threading
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from apps.extensions import db
from apps.services.keeping import Keeper
from apps.services.uploads import UploadService

PATIENCE = 20  # seconds for something that comes at once unless it is broken
WRITE = text("UPDATE users SET active = active")


def path_of(app: Flask) -> str:
    return app.config["SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///")


@pytest.fixture
def sqlite_file(app) -> str:
    if not app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite:///"):
        pytest.skip("the tests run on another database")
    return str(Path(app.instance_path) / path_of(app))


def test_a_writer_goes_on_when_the_one_before_ends_whether_it_wrote_or_failed(app, sqlite_file):
    begun, ended = threading.Event(), threading.Event()

    def second() -> None:
        with app.app_context():
            begun.set()
            db.session.execute(WRITE)
            ended.set()
            db.session.commit()

    with app.app_context():
        db.session.execute(WRITE)
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(PATIENCE)
        assert not ended.wait(0.05)
        db.session.rollback()
        assert ended.wait(PATIENCE)
        thread.join(PATIENCE)
        with pytest.raises(OperationalError):
            db.session.execute(text("UPDATE nothing SET active = active"))
        db.session.rollback()
        db.session.execute(WRITE)
        db.session.commit()


def test_an_upload_takes_the_write_lock_only_to_write(
    app, sqlite_file, client_of, upload, monkeypatch
):
    free: list[str] = []

    def looks(method):
        def looking(self, *args):
            result = method(self, *args)
            with sqlite3.connect(sqlite_file, timeout=0) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    free.append("locked")
                else:
                    free.append("free")
                    other.rollback()
            other.close()
            return result

        return looking

    for kind, name in ((UploadService, "_refuse_duplicate"), (Keeper, "require_room")):
        monkeypatch.setattr(kind, name, looks(getattr(kind, name)))
    upload(client_of())
    assert free == ["free", "free", "locked"]  # the quota once more, in the end
