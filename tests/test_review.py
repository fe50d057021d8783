"""The review inbox: the most useful picture first, and on to the next one."""

import re
import runpy

import pytest
from sqlalchemy import event, text

from apps.config import ROOT
from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, utcnow
from apps.services import reviews
from tests.conftest import DATABASES, app_on
from tests.test_paging import fill, flat, shown


@pytest.fixture(params=DATABASES)
def app(request):
    return app_on(request, GALLERY_PAGE_SIZE=4)


@pytest.fixture
def inbox(app, make_user):
    """inbox(0.2, 0.9, …): ids of new pictures of ann's of which a model is so unsure."""

    def inbox(*unsure: float | None, owner: str = "ann") -> list[int]:
        ids = fill(app, make_user(owner), len(unsure))
        with app.app_context():
            for image_id, value in zip(ids, unsure, strict=True):
                image = db.session.get_one(Image, image_id)
                image.uncertainty = value
                image.status = ImageStatus.QUEUED if value is None else ImageStatus.DONE
            db.session.commit()
        return ids

    return inbox


def review(app, image_id: int) -> None:
    with app.app_context():
        db.session.get_one(Image, image_id).reviewed_at = utcnow()
        db.session.commit()


def order(client) -> list[int]:
    """Ids in the inbox, page after page."""
    pages, number = [], 1
    while (answer := client.get(f"/review?page={number}")).status_code == 200:
        pages.append(
            [int(n) for n in re.findall(r'<li class="tile r\d+" data-image="(\d+)"', answer.text)]
        )
        if not pages[-1]:
            break
        number += 1
    return flat(pages)


def following(client, after: object = "") -> int | None:
    answer = client.get(f"/review/next?after={after}")
    assert answer.status_code == 200
    url = answer.json["url"]
    return int(url.rpartition("/")[2]) if url else None


def test_the_picture_that_the_model_is_least_sure_of_comes_first(ann, inbox, bob):
    ids = inbox(0.2, 0.9, 0.5, 0.9, 0.0, 0.7)
    inbox(0.99, owner="bob")
    assert order(ann) == [ids[n] for n in (3, 1, 5, 2, 0, 4)]
    page = ann.get("/review").text
    assert re.search(rf'href="/images/{ids[3]}\?review=1">[^<]*<i [^>]*></i> Review in order', page)
    assert page.count("very unsure") == 3
    assert "somewhat unsure" in page


def test_what_was_reviewed_is_gone_and_counted(app, ann, inbox):
    ids = inbox(0.2, 0.9, 0.5, None)
    review(app, ids[1])
    assert order(ann) == [ids[2], ids[0]]
    page = ann.get("/review").text
    assert "1 of 4 reviewed" in page
    assert "25 %" in page
    assert "No model has looked at 1 picture yet" in page
    assert re.search(r'aria-hidden="true">2</b>', page)
    assert "2 pictures wait for review" in page


def test_a_new_picture_waits_for_review_as_soon_as_a_model_has_looked_at_it(ann, upload):
    assert "Nothing to review yet." in ann.get("/review").text
    assert "nav-count" not in ann.get("/").text
    image_id = upload(ann)
    assert order(ann) == [image_id]
    assert "1 picture waits for review" in ann.get("/").text


def test_reviewing_the_last_one_says_so(ann, upload):
    image_id = upload(ann)
    version = ann.get(f"/images/{image_id}/state.json").json["version"]
    body = {"version": version, "batch": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}
    answer = ann.put(
        f"/images/{image_id}/state.json", json=body | {"reviewed": True, "annotations": []}
    )
    assert answer.status_code == 200
    page = ann.get("/review").text
    assert "Everything is reviewed." in page
    assert "1 of 1 reviewed" in page
    assert "Review in order" not in page


def test_going_on_follows_the_order_and_comes_back_to_what_was_passed_over(app, ann, inbox):
    ids = inbox(0.2, 0.9, 0.5, 0.9)
    walk = [following(ann)]
    for _ in range(4):
        walk.append(following(ann, walk[-1]))
    assert walk == [ids[n] for n in (3, 1, 2, 0, 3)]
    review(app, ids[1])
    assert following(ann, ids[1]) == ids[2]  # a reviewed one still has its place
    assert following(ann, ids[3]) == ids[2]


def test_nothing_follows_the_only_picture_that_waits(app, ann, inbox):
    ids = inbox(0.2, 0.9, None)
    review(app, ids[0])
    assert following(ann, ids[1]) is None
    assert following(ann, ids[0]) == ids[1]
    assert following(ann, ids[2]) == ids[1]  # no model has looked at it: from the beginning
    review(app, ids[1])
    assert following(ann) is None


@pytest.mark.parametrize("after", ["", "x", "-1", "4711", "9" * 40, "1%00", "1.5"])
def test_an_odd_place_to_go_on_from_is_the_beginning(ann, inbox, after):
    ids = inbox(0.2, 0.9)
    assert following(ann, after) in (ids[1], ids[0] if after == str(ids[1]) else ids[1])


