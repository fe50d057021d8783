"""flask backup and flask restore: the same installation again, or nothing changed."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import select

from apps.app import create_app
from apps.cli.backup import MIGRATIONS
from apps.container import services
from apps.extensions import db
from apps.models import Image, Import, ImportStatus, PictureCount, TagCount, User, utcnow
from apps.services.schema import Revisions, plain, tables_of
from apps.storage.local import LocalStorage
from apps.vision.zoo.architectures import SMALL, Origin
from apps.vision.zoo.cards import spec_of
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import Added
from tests.conftest import Client, picture_bytes, stored_files
from tests.labelled import coco
from tests.test_imports import begun, confirmed


@pytest.fixture
def migrated(tmp_path):
    """migrated(KEY=value) -> an application whose database was made by the migrations."""
    apps: list[Flask] = []

    def migrated(**settings: Any) -> Flask:
        folder = tmp_path / f"migrated{len(apps)}"
        app = create_app("testing", INSTANCE_PATH=str(folder), **settings)
        app.test_client_class = Client
        with app.app_context():
            upgrade()
        apps.append(app)
        return app

    yield migrated
    for app in apps:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


def client_of(app: Flask, name: str = "ann"):
    with app.app_context():
        user = User(username=name, email=f"{name}@example.com", password="x")
        db.session.add(user)
        db.session.commit()
        key = user.fs_uniquifier
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    return client


@pytest.fixture
def filled(migrated, upload) -> Flask:
    """Pictures with boxes, words about them, tags, trash and an import."""
    app = migrated()
    client = client_of(app)
    first = upload(client, picture_bytes(), "고양이.jpg")
    client.post(f"/images/{first}/tags", data={"name": "zoo"})
    client.post(f"/images/delete/{upload(client)}")
    confirmed(client, begun(client, coco()), reviewed="on")
    return app


def run(app: Flask, *arguments: object):
    return app.test_cli_runner().invoke(args=[str(argument) for argument in arguments])


def rows(app: Flask) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, whatever the database."""
    with app.app_context(), db.engine.connect() as connection:
        found = {
            table.name: [plain(row) for row in connection.execute(select(table))]
            for table in tables_of(connection)
        }
    return {name: sorted(each, key=json.dumps) for name, each in found.items()}


def counts(app: Flask) -> list[Any]:
    with app.app_context():
        pictures = db.session.execute(select(sa.func.sum(PictureCount.pictures))).all()
        tags = db.session.execute(
            select(TagCount.tag_id, sa.func.sum(TagCount.pictures)).group_by(TagCount.tag_id)
        )
        return [*map(tuple, pictures), *sorted(map(tuple, tags))]


@pytest.fixture
def file(filled, tmp_path) -> Path:
    path = tmp_path / "backup.zip"
    answer = run(filled, "backup", path)
    assert answer.exit_code == 0, answer.output
    assert "every checksum was compared" in answer.output
    return path


def test_a_new_installation_is_the_same_as_the_old_one(filled, file, migrated):
    app = migrated()
    answer = run(app, "restore", file)
    assert answer.exit_code == 0, answer.output
    assert rows(app) == rows(filled)
    assert counts(app) == counts(filled)
    assert stored_files(app) == stored_files(filled)
    with app.app_context():
        key = db.session.scalars(select(User.fs_uniquifier)).one()
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    assert client.get("/images/search?search=zoo").text.count("<article") == 1
    assert client.post("/trash/restore", data={"all": "1"}).status_code == 303
    with app.app_context():
        assert db.session.scalar(select(sa.func.count()).select_from(Image)) == 5


def add_model(app: Flask, name: str, data: bytes) -> None:
    """A model of the installation's own."""
    own = services(app).models.own
    file = own.incoming()
    file.write_bytes(data)
    added = Added(SMALL, Origin.COCO, utcnow().replace(microsecond=0), "root", "x.safetensors")
    spec = spec_of(name, added, ("dog", "cat"), sha256="a" * 64, size=len(data), parameters=1)
    own.add(spec, file)


def test_models_of_the_installations_own_come_back(filled, migrated, tmp_path):
    add_model(filled, "cells.v2", b"weights" * 1000)
    file = tmp_path / "models.zip"
    assert run(filled, "backup", file).exit_code == 0
    app = migrated()
    add_model(app, "other.v1", b"other")
    add_model(app, "cells.v2", b"older")
    answer = run(app, "restore", file)
    assert "own: 1" in answer.output, answer.output
    own = services(app).models.own
    assert list(own.specs()) == ["cells.v2"]
    assert (own.folder / "cells.v2.safetensors").read_bytes() == b"weights" * 1000
    assert {removed.spec.name for removed in own.removed()} == {"cells.v2", "other.v1"}
    assert not list((own.folder / ".incoming").iterdir())
    changed(file, "models/cells.v2.safetensors", b"something else")
    answer = run(app, "restore", file, "--replace")
    assert answer.exit_code == 1
    assert "cells.v2.safetensors" in answer.output


