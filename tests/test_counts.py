"""The counts that triggers keep are exact, whatever happens to the rows and in what order."""

import io
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from apps.container import services
from apps.extensions import db
from apps.models import (
    VISIBLE,
    Image,
    ImageStatus,
    ImageTag,
    PictureCount,
    Role,
    Tag,
    TagCount,
    TagSource,
)
from apps.vision.types import Box
from tests.conftest import DATABASES, app_on, picture_bytes


@pytest.fixture(params=DATABASES)
def app(request):
    return app_on(request)


def script(app, *labels: str) -> None:
    """Make the fake engine find ``labels`` in every picture, sure of all of them."""
    found = [Box(label, 0.9, 1, 1, 9, 9) for label in labels]
    services(app).detections.engine.script = lambda picture: found


def counted(app) -> tuple[dict, dict]:
    """Pictures and bytes of each account, and pictures of each account and tag: the counts."""
    with app.app_context():
        query = select(
            PictureCount.owner_id, func.sum(PictureCount.pictures), func.sum(PictureCount.bytes)
        ).group_by(PictureCount.owner_id)
        pictures = {row[0]: (row[1], int(row[2])) for row in db.session.execute(query) if row[1]}
        query = select(TagCount.owner_id, TagCount.tag_id, func.sum(TagCount.pictures)).group_by(
            TagCount.owner_id, TagCount.tag_id
        )
        tags = {(row[0], row[1]): row[2] for row in db.session.execute(query) if row[2]}
        return pictures, tags


def recounted(app) -> tuple[dict, dict]:
    """The same from the rows themselves."""
    with app.app_context():
        query = select(Image.owner_id, func.count(), func.sum(Image.bytes)).group_by(Image.owner_id)
        pictures = {row[0]: (row[1], int(row[2])) for row in db.session.execute(query)}
        query = (
            select(Image.owner_id, ImageTag.tag_id, func.count())
            .join(Image, Image.id == ImageTag.image_id)
            .where(VISIBLE)
            .group_by(Image.owner_id, ImageTag.tag_id)
        )
        return pictures, {(row[0], row[1]): row[2] for row in db.session.execute(query)}


def chips(client) -> dict[str, int]:
    """Tag -> number, as the gallery shows them."""
    found = re.findall(r"</span>([^<]+) <b>(\d+)</b></a>", client.get("/").text)
    return {name: int(number) for name, number in found}


def tag_id(app, name: str) -> int:
    with app.app_context():
        return db.session.scalars(select(Tag.id).where(Tag.name == name)).one()


def test_uploads_and_detections_count(app, ann, upload):
    for _ in range(3):
        image_id = upload(ann)
    assert chips(ann) == {"dog": 3}
    assert "3 pictures" in ann.get("/").text
    script(app, "cat", "bird")
    ann.post(f"/detect/{image_id}")
    assert chips(ann) == {"dog": 2, "bird": 1, "cat": 1}
    assert counted(app) == recounted(app)


def test_a_person_adds_and_removes(app, ann, upload):
    first, second = upload(ann), upload(ann)
    ann.post(f"/images/{first}/tags", data={"name": "holiday"})
    assert chips(ann) == {"dog": 2, "holiday": 1}
    dog, holiday = tag_id(app, "dog"), tag_id(app, "holiday")
    ann.post(f"/images/{first}/tags/{dog}/delete")  # a model found it: it stays as "removed"
    ann.post(f"/images/{first}/tags/{holiday}/delete")  # this one goes
    assert chips(ann) == {"dog": 1}
    ann.post(f"/images/{first}/tags", data={"name": "dog"})
    assert chips(ann) == {"dog": 2}
    ann.post(f"/images/{second}/tags/{dog}/delete")
    ann.post(f"/images/delete/{second}")
    assert chips(ann) == {"dog": 1}
    assert counted(app) == recounted(app)


