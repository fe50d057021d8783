import os

import pytest
import sqlalchemy as sa
from flask_migrate import check, downgrade, upgrade

from apps.app import create_app
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
