"""Lists of the REST interface in parts: every order, every filter, and cursors that are none."""

import base64
import io

import pytest
from sqlalchemy import select

from apps.extensions import db
from apps.models import Detection, Image, ImageStatus
from apps.services.search import SORTS
from tests.api.test_boxes import asks_as
from tests.api.test_rest import is_problem, uploaded
from tests.conftest import picture_bytes
from tests.labelled import coco, packed

NONE = (  # what no cursor says; the first one is of tags
    *("[1,2]", '["a\\u0000",1]', '["\\ud800",1]', "[NaN]", "[1e400]", f"[{2**64}]", "[true]"),
    *("[" * 2000, "{}", "[-1]"),
)


@pytest.fixture
def program(app, bearer):
    return asks_as(app, bearer("ann"))


def parts(program, path: str) -> list:
    """Everything in a list, in parts of two."""
    start, seen = f"{path}{'&' if '?' in path else '?'}limit=2", []
    cursor: str | None = ""
    while cursor is not None:
        page = program("GET", start + (f"&cursor={cursor}" if cursor else "")).json
        assert len(page["items"]) <= 2
        seen, cursor = seen + page["items"], page["next"]
    return seen


def test_every_order_of_the_gallery_can_be_read_in_parts(app, program):
    titles = ("b.png", "A.png", "ü 강.png", "a.png", "c.png")
    sizes = ((30, 20), (300, 200), (60, 50), (60, 50), (31, 20))
    for title, size in zip(titles, sizes, strict=True):
        form = {"image": [(io.BytesIO(picture_bytes(size)), title)]}
        assert program("POST", "/images", data=form).status_code == 201
    with app.app_context():
        for image in db.session.scalars(select(Image)):
            image.uncertainty = None if image.id == 5 else image.id % 3 / 3
        for box in db.session.scalars(select(Detection).where(Detection.image_id.in_((2, 4)))):
            db.session.delete(box)
        db.session.commit()
        rows = [(i.id, i.folded, i.bytes, i.uncertainty) for i in db.session.scalars(select(Image))]
    by = {
        "newest": sorted((row[0] for row in rows), reverse=True),
        "oldest": sorted(row[0] for row in rows),
        "title": [row[0] for row in sorted(rows, key=lambda row: (row[1], row[0]))],
        "largest": [row[0] for row in sorted(rows, key=lambda row: (-row[2], -row[0]))],
        "smallest": [row[0] for row in sorted(rows, key=lambda row: (row[2], row[0]))],
        "boxes": [5, 3, 1, 4, 2],
        "uncertainty": [2, 4, 1, 3],
    }
    by["-title"] = by["title"][::-1]
    assert set(by) == set(SORTS)
    for sort, ids in by.items():
        found = [image["id"] for image in parts(program, f"/images?search=sort:{sort}")]
        assert found == ids, sort


def test_a_cursor_of_another_list_or_of_nobodys_is_refused(program):
    for _ in range(3):
        uploaded(program)
    cursor = program("GET", "/images?limit=1&search=sort:title").json["next"]
    assert is_problem(program("GET", f"/images?cursor={cursor}"), 422, "invalid")
    for made in NONE:
        cursor = base64.urlsafe_b64encode(made.encode()).decode().rstrip("=")
        for path in ("/images?", "/images?search=sort:title&", "/tags?", "/jobs?", "/imports?"):
            answer = program("GET", f"{path}cursor={cursor}")
            good = made == "[1,2]" and path == "/tags?"
            assert answer.status_code == (200 if good else 422), (path, made)


def test_a_search_may_be_as_long_as_in_the_gallery(program):
    image_id = uploaded(program)
    search = "dog " + "-" + "x" * 495
    assert len(search) == 500
    [found] = program("GET", f"/images?search={search}").json["items"]
    assert found["id"] == image_id
    assert is_problem(program("GET", f"/images?search={search}x"), 422)
    assert program("POST", "/exports", json={"format": "csv", "search": search}).status_code == 202


def test_tags_and_imports_come_in_parts(program):
    for number in range(5):
        image_id = uploaded(program)
        for name in ("every", f"only {number}"):
            program("POST", f"/images/{image_id}/tags", json={"name": name})
    seen = parts(program, "/tags")
    assert [tag["name"] for tag in seen[:3]] == ["dog", "every", "only 0"]
    assert len({tag["name"] for tag in seen}) == len(seen) == 7
    for _ in range(3):
        form = {"archive": (io.BytesIO(packed(coco())), "set.zip")}
        last = program("POST", "/imports", data=form).json
    assert [row["id"] for row in parts(program, "/imports")] == [last["id"] - n for n in range(3)]


def test_jobs_are_listed_by_their_state_in_parts(app, program):
    ids = [uploaded(program) for _ in range(5)]
    states = ("queued", "running", "done", "failed", "queued")
    with app.app_context():
        for image_id, status in zip(ids, states, strict=True):
            db.session.get_one(Image, image_id).status = ImageStatus(status)
        db.session.commit()
    by = {"": [0, 1, 4], "queued": [0, 4], "running": [1], "done": [2], "failed": [3]}
    for status, places in (by | {"all": [4, 3, 2, 1, 0]}).items():
        path = f"/jobs?status={status}" if status else "/jobs"
        assert [job["id"] for job in parts(program, path)] == [ids[place] for place in places]
    assert is_problem(program("GET", "/jobs?status=lost"), 422)
