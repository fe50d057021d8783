import os

import pytest
import sqlalchemy as sa
from flask_migrate import check, downgrade, upgrade

from apps.app import create_app
from apps.container import services
from apps.extensions import db

POSTGRES = os.environ.get("SIGHTBOX_TEST_POSTGRES")
DATABASES = [
    "sqlite",
    pytest.param(
        "postgres",
        marks=[
            pytest.mark.postgres,
            pytest.mark.skipif(
                not POSTGRES,
                reason="set SIGHTBOX_TEST_POSTGRES to the address of an empty database",
            ),
        ],
    ),
]
BEFORE_COUNTS = "7d0c5a1e94b2"
ROWS = (
    "INSERT INTO users (id, username, folded, email, password, active, fs_uniquifier, role, "
    "threshold, created_at) VALUES "
    "(1, 'ann', 'ann', 'a@example.com', '-', true, 'k1', 'user', 0.5, '2026-01-01'), "
    "(2, 'bob', 'bob', 'b@example.com', '-', true, 'k2', 'user', 0.5, '2026-01-01')",
    "INSERT INTO tags (id, name, folded, created_at) VALUES "
    "(1, 'dog', 'dog', '2026-01-01'), (2, 'cat', 'cat', '2026-01-01')",
    "INSERT INTO images (id, owner_id, title, key, extension, media_type, sha256, bytes, width, "
    "height, status, attempts, created_at) VALUES "
    "(1, 1, 'ÜBER den Wolken.jpg', 'k1', 'jpg', 'image/jpeg', 's1', 10, 4, 3, 'done', 1, "
    "'2026-01-01'), "
    "(2, 1, 'dog.jpg', 'k2', 'jpg', 'image/jpeg', 's2', 20, 4, 3, 'done', 1, '2026-01-01'), "
    "(3, 2, 'dog.jpg', 'k3', 'jpg', 'image/jpeg', 's2', 20, 4, 3, 'done', 1, '2026-01-01')",
    "INSERT INTO detections (image_id, label, score, x1, y1, x2, y2, model) VALUES "
    "(1, 'dog', 0.9, 0, 0, 1, 1, 'm'), (3, 'cat', 0.9, 0, 0, 1, 1, 'm')",
    "INSERT INTO image_tags (image_id, tag_id, source) VALUES "
    "(1, 1, 'model'), (1, 2, 'removed'), (2, 1, 'person'), (3, 1, 'model')",
)


@pytest.fixture(params=DATABASES)
def empty(request, tmp_path):
    """An application on an empty database."""
    uri = "sqlite:///testing.sqlite" if request.param == "sqlite" else POSTGRES
    app = create_app("testing", INSTANCE_PATH=str(tmp_path), SQLALCHEMY_DATABASE_URI=uri)
    with app.app_context():
        _clear()
        yield app
        db.session.remove()
        _clear()
        db.engine.dispose()


def _clear() -> None:
    with db.engine.begin() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        found.drop_all(connection)


def _tables() -> set[str]:
    return set(sa.inspect(db.engine).get_table_names())


def test_up_down_and_up_again(empty):
    upgrade()
    full = _tables()
    assert {"users", "images", "results", "detections", "tags", "image_tags"} <= full
    downgrade(revision="base")
    assert _tables() == {"alembic_version"}
    upgrade()
    assert _tables() == full


def test_models_and_migrations_say_the_same(empty):
    upgrade()
    check()  # exits when they differ


def test_the_application_works_on_a_migrated_database(empty):
    import io

    from tests.conftest import picture_bytes

    upgrade()
    client = empty.test_client()
    ann = {"username": "ann", "email": "ann@example.com", "password": "many words"}
    assert client.post("/auth/signup", data=ann).status_code == 302
    answer = client.post("/upload", data={"image": [(io.BytesIO(picture_bytes()), "a.jpg")]})
    assert answer.status_code == 303
    page = answer.location
    assert 'data-status="done"' in client.get(page).text
    client.post(f"{page}/tags", data={"name": "Holiday"})
    assert client.get("/images/search?search=holiday").text.count("<article") == 1
    assert client.get("/images/search?search=oli").text.count("<article") == 1
    data = {"username": "ann", "email": "ann@example.com", "threshold": "0.2"}
    assert client.post("/auth/account", data=data).status_code == 303
    assert "search=cat" in client.get(page).text
    for listing in ("users", "images", "tags"):
        assert client.get(f"/crud/{listing}").status_code == 200
    assert client.post(page.replace("/images/", "/images/delete/")).status_code == 303
    assert client.get(page).status_code == 404