def test_a_backup_of_before_leaves_the_models_of_the_installations_own(filled, migrated, tmp_path):
    file = tmp_path / "before.zip"
    assert run(filled, "backup", file).exit_code == 0
    changed(file, "models.jsonl", None)
    app = migrated()
    add_model(app, "cells.v2", b"weights")
    assert run(app, "restore", file).exit_code == 0
    assert list(services(app).models.own.specs()) == ["cells.v2"]


def test_pictures_stay_when_the_models_cannot_be_put_in_place(
    filled, migrated, tmp_path, monkeypatch
):
    def refuse(*_arguments: object) -> None:
        raise OSError("read-only")

    file = tmp_path / "models.zip"
    assert run(filled, "backup", file).exit_code == 0
    app = migrated()
    monkeypatch.setattr(OwnWeights, "become", refuse)
    assert run(app, "restore", file).exit_code == 1
    with app.app_context():
        keys = [key for image in db.session.scalars(select(Image)) for key in image.storage_keys]
    assert keys
    assert [services(app).storage.size(key) > 0 for key in keys] == [True] * len(keys)


def test_an_import_that_waits_ends_with_the_restore(filled, migrated, tmp_path):
    client = client_of(filled, "bob")
    waits = begun(client, coco())
    file = tmp_path / "open.zip"
    assert run(filled, "backup", file).exit_code == 0
    app = migrated()
    assert run(app, "restore", file).exit_code == 0
    with app.app_context():
        row = db.session.get_one(Import, waits)
        assert row.status is ImportStatus.FAILED
        assert "Upload it again" in row.error
        done = db.session.scalars(select(Import).where(Import.id != waits)).one()
        assert done.status is ImportStatus.DONE


def test_the_file_is_for_its_owner_alone_and_is_never_written_over(filled, file):
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_bytes()
    answer = run(filled, "backup", file)
    assert answer.exit_code == 1
    assert "already" in answer.output
    assert file.read_bytes() == before


def test_an_installation_is_not_replaced_unless_that_is_said(filled, file, migrated, upload):
    app = migrated()
    upload(client_of(app))
    before, files = rows(app), stored_files(app)
    answer = run(app, "restore", file)
    assert answer.exit_code == 1
    assert "--replace" in answer.output
    assert (rows(app), stored_files(app)) == (before, files)
    assert run(app, "restore", file, "--replace").exit_code == 0
    assert rows(app) == rows(filled)
    assert stored_files(app) == stored_files(filled)