def test_anothers_pictures_are_no_place_to_go_on_from(ann, bob, inbox):
    theirs = inbox(0.5, owner="bob")
    ids = inbox(0.2, 0.9)
    assert following(ann, theirs[0]) == ids[1]
    assert following(bob, ids[0]) == theirs[0]


def test_only_who_is_logged_in_has_an_inbox(app, ann):
    client = app.test_client()
    assert client.get("/review").status_code == 302
    assert client.get("/review/next").status_code == 401
    assert ann.post("/review").status_code == 405
    assert ann.post("/review/next").status_code == 405
    assert ann.get("/review?page=2").status_code == 404
    assert ann.get("/review?page=x").status_code == 200


def test_the_navigation_does_not_count_beyond_what_it_shows(ann, inbox, monkeypatch):
    monkeypatch.setattr(reviews, "COUNTED", 3)
    inbox(0.1, 0.2, 0.3, 0.4, 0.5)
    assert re.search(r'aria-hidden="true">3</b>', ann.get("/models").text)


def test_another_result_changes_the_place_in_the_inbox(app, ann, upload):
    first, second = upload(ann), upload(ann)
    assert order(ann) == [second, first]  # alike: the newer one first
    engine = services(app).detections.engine
    usual = engine.script
    engine.script, engine.model = (lambda picture: ()), "other.model"
    ann.post(f"/detect/{second}")
    assert order(ann) == [first, second]
    assert ann.post(f"/images/{second}/result", data={"model": "fake.test"}).status_code == 303
    assert order(ann) == [second, first]
    engine.script, engine.model = usual, "fake.test"


def test_what_a_person_decided_makes_a_picture_no_less_sure_when_a_model_looks_again(
    app, ann, upload
):
    image_id = upload(ann)  # a sure dog and an unsure cat
    found = ann.get(f"/images/{image_id}/state.json").json
    cat = found["detections"][1]
    word = {"ref": "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "verdict": "rejected"}
    word |= {"label": "cat", "box": cat["box"], "detection": cat["id"]}
    body = {"version": found["version"], "batch": word["ref"], "reviewed": False}
    ann.put(f"/images/{image_id}/state.json", json=body | {"annotations": [word]})

    def unsure() -> float | None:
        with app.app_context():
            return db.session.get_one(Image, image_id).uncertainty

    before = unsure()
    ann.post(f"/detect/{image_id}")
    assert unsure() < before


def test_the_inbox_is_read_from_its_index(app, ann, make_user, inbox):
    inbox(0.2, 0.9)
    owner_id = make_user("ann")
    with app.app_context():
        if db.engine.dialect.name != "sqlite":
            pytest.skip("SQLite explains its plan in one way")
        service = services(app).reviews
        statements = []
        for run in (
            lambda: service.inbox(owner_id, 2).slice(0, 1),
            lambda: service.next_to_review(owner_id, 1),
            lambda: service.waiting(owner_id),
        ):
            statements += _plans(run)
    plans = [plan for statement, plan in statements if "uncertainty IS NOT NULL" in statement]
    assert len(plans) >= 3
    for plan in plans:
        assert "ix_images_to_review (owner_id=?" in plan
        assert "TEMP B-TREE" not in plan  # in order already


def _plans(run) -> list[tuple[str, str]]:
    """What ``run`` sends, and how SQLite would answer it."""
    sent: list[tuple[str, tuple]] = []

    def record(_connection, _cursor, statement, parameters, *_rest) -> None:
        sent.append((statement, parameters))

    event.listen(db.engine, "before_cursor_execute", record)
    try:
        run()
    finally:
        event.remove(db.engine, "before_cursor_execute", record)
    connection = db.session.connection()
    return [
        (
            statement,
            str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()),
        )
        for statement, values in sent
        if statement.startswith("SELECT")
    ]


def test_an_inbox_of_many_pages_has_every_picture_once(ann, inbox):
    ids = inbox(*(n % 5 / 10 for n in range(11)))
    assert sorted(order(ann)) == sorted(ids)
    assert len(shown(ann, "/")) == 3  # the gallery is as it was


def test_reading_the_inbox_sends_the_same_queries_for_any_number(ann, inbox, count_queries):
    counts = []
    for _ in range(2):
        inbox(*(0.5,) * 2)
        with count_queries() as statements:
            ann.get("/review")
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_a_database_that_is_upgraded_has_its_pictures_in_the_inbox(app, ann, upload):
    """The migration counts as vision.uncertainty does; see its SQL."""
    [path] = (ROOT / "migrations" / "versions").glob("*_8ef7287509a9_*.py")
    unsure = runpy.run_path(str(path))["UNSURE"]
    ids = [upload(ann), upload(ann)]
    services(app).detections.engine.script = lambda picture: ()
    ann.post(f"/detect/{ids[1]}")
    with app.app_context():
        query = text("SELECT id, uncertainty FROM images ORDER BY id")
        before = db.session.execute(query).all()
        db.session.execute(text("UPDATE images SET uncertainty = NULL"))
        db.session.execute(text(unsure))
        after = db.session.execute(query).all()
        db.session.rollback()
    assert [row.uncertainty for row in after] == pytest.approx([row.uncertainty for row in before])
