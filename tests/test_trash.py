"""The trash: what goes in comes back as it was, for its owner alone, and goes for good in time."""

import uuid
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import select, update

from apps.config import ConfigError
from apps.container import services
from apps.extensions import db
from apps.models import (
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Result,
    Role,
    TagSource,
    TrashedImage,
    Verdict,
    utcnow,
)
from apps.services.pictures import bytes_of
from apps.vision.masks import encode
from tests.conftest import DATABASES, app_on, picture_bytes, stored_files


@pytest.fixture(params=DATABASES)
def app(request):
    return app_on(request)


def rows(app, *but: str) -> dict[str, list[dict]]:
    """Every row of what belongs to pictures, without the columns ``but``."""
    with app.app_context():
        found = {}
        for model in (Image, Result, Annotation, Detection, ImageTag):
            table = sa.inspect(model).local_table
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [
                {name: value for name, value in row._mapping.items() if name not in but}
                for row in db.session.execute(query)
            ]
        return found


@pytest.fixture
def rich(app, ann, upload, make_user) -> int:
    """A picture with a mask, a person's word about a box, and tags of all three kinds."""
    image_id = upload(ann, name="rich.jpg")
    ann.post(f"/images/{image_id}/tags", data={"name": "holiday"})
    author_id = make_user("ann")
    with app.app_context():
        box = db.session.scalars(select(Detection).order_by(Detection.id)).first()
        said = Annotation(
            image_id=image_id, ref=str(uuid.uuid4()), author_id=author_id, label="dog",
            verdict=Verdict.ACCEPTED, x1=1, y1=1, x2=9, y2=9, found_model=box.model,
            found_label="dog", found_score=0.9, found_x1=1, found_y1=1, found_x2=9, found_y2=9,
        )  # fmt: skip
        db.session.add(said)
        db.session.flush()
        box.annotation_id, box.mask = said.id, encode(np.ones((48, 64), bool))
        tag = services(app).tags.ensure("off")
        db.session.add(ImageTag(image_id=image_id, tag_id=tag.id, source=TagSource.REMOVED))
        image = db.session.get_one(Image, image_id)
        image.reviewed_at, image.uncertainty, image.version = utcnow(), 0.25, 7
        db.session.commit()
    return image_id


def trashed(app) -> dict[int, str]:
    with app.app_context():
        return {row.id: row.title for row in db.session.scalars(select(TrashedImage))}


def delete(client, *ids: int):
    data = {"id": [str(one) for one in ids]}
    return client.post("/images/trash", data=data, follow_redirects=True).text


def restore(client, *ids: int, **fields: str):
    data = {"id": [str(one) for one in ids], **fields}
    return client.post("/trash/restore", data=data, follow_redirects=True).text


def test_what_was_deleted_comes_back_as_it_was(app, ann, upload, rich):
    last = upload(ann)  # the number of a deleted last row may be given again
    before = rows(app, "id", "annotation_id")
    places = rows(app)["images"]
    assert "1 picture is in the trash." in delete(ann, rich)
    assert [row["id"] for row in rows(app)["images"]] == [last]
    assert ann.get(f"/images/{rich}").status_code == 404
    [trashed_id] = trashed(app)
    assert "1 picture is back." in restore(ann, trashed_id)
    after = rows(app, "id", "annotation_id")
    for name, kept in before.items():
        assert sorted(kept, key=str) == sorted(after[name], key=str), name
    assert rows(app)["images"] == places  # even its place in the gallery
    with app.app_context():
        [said] = db.session.scalars(select(Annotation.id))
        linked = select(Detection.annotation_id).where(Detection.annotation_id.is_not(None))
        assert db.session.scalars(linked).all() == [said]
    assert trashed(app) == {}
    assert "holiday" in ann.get(f"/images/{rich}").text


def test_an_undo_brings_back_what_one_request_deleted(app, ann, bob, upload):
    first, second, third = (upload(ann) for _ in range(3))
    delete(ann, first)
    page = delete(ann, second, third)
    moment = page.partition('name="deleted_at" value="')[2].partition('"')[0]
    assert restore(bob, deleted_at=moment).count("is not in the trash") == 1
    assert "2 pictures are back." in restore(ann, deleted_at=moment, next="/")
    assert len(trashed(app)) == 1
    assert "is not in the trash" in restore(ann, deleted_at=moment)
    assert "Select some pictures first." in restore(ann, deleted_at="soon")


def test_a_number_that_was_given_again_is_no_trouble(app, ann, upload):
    first = upload(ann, name="first.jpg")
    delete(ann, first)
    upload(ann, name="second.jpg")
    restore(ann, *trashed(app))
    titles = {row["title"] for row in rows(app)["images"]}
    assert titles == {"first.jpg", "second.jpg"}