def changed(file: Path, name: str, data: bytes | None, **manifest: Any) -> None:
    """The backup with one member replaced (None: left out) or another manifest."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    if data is None:
        members.pop(name, None)
    else:
        members[name] = data
    if manifest:
        members["backup.json"] = json.dumps(json.loads(members["backup.json"]) | manifest).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def blob_of(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        return next(name for name in archive.namelist() if name.startswith("blobs/original/"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: changed(file, blob_of(file), b"other"), "damaged"),
        (lambda file: changed(file, blob_of(file), None), "damaged"),
        (lambda file: changed(file, "tables/images.jsonl", b""), "damaged"),
        (lambda file: changed(file, "tables/images.jsonl", b"{"), "damaged"),
        (lambda file: changed(file, "backup.json", None), "damaged"),
        (lambda file: changed(file, "blobs.jsonl", b'{"key": "../../x"}'), "no key"),
        (lambda file: changed(file, "", None, revision="ffffffffffff"), "does not know"),
        (lambda file: changed(file, "", None, version=2), "newer version"),
        (lambda file: changed(file, "", None, format="other"), "no backup"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "no backup"),
        (lambda file: file.write_bytes(b"nothing"), "no backup"),
    ],
)  # fmt: skip
def test_a_backup_that_cannot_be_restored_changes_nothing(file, migrated, change, reason):
    app = migrated()
    change(file)
    before = rows(app)
    answer = run(app, "restore", file)
    assert answer.exit_code == 1
    assert reason in answer.output
    assert "Traceback" not in answer.output
    assert rows(app) == before
    assert stored_files(app) == []


def test_rows_that_the_database_refuses_change_nothing(file, migrated):
    app = migrated()
    with zipfile.ZipFile(file) as archive:
        lines = archive.read("tables/detections.jsonl").decode().splitlines()
    broken = "\n".join(json.dumps(json.loads(line) | {"image_id": 4711}) for line in lines)
    changed(file, "tables/detections.jsonl", broken.encode())
    before = rows(app)
    answer = run(app, "restore", file)
    assert answer.exit_code == 1
    assert "Nothing is changed" in answer.output
    assert (rows(app), stored_files(app)) == (before, [])


def test_a_storage_that_keeps_something_else_changes_nothing(file, migrated, monkeypatch):
    app = migrated()
    real = LocalStorage.put_file

    def cut(self, key, stream):
        import io

        real(self, key, io.BytesIO(stream.read()[:-1]))

    monkeypatch.setattr(LocalStorage, "put_file", cut)
    answer = run(app, "restore", file)
    assert "does not give back" in answer.output
    assert stored_files(app) == []
    assert rows(app)["images"] == []


def test_what_is_deleted_for_good_while_a_backup_is_written_is_left_out_altogether(
    filled, tmp_path, migrated, monkeypatch
):
    real = LocalStorage.open
    deleted = []

    def deletes(self, key):
        if not deleted and key.startswith("original/"):
            deleted.append(key)
            with filled.app_context():
                image = db.session.scalars(select(Image).order_by(Image.id)).first()
                service, owner = services(filled).trash, image.owner_id
                service.move_one(owner, image.id)
                service.purge(owner, None)
        return real(self, key)

    monkeypatch.setattr(LocalStorage, "open", deletes)
    path = tmp_path / "while.zip"
    answer = run(filled, "backup", path)
    assert answer.exit_code == 0, answer.output
    app = migrated()
    assert run(app, "restore", path).exit_code == 0
    assert stored_files(app) == stored_files(filled)
    assert [row["title"] for row in rows(app)["images"]] == [
        row["title"] for row in rows(filled)["images"]
    ]


def test_files_that_are_missing_or_damaged_are_named(filled, tmp_path):
    """Those of pictures in the trash as well."""
    root = Path(filled.config["STORAGE_ROOT"])
    lost, *hurt = (root / "original").iterdir()
    lost.unlink()
    for file in hurt:
        file.write_bytes(b"other bytes")
    answer = run(filled, "backup", tmp_path / "b.zip")
    assert answer.exit_code == 0
    assert f"missing from the storage\toriginal/{lost.name}" in answer.output
    named = re.findall(r"not what was uploaded\toriginal/(\S+)", answer.output)
    assert sorted(named) == sorted(file.name for file in hurt)
    assert len(hurt) > 2


def test_a_backup_of_an_older_version_is_brought_up_to_date(tmp_path, migrated):
    old = create_app("testing", INSTANCE_PATH=str(tmp_path / "old"))
    with old.app_context():
        upgrade(revision="7d0c5a1e94b2")
        with db.engine.begin() as connection:
            connection.execute(sa.text(
                "INSERT INTO users (id, username, folded, email, password, active, fs_uniquifier,"
                " role, threshold, created_at) VALUES (7, 'a', 'a', 'a@b.c', 'x', true, 'k',"
                " 'user', 0.5, '2026-01-01 00:00:00.000000')"
            ))  # fmt: skip
            connection.execute(sa.text(
                "INSERT INTO tags (id, name, folded, created_at) VALUES"
                " (3, 'dog', 'dog', '2026-01-01 00:00:00.000000')"
            ))  # fmt: skip
    path = tmp_path / "old.zip"
    answer = run(old, "backup", path)
    assert answer.exit_code == 0, answer.output
    app = migrated()
    assert run(app, "restore", path).exit_code == 0
    found = rows(app)
    assert [(row["id"], row["username"]) for row in found["users"]] == [(7, "a")]
    assert [row["name"] for row in found["tags"]] == ["dog"]
    with app.app_context():
        revision = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
        db.session.commit()
        assert revision == Revisions(MIGRATIONS).head
        db.engine.dispose()
    with old.app_context():
        db.engine.dispose()


@pytest.mark.postgres
def test_an_installation_moves_from_sqlite_to_postgresql_and_back(filled, file, migrated, postgres,
                                                                  tmp_path, upload):  # fmt: skip
    server = migrated(SQLALCHEMY_DATABASE_URI=postgres)
    answer = run(server, "restore", file)
    assert answer.exit_code == 0, answer.output
    assert rows(server) == rows(filled)
    assert counts(server) == counts(filled)
    with server.app_context():
        image = db.session.scalars(select(Image)).first()
        names = {"title": "new", "key": "k" * 32, "extension": "jpg", "media_type": "image/jpeg"}
        size = {"bytes": 1, "width": 1, "height": 1}
        twin = Image(owner_id=image.owner_id, sha256="0" * 64, **names, **size)
        db.session.add(twin)
        db.session.commit()  # it gets a number of its own
        db.session.delete(twin)
        db.session.commit()
    assert run(server, "restore", file, "--replace").exit_code == 0
    back = tmp_path / "back.zip"
    assert run(server, "backup", back).exit_code == 0
    app = migrated()
    assert run(app, "restore", back).exit_code == 0
    assert rows(app) == rows(filled)
    assert stored_files(app) == stored_files(filled)
    with server.app_context():  # before its database goes
        db.session.remove()
        db.engine.dispose()