def test_a_new_threshold_counts(app, ann, upload):
    for _ in range(2):
        upload(ann)
    for threshold, expected in ((0.2, {"cat": 2, "dog": 2}), (0.95, {}), (0.5, {"dog": 2})):
        ann.post(
            "/auth/account",
            data={"username": "ann", "email": "ann@example.com", "threshold": threshold},
        )
        assert chips(ann) == expected
    assert counted(app) == recounted(app)


def test_administrators_merge_rename_and_delete_tags(app, ann, bob, upload, admin):
    for client in (ann, ann, bob):
        image_id = upload(client)
    bob.post(f"/images/{image_id}/tags", data={"name": "hound"})
    hound = tag_id(app, "hound")
    assert re.search(r">hound</a>.*?text-end\">1<", admin.get("/crud/tags").text, re.DOTALL)
    admin.post(f"/crud/tags/{tag_id(app, 'dog')}", data={"name": "hound", "merge": "1"})
    assert (chips(ann), chips(bob)) == ({"hound": 2}, {"hound": 1})
    admin.post(f"/crud/tags/{hound}", data={"name": "Hund"})
    assert chips(ann) == {"Hund": 2}
    assert "On 3 pictures." in admin.get(f"/crud/tags/{hound}").text
    assert counted(app) == recounted(app)
    admin.post(f"/crud/tags/{hound}/delete")
    assert (chips(ann), chips(bob)) == ({}, {})
    assert counted(app) == recounted(app)


def test_pictures_move_between_accounts_with_their_tags(app, ann, bob, upload, admin, make_user):
    image_id, _ = upload(ann), upload(ann)
    admin.post(f"/crud/images/{image_id}", data={"title": "x", "owner": make_user("bob")})
    assert (chips(ann), chips(bob)) == ({"dog": 1}, {"dog": 1})
    assert bob.get("/images/search?search=dog").text.count("<article") == 1
    assert counted(app) == recounted(app)


def test_many_pictures_and_whole_accounts_are_deleted(app, ann, bob, upload, admin, make_user):
    ids = [upload(ann) for _ in range(3)]
    upload(bob)
    admin.post("/crud/images/delete", data={"ids": ids[:2], "confirmed": "1"})
    assert chips(ann) == {"dog": 1}
    admin.post("/crud/users/delete", data={"ids": [make_user("ann")], "confirmed": "1"})
    assert set(counted(app)[0]) == {make_user("bob")}
    assert counted(app) == recounted(app)


def test_rows_that_only_the_database_deletes_count_too(app, ann, upload):
    upload(ann), upload(ann)
    with app.app_context():
        db.session.execute(delete(Image))  # their tags follow by ON DELETE CASCADE
        db.session.commit()
    assert counted(app) == recounted(app) == ({}, {})


def test_what_is_rolled_back_was_never_counted(app, ann, upload):
    image_id = upload(ann)
    before = counted(app)
    with app.app_context():
        services(app).tags.set_model_tags(image_id, ["cat", "cow"])
        db.session.execute(delete(Image))
        db.session.rollback()
    assert counted(app) == before == recounted(app)


def test_a_tag_link_must_name_the_pictures_owner(app, ann, upload, make_user):
    image_id = upload(ann)
    bob = make_user("bob")
    with app.app_context():
        cow = services(app).tags.ensure("cow")
        db.session.add(
            ImageTag(owner_id=bob, image_id=image_id, tag_id=cow.id, source=TagSource.PERSON)
        )
        with pytest.raises(IntegrityError):
            db.session.commit()


def test_space_on_the_account_page_is_what_the_originals_take(app, ann, upload):
    data = picture_bytes((300, 200), "PNG")
    image_id = upload(ann, data)
    upload(ann)
    with app.app_context():
        total = db.session.scalar(select(func.sum(Image.bytes)))
        assert services(app).images.totals(1).bytes == total
    ann.post(f"/images/delete/{image_id}")
    with app.app_context():
        assert services(app).images.totals(1).bytes == total  # in the trash
    ann.post("/trash/delete", data={"all": "1", "confirmed": "1"})
    with app.app_context():
        assert services(app).images.totals(1).bytes == total - len(data)


