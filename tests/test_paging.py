"""Long lists, page by page: every picture once, in order, with an honest total."""

import itertools
import re
import uuid

import pytest
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, ImageTag, Role, TagSource
from apps.services import image_admin, images
from tests.conftest import DATABASES, app_on

TITLES = ["IMG_1.jpg", "Über Köln.jpg", "100% _raw_.png", 'say "hi".png', "강아지.jpg", "img 2.JPG"]


@pytest.fixture(params=DATABASES)
def app(request):
    """Pages of four in the gallery and of five in the lists."""
    return app_on(request, GALLERY_PAGE_SIZE=4, ADMIN_PAGE_SIZE=5)


def fill(app, owner_id: int, count: int, tags: tuple[str, ...] = ()) -> list[int]:
    """Ids of new pictures, oldest first; the n-th has each tag whose place in ``tags`` divides n.

    Places are 1, 2, 3 …, so the first tag is on all of them.
    """
    statuses = list(ImageStatus)
    with app.app_context():
        ids = []
        for n in range(count):
            key = uuid.uuid4().hex
            image = Image(
                owner_id=owner_id, title=TITLES[n % len(TITLES)], key=key, extension="jpg",
                media_type="image/jpeg", sha256=key, bytes=1000 - 7 * n % 40, width=4, height=3,
                status=statuses[n % 4],
            )  # fmt: skip
            db.session.add(image)
            db.session.flush()
            ids.append(image.id)
            for place, name in enumerate(tags, 1):
                if n % place == 0:
                    tag = services(app).tags.ensure(name)
                    link = ImageTag(image_id=image.id, tag_id=tag.id, source=TagSource.PERSON)
                    db.session.add(link)
        db.session.commit()
        return ids


def shown(client, path: str) -> list[list[int]]:
    """Ids of the pictures on every page of a list."""
    pages, sign = [], "&" if "?" in path else "?"
    while True:
        answer = client.get(f"{path}{sign}page={len(pages) + 1}")
        if answer.status_code == 404 and pages:
            return pages
        assert answer.status_code == 200
        found = re.findall(r'<article[^>]*data-image="(\d+)"|name="ids" value="(\d+)"', answer.text)
        pages.append([int(one or other) for one, other in found])
        if not found:
            return pages[:-1]


def flat(pages: list[list[int]]) -> list[int]:
    return [image_id for page in pages for image_id in page]


@pytest.mark.parametrize("count", [3, 4, 5, 8, 11, 17])
def test_every_picture_is_on_one_page_of_the_gallery(count, app, ann, make_user):
    ids = fill(app, make_user("ann"), count)
    pages = shown(ann, "/")
    assert flat(pages) == ids[::-1]
    assert {len(page) for page in pages[:-1]} <= {4}


def test_the_pages_of_a_search_hold_what_has_the_tag(app, ann, bob, make_user):
    ids = fill(app, make_user("ann"), 17, ("sea", "seaside", "deer"))
    fill(app, make_user("bob"), 3, ("sea",))
    assert flat(shown(ann, "/images/search?search=SEA")) == ids[::-1]  # spelled so: that tag alone
    assert flat(shown(ann, "/images/search?search=easi")) == ids[::2][::-1]
    either = [ids[n] for n in range(17) if n % 2 == 0 or n % 3 == 0]
    text = ann.get("/images/search?search=de").text  # in "seaside" and "deer"
    assert flat(shown(ann, "/images/search?search=de")) == either[::-1]
    assert f"{len(either)} pictures" in text
    assert "No picture of yours" in ann.get("/images/search?search=desk").text


def test_a_search_with_very_many_pictures_goes_on_without_a_total(app, ann, make_user, monkeypatch):
    monkeypatch.setattr(images, "MANY", 5)
    ids = fill(app, make_user("ann"), 17, ("wood", "woods"))
    assert flat(shown(ann, "/images/search?search=woo")) == ids[::-1]
    first = ann.get("/images/search?search=woo").text
    assert "More than 16 pictures" in first  # one tag alone has 17
    assert ">…</span>" in first
    last = ann.get("/images/search?search=woo&page=5").text
    assert "17 pictures" in last
    assert ">…</span>" not in last.rpartition(">5</a>")[2]
    assert ann.get("/images/search?search=woo&page=6").status_code == 404


def test_a_tag_that_was_taken_off_is_found_no_more(app, ann, make_user):
    ids = fill(app, make_user("ann"), 6, ("sea",))
    with app.app_context():
        link = db.session.scalars(select(ImageTag).where(ImageTag.image_id == ids[2])).one()
        link.source = TagSource.REMOVED
        db.session.commit()
    assert flat(shown(ann, "/images/search?search=sea")) == [i for i in ids[::-1] if i != ids[2]]


def test_a_picture_leads_to_the_ones_beside_it(app, ann, bob, make_user):
    first, second = fill(app, make_user("ann"), 2)
    other = fill(app, make_user("bob"), 1)[0]
    third = fill(app, make_user("ann"), 1)[0]
    page = ann.get(f"/images/{second}").text
    assert f'href="/images/{first}" rel="next"' in page
    assert f'href="/images/{third}" rel="prev"' in page
    assert f'href="/images/{other}"' not in ann.get(f"/images/{third}").text