def test_earlier_boxes_are_the_result_of_their_model_and_a_way_back_keeps_the_present(empty):
    def rows(statement: str) -> list[tuple]:
        with db.engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    upgrade(revision="3c92702631f4")
    rows(
        "INSERT INTO users (id, username, folded, email, password, active, fs_uniquifier, role,"
        " threshold, created_at) VALUES (1, 'a', 'a', 'a@b.c', 'x', true, 'k', 'user', 0.5,"
        " '2026-01-01 00:00:00')"
    )
    rows(
        "INSERT INTO images (id, owner_id, title, key, extension, media_type, sha256, bytes, width,"
        " height, status, attempts, model, duration_ms, created_at, detected_at) VALUES"
        " (1, 1, 't', 'k1', 'jpg', 'image/jpeg', 's1', 9, 9, 9, 'done', 1, 'old.model', 7,"
        " '2026-01-01 00:00:00', '2026-01-02 00:00:00'),"
        " (2, 1, 't', 'k2', 'jpg', 'image/jpeg', 's2', 9, 9, 9, 'queued', 0, NULL, NULL,"
        " '2026-01-01 00:00:00', NULL)"
    )
    box = "INSERT INTO detections (image_id, label, score, x1, y1, x2, y2, model) VALUES "
    rows(f"{box} (1, 'dog', 0.5, 0, 0, 1, 1, 'old.model')")
    upgrade()
    assert rows("SELECT image_id, model, duration_ms FROM results") == [(1, "old.model", 7)]
    rows(f"{box} (1, 'cat', 0.5, 0, 0, 1, 1, 'new.model')")
    downgrade(revision="3c92702631f4")
    assert rows("SELECT label FROM detections") == [("dog",)]


def test_the_database_refuses_what_the_models_forbid(empty):
    upgrade()
    wrong = [
        "INSERT INTO tags (name, folded, created_at) "
        "VALUES ('a', 'a', '2026-01-01'), ('a', 'b', '2026-01-01')",
        "INSERT INTO image_tags (image_id, tag_id, source) VALUES (1, 1, 'model')",
    ]
    for statement in wrong:
        with pytest.raises(sa.exc.IntegrityError), db.engine.begin() as connection:
            connection.execute(sa.text(statement))


def _all(statement: str) -> list[tuple]:
    with db.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_a_database_with_pictures_keeps_them_and_gets_their_counts(empty):
    upgrade(revision=BEFORE_COUNTS)
    with db.engine.begin() as connection:
        for statement in ROWS:
            connection.execute(sa.text(statement))
    upgrade()
    assert _all("SELECT owner_id, pictures, bytes FROM picture_counts ORDER BY 1") == [
        (1, 2, 30),
        (2, 1, 20),
    ]
    assert _all("SELECT owner_id, tag_id, pictures FROM tag_counts ORDER BY 1, 2") == [
        (1, 1, 2),
        (2, 1, 1),
    ]
    assert _all("SELECT owner_id FROM image_tags ORDER BY image_id, tag_id") == [
        (1,), (1,), (1,), (2,),
    ]  # fmt: skip
    assert _all("SELECT folded FROM images WHERE id = 1") == [("über den wolken.jpg",)]
    pictures = services(empty).image_admin.all(search="R DEN W")
    assert [image.id for image in pictures.slice(0, 9)] == [1]
    db.session.rollback()
    downgrade(revision=BEFORE_COUNTS)
    upgrade()
    assert len(_all("SELECT * FROM detections")) == 2  # SQLite drops tables to change them
    assert len(_all("SELECT * FROM image_tags")) == 4
    assert _all("SELECT sum(pictures) FROM tag_counts") == [(3,)]


def test_references_are_checked_again_after_a_migration(empty):
    upgrade()
    statement = "INSERT INTO detections (image_id, label, score, x1, y1, x2, y2, model) VALUES "
    with pytest.raises(sa.exc.IntegrityError), db.engine.begin() as connection:
        connection.execute(sa.text(f"{statement} (77, 'dog', 0.9, 0, 0, 1, 1, 'm')"))


def test_migrations_make_the_triggers_that_the_models_make(empty):
    upgrade()
    migrated = _triggers()
    assert migrated
    _clear()
    db.create_all()
    assert _triggers() == migrated


def _triggers() -> set[tuple]:
    """Triggers, and what else stands beside the tables, as the database spells it."""
    if db.engine.dialect.name == "sqlite":
        return set(
            _all(
                "SELECT name, sql FROM sqlite_master "
                "WHERE type = 'trigger' OR sql LIKE 'CREATE VIRTUAL%'"
            )
        )
    return set(
        _all(
            "SELECT pg_get_triggerdef(t.oid), p.prosrc FROM pg_trigger t "
            "JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT tgisinternal"
        )
        + _all("SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE '%trigrams'")
    )