def test_waiting_pictures_are_counted_by_their_status(app, ann, upload):
    ids = [upload(ann) for _ in range(4)]
    with app.app_context():
        for image_id, status in zip(ids, ImageStatus, strict=True):
            db.session.get_one(Image, image_id).status = status
        db.session.commit()
        assert services(app).images.totals(1).waiting == 2
    assert ann.get("/images/status").json["waiting"] == 2


# -- any order, and several at once --------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_changes(seed, app, ann, bob, upload, make_user):
    dice = random.Random(seed)
    owners = {make_user("ann"): ann, make_user("bob"): bob}
    with app.app_context():
        for _ in range(40):
            ids = list(db.session.scalars(select(Image.id)))
            _change(app, dice, ids, owners, upload)
            db.session.rollback()
    assert counted(app) == recounted(app)


def _change(app, dice, ids, owners, upload) -> None:
    """One change by one service."""
    words = ["dog", "cat", "cow", "bird"]
    tags, owner_id = services(app).tags, dice.choice(list(owners))
    kind = dice.randrange(7) if ids else 0
    if kind < 2:
        script(app, *dice.sample(words, 2))
        upload(owners[owner_id])
        return
    image = db.session.get_one(Image, dice.choice(ids))
    if kind == 2:
        tags.add(image.owner_id, image.id, dice.choice(words))
    elif kind == 3:
        found = db.session.scalars(select(ImageTag).where(ImageTag.image_id == image.id, VISIBLE))
        for link in found.all()[:1]:
            tags.remove(image.owner_id, image.id, link.tag_id)
    elif kind == 4:
        tags.retag(owner_id, dice.choice((0.1, 0.95)))
    elif kind == 5:
        services(app).image_admin.update(image.id, title="x", owner_id=owner_id)
    elif dice.random() < 0.5:
        services(app).images.delete(dice.sample(ids, min(2, len(ids))))
    else:
        one, other = dice.sample(words, 2)
        tags.rename(tags.ensure(one).id, other, merge=True)


def test_several_people_and_an_administrator_at_once(app, client_of):
    names = ["ann", "ann", "bob", "bob"]
    clients = [client_of(name) for name in names]
    admin = client_of("root", role=Role.ADMIN)

    def work(number: int) -> None:
        client, dice = clients[number], random.Random(number)
        for _ in range(8):
            files = [(io.BytesIO(picture_bytes()), "a.jpg")]
            answer = client.post("/upload", data={"image": files})
            page = answer.location
            for word in dice.sample(["cow", "cat", "hen", "dog"], 2):
                client.post(f"{page}/tags", data={"name": word})
            if dice.random() < 0.5:
                admin.post(page.replace("/images/", "/crud/images/") + "/delete")

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, range(len(clients))))
    assert counted(app) == recounted(app)


@pytest.mark.parametrize("app", DATABASES[1:], indirect=True)  # SQLite has one writer at a time
def test_two_transactions_count_the_same_tag_without_waiting(app, ann, upload):
    first, second = upload(ann), upload(ann)
    ann.post(f"/images/{upload(ann)}/tags", data={"name": "cow"})  # whose row both want to join
    cow = tag_id(app, "cow")
    with app.app_context():
        engine = db.engine
    with engine.connect() as one, engine.connect() as other:
        other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")  # waiting would be an error
        for connection, image_id in ((one, first), (other, second)):
            connection.execute(
                ImageTag.__table__.insert().values(
                    owner_id=1, image_id=image_id, tag_id=cow, source=TagSource.PERSON
                )
            )
        other.commit()
        one.commit()
    assert chips(ann) == {"dog": 3, "cow": 3}
    ann.post(f"/images/{first}/tags/{cow}/delete")  # the next change joins their rows
    with app.app_context():
        rows = db.session.scalars(select(TagCount.pictures).where(TagCount.tag_id == cow)).all()
    assert rows == [2]