def test_a_picture_that_was_uploaded_again_stays_in_the_trash(app, ann, upload):
    data = picture_bytes()
    first, other = upload(ann, data, "same.jpg"), upload(ann)
    delete(ann, first, other)
    upload(ann, data, "same.jpg")
    both = restore(ann, all="1")
    assert "1 picture is back." in both
    assert "1 picture stays in the trash, because the same file was uploaded again." in both
    assert "“same.jpg” cannot come back" in restore(ann, *trashed(app))


def test_a_picture_that_waited_waits_again(app, ann, upload, monkeypatch):
    image_id = upload(ann)
    with app.app_context():
        running = {"status": ImageStatus.RUNNING, "attempts": 2, "claimed_by": "gone"}
        db.session.execute(update(Image).values(**running))
        db.session.commit()
    told: list[int] = []
    monkeypatch.setattr(services(app).queue, "enqueue", told.append)
    delete(ann, image_id)
    restore(ann, *trashed(app))
    [row] = rows(app)["images"]
    assert (row["status"], row["attempts"], row["claimed_by"]) == (ImageStatus.QUEUED, 0, None)
    assert told == [row["id"]]


def test_the_trash_is_its_owners_alone(app, ann, bob, admin, upload):
    image_id = upload(ann, name="mine.jpg")
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        thumbnail, original = image.thumbnail_name, image.original_name
    assert "no longer there" in delete(bob, image_id)
    assert trashed(app) == {}
    delete(ann, image_id)
    [trashed_id] = trashed(app)
    assert "mine.jpg" in ann.get("/trash").text
    assert ann.get(f"/images/{thumbnail}").status_code == 200
    assert ann.get(f"/images/{original}").status_code == 404
    for other in (bob, admin):
        assert "mine.jpg" not in other.get("/trash").text
        assert other.get(f"/images/{thumbnail}").status_code == 404
        restore(other, trashed_id)
        restore(other, all="1")
        for fields in ({"id": trashed_id}, {"all": "1"}):
            other.post("/trash/delete", data={"confirmed": "1", **fields})
    assert trashed(app) == {trashed_id: "mine.jpg"}
    visitor = app.test_client()
    for method, path in (("get", "/trash"), ("post", "/trash/restore"), ("post", "/trash/delete")):
        assert getattr(visitor, method)(path).status_code == 302
    assert ann.get("/trash/restore").status_code == 405


def test_deleting_for_good_asks_first_and_takes_the_files(app, ann, upload):
    first, second = upload(ann), upload(ann)
    delete(ann, first, second)
    one, _ = trashed(app)
    assert "Delete 1 picture for good?" in ann.post("/trash/delete", data={"id": one}).text
    assert len(stored_files(app)) == 6
    answer = ann.post("/trash/delete", data={"id": one, "confirmed": "1"}, follow_redirects=True)
    assert "1 picture is deleted for good." in answer.text
    assert len(stored_files(app)) == 3
    assert "Empty the trash?" in ann.get("/trash/delete?all=1").text
    ann.post("/trash/delete", data={"all": "1", "confirmed": "1"})
    assert (trashed(app), stored_files(app)) == ({}, [])
    assert "The trash is empty." in ann.get("/trash").text


def test_old_pictures_go_by_themselves_and_others_stay(app, ann, upload):
    old, new = upload(ann, name="old.jpg"), upload(ann, name="new.jpg")
    delete(ann, old, new)
    with app.app_context():
        before = utcnow() - timedelta(days=30, minutes=1)
        which = TrashedImage.title == "old.jpg"
        db.session.execute(update(TrashedImage).where(which).values(deleted_at=before))
        db.session.commit()
    with app.app_context():
        assert services().trash.purge_due() == 1
        assert services().trash.purge_due() == 0
    assert set(trashed(app).values()) == {"new.jpg"}
    assert len(stored_files(app)) == 3


def test_the_command_deletes_what_is_old_enough(app, ann, upload):
    delete(ann, upload(ann))
    runner = app.test_cli_runner()
    assert "0 pictures" in runner.invoke(args=["trash", "purge"]).output
    assert "1 picture " in runner.invoke(args=["trash", "purge", "--all"]).output
    assert (trashed(app), stored_files(app)) == ({}, [])


def test_the_trash_counts_against_the_space_and_goes_with_its_account(app, ann, upload, make_user):
    image_id = upload(ann)
    owner_id = make_user("ann")

    def used() -> int:
        with app.app_context():
            return bytes_of(services().trash.session, owner_id)

    before = used()
    delete(ann, image_id)
    assert used() == before > 0
    make_user("root", role=Role.ADMIN)
    with app.app_context():
        services().accounts.delete([owner_id])
    assert (trashed(app), stored_files(app)) == ({}, [])


@pytest.mark.parametrize("days", [0, 1.5, -3])
def test_a_senseless_number_of_days_stops_the_start(make_app, days):
    with pytest.raises(ConfigError, match="SIGHTBOX_TRASH_DAYS"):
        make_app(TRASH_DAYS=days)