# -- administrators ------------------------------------------------------------------------

KEYS = {  # titles and states sort by the database's own alphabet
    "created": lambda image: image.id,
    "owner": lambda image: (image.owner.username, image.id),
    "bytes": lambda image: (image.bytes, image.id),
}
FILTERS = {
    "": lambda image: True,
    "status=done": lambda image: image.status is ImageStatus.DONE,
    "owner=2": lambda image: image.owner_id == 2,
    "search=img": lambda image: "img" in image.title.casefold(),
    "search=nn": lambda image: image.owner.username == "ann",
}


@pytest.mark.parametrize("narrowed", FILTERS)
def test_every_order_of_the_list_has_every_picture_once(narrowed, app, make_user, admin):
    for name in ("zoe", "ann", "bob"):
        fill(app, make_user(name), 9)
    with app.app_context():
        query = select(Image).options(joinedload(Image.owner))
        rows = {image.id: image for image in db.session.scalars(query)}
    kept = [image_id for image_id in rows if FILTERS[narrowed](rows[image_id])]
    assert kept
    for column, sign in itertools.product(("created", "title", "owner", "status", "bytes"), "+-"):
        sort = column if sign == "+" else f"-{column}"
        found = flat(shown(admin, f"/crud/images?sort={sort}&{narrowed}"))
        assert sorted(found) == sorted(kept), sort
        if column in KEYS:
            keys = [KEYS[column](rows[image_id]) for image_id in found]
            assert keys == sorted(keys, reverse=sign == "-"), sort


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("img", {"IMG_1.jpg", "img 2.JPG"}),
        ("ÜBER K", {"Über Köln.jpg"}),
        ("강아", {"강아지.jpg"}),
        ("강아지", {"강아지.jpg"}),
        ("%25", {"100% _raw_.png"}),
        ("_raw", {"100% _raw_.png"}),
        ('y "hi', {'say "hi".png'}),
        ("g_1", {"IMG_1.jpg"}),
        ('"', {'say "hi".png'}),
        ("img_1*", set()),
        ("NOT", set()),
    ],
)
def test_the_search_finds_any_part_of_a_title(text, titles, app, make_user, admin):
    fill(app, make_user("ann"), 6)
    page = admin.get(f"/crud/images?search={text}").text
    found = re.findall(r'class="crud-title" scope="row"><a [^>]*>([^<]*)</a>', page)
    assert {title.replace("&#34;", '"') for title in found} == titles


def test_the_search_follows_new_titles(app, make_user, admin):
    image_id = fill(app, make_user("ann"), 1)[0]
    admin.post(f"/crud/images/{image_id}", data={"title": "harbour.jpg", "owner": 1})
    assert flat(shown(admin, "/crud/images?search=arbou")) == [image_id]
    assert flat(shown(admin, "/crud/images?search=img")) == []
    admin.post(f"/crud/images/{image_id}/delete")
    assert flat(shown(admin, "/crud/images?search=arbou")) == []


def test_a_title_search_with_very_many_pictures_goes_on_without_a_total(
    app, make_user, admin, monkeypatch
):
    monkeypatch.setattr(image_admin, "MANY", 3)
    fill(app, make_user("ann"), 24)
    pages = shown(admin, "/crud/images?search=img&status=queued")
    with app.app_context():
        query = select(Image.id).where(
            Image.folded.contains("img"), Image.status == ImageStatus.QUEUED
        )
        assert sorted(flat(pages)) == sorted(db.session.scalars(query))
    first = admin.get("/crud/images?search=img").text
    assert "More than 5 pictures" in first  # a full page and one more
    assert flat(shown(admin, "/crud/images?search=img")) == sorted(
        flat(shown(admin, "/crud/images?search=img&sort=created")), reverse=True
    )


def test_totals_of_filters(app, make_user, admin):
    for name, count in (("ann", 9), ("bob", 6)):
        fill(app, make_user(name), count)
    with app.app_context():
        rows = db.session.execute(select(Image.owner_id, Image.status)).all()
    for owner in ("", make_user("ann"), make_user("bob")):
        for status in ("", *ImageStatus):
            count = sum(
                (not owner or row.owner_id == owner) and (not status or row.status is status)
                for row in rows
            )
            text = admin.get(f"/crud/images?owner={owner}&status={status}").text
            assert re.search(rf"\b{count} pictures?\b", text), (owner, status)


def test_tags_and_users_show_how_many_pictures_they_have(app, make_user, client_of):
    for name, count in (("ann", 4), ("bob", 2)):
        fill(app, make_user(name), count, ("sea", "sky"))
    admin = client_of("root", role=Role.ADMIN)
    with app.app_context():
        services(app).tags.create("unused")
        rows = {tag.name: count for tag, count in services(app).tags.several(range(9))}
    assert rows == {"sea": 6, "sky": 3, "unused": 0}
    text = admin.get("/crud/tags?sort=-pictures").text
    assert re.findall(r'text-end">(\d+)</td>', text) == ["6", "3", "0"]
    text = admin.get("/crud/users?sort=-pictures").text
    assert re.findall(r"owner=\d+\">(\d+)<", text) == ["4", "2", "0"]
