"""Administrators' pages about the tags that all accounts share."""

import re

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import ImageTag, Tag, TagSource

MODEL, PERSON, REMOVED = TagSource.MODEL, TagSource.PERSON, TagSource.REMOVED


@pytest.fixture
def make_tag(app):
    """make_tag("hound", {image_id: source}) -> id of a tag, made if missing, on these pictures."""

    def make_tag(name: str, on: dict[int, TagSource] | None = None) -> int:
        with app.app_context():
            tag_id = services(app).tags.ensure(name).id
            for image_id, source in (on or {}).items():
                db.session.merge(ImageTag(image_id=image_id, tag_id=tag_id, source=source))
            db.session.commit()
            return tag_id

    return make_tag


@pytest.fixture
def plain(ann, upload, app):
    """plain() -> id of a new picture without any tag."""

    def plain() -> int:
        image_id: int = upload(ann)
        with app.app_context():
            for link in db.session.scalars(select(ImageTag).where(ImageTag.image_id == image_id)):
                db.session.delete(link)
            db.session.commit()
        return image_id

    return plain


def links(app, name: str) -> dict[int, TagSource]:
    """Picture -> source of the tag's links."""
    with app.app_context():
        query = select(ImageTag.image_id, ImageTag.source).join(ImageTag.tag)
        rows = db.session.execute(query.where(Tag.name == name))
        return dict(rows.all())


def names(app) -> set[str]:
    with app.app_context():
        return set(db.session.scalars(select(Tag.name)))


# -- list ----------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do_next(admin):
    page = admin.get("/crud/tags").text
    assert "There are no tags yet." in page
    assert 'href="/crud/tags/new"' in page


def test_the_list_counts_the_pictures_that_show_a_tag(app, make_tag, plain, admin):
    make_tag("hound", {plain(): PERSON, plain(): MODEL, plain(): REMOVED})
    page = admin.get("/crud/tags?search=HOU").text
    assert "1 tag<" in page
    assert re.search(r">hound</a></th>\s*<td class=\"text-end\">2</td>", page)


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", ["ant", "Bee", "cat"]),
        ("sort=-name", ["cat", "Bee", "ant"]),
        ("sort=-pictures", ["Bee", "ant", "cat"]),
        ("sort=created", ["cat", "Bee", "ant"]),
        ("sort=nonsense", ["ant", "Bee", "cat"]),
        ("search=%25", []),
        ("search=BE", ["Bee"]),
    ],
)
def test_the_list_can_be_searched_and_ordered(query, order, make_tag, plain, app, admin):
    on = {plain(): PERSON}
    with app.app_context():
        services(app).tags.delete(db.session.scalars(select(Tag.id)).all())
    make_tag("cat")
    make_tag("Bee", on)
    make_tag("ant")
    page = admin.get(f"/crud/tags?{query}").text
    assert re.findall(r'aria-label="Choose ([^"]+)"', page.partition("</main>")[0]) == order
    if not order:
        assert "Nothing matches." in page


# -- create and rename ---------------------------------------------------------------------


def test_a_tag_can_be_written(app, admin):
    answer = admin.post("/crud/tags/new", data={"name": "  two   words "})
    assert answer.status_code == 303
    assert "two words" in admin.get(answer.location).text
    assert names(app) == {"two words"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "Write a tag first."),
        ("   ", "Write a tag first."),
        ("x" * 41, "at most 40 characters"),
        ("a\0b", "control characters"),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_an_unusable_tag_says_why_and_keeps_what_was_typed(
    name, reason, existing, app, make_tag, admin
):
    address = f"/crud/tags/{make_tag('dog')}" if existing else "/crud/tags/new"
    answer = admin.post(address, data={"name": name, "merge": "1"})
    assert answer.status_code == 422
    assert reason in answer.text
    if len(name) > 3:
        assert f'value="{name}"' in answer.text
    assert names(app) == ({"dog"} if existing else set())


def test_a_tag_that_exists_in_other_capitals_is_not_written_twice(app, make_tag, admin):
    make_tag("dog")
    answer = admin.post("/crud/tags/new", data={"name": "DOG"})
    assert answer.status_code == 409
    assert "exists already" in answer.text
    assert 'value="DOG"' in answer.text
    assert names(app) == {"dog"}


def test_a_rename_shows_on_the_pictures(app, make_tag, plain, ann, admin):
    image_id = plain()
    tag_id = make_tag("hound", {image_id: PERSON})
    assert admin.post(f"/crud/tags/{tag_id}", data={"name": "Hunting dog"}).status_code == 303
    assert "Hunting dog" in ann.get(f"/images/{image_id}").text
    assert admin.post(f"/crud/tags/{tag_id}", data={"name": "hunting DOG"}).status_code == 303
    assert links(app, "hunting DOG") == {image_id: PERSON}


# -- merge ---------------------------------------------------------------------------------


def test_a_rename_onto_another_tag_asks_first(app, make_tag, plain, admin):
    hound = make_tag("hound", {plain(): PERSON, plain(): PERSON})
    make_tag("canine", {plain(): PERSON})
    answer = admin.post(f"/crud/tags/{hound}", data={"name": "Canine"})
    assert answer.status_code == 409
    assert "Merge “hound” into “canine”?" in answer.text
    assert "“hound” is on 2 pictures." in answer.text
    assert "“canine” is on 1 picture." in answer.text
    assert 'name="merge" value="1"' in answer.text
    assert 'value="Canine"' in answer.text
    assert {"hound", "canine"} <= names(app)


def test_a_merge_keeps_the_pictures_of_both_tags(app, make_tag, plain, admin):
    first, second, third = plain(), plain(), plain()
    hound = make_tag("hound", {first: PERSON, second: MODEL})
    make_tag("canine", {second: PERSON, third: MODEL})
    answer = admin.post(f"/crud/tags/{hound}", data={"name": "canine", "merge": "1"})
    assert answer.status_code == 303
    assert links(app, "canine") == {first: PERSON, second: PERSON, third: MODEL}
    assert "hound" not in names(app)


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        (MODEL, MODEL, MODEL),
        (PERSON, MODEL, PERSON),
        (MODEL, PERSON, PERSON),
        (PERSON, REMOVED, PERSON),
        (REMOVED, PERSON, PERSON),
        (REMOVED, MODEL, REMOVED),
        (MODEL, REMOVED, REMOVED),
        (REMOVED, REMOVED, REMOVED),
        (REMOVED, None, REMOVED),
        (None, REMOVED, REMOVED),
    ],
)
def test_a_merge_lets_a_persons_word_stand_above_a_models(
    one, other, kept, app, make_tag, plain, admin
):
    image_id = plain()
    hound = make_tag("hound", {image_id: one} if one else {})
    make_tag("canine", {image_id: other} if other else {})
    admin.post(f"/crud/tags/{hound}", data={"name": "canine", "merge": "1"})
    assert links(app, "canine") == {image_id: kept}


def test_a_merge_into_the_tag_of_a_label_keeps_what_a_person_took_off(
    app, ann, upload, make_tag, plain, admin
):
    taken_off = upload(ann)  # the model finds a dog here
    hound = make_tag("hound", {taken_off: REMOVED})
    admin.post(f"/crud/tags/{hound}", data={"name": "dog", "merge": "1"})
    admin.post(f"/crud/images/{taken_off}/detect")
    assert links(app, "dog")[taken_off] is REMOVED
    assert ">dog</a>" not in admin.get(f"/crud/images/{taken_off}").text


# -- delete --------------------------------------------------------------------------------


def test_deleting_a_tag_asks_first_and_leaves_the_pictures(app, make_tag, plain, ann, admin):
    image_id = plain()
    tag_id = make_tag("hound", {image_id: PERSON})
    page = admin.get(f"/crud/tags/{tag_id}/delete").text
    assert "“hound” is on 1 picture." in page
    assert "hound" in names(app)
    answer = admin.post(f"/crud/tags/{tag_id}/delete")
    assert answer.status_code == 303
    assert "1 tag deleted." in admin.get(answer.location).text
    assert "hound" not in names(app)
    assert "hound" not in ann.get(f"/images/{image_id}").text


def test_deleting_many_asks_first_and_then_deletes_those(app, make_tag, plain, admin):
    ids = [str(make_tag("ant", {plain(): PERSON})), str(make_tag("bee"))]
    make_tag("wasp")
    question = admin.post("/crud/tags/delete", data={"ids": ids})
    assert question.status_code == 200
    assert "Delete these 2 tags?" in question.text
    assert "“ant” is on 1 picture." in question.text
    assert {"ant", "bee", "wasp"} <= names(app)
    answer = admin.post("/crud/tags/delete", data={"ids": ids, "confirmed": "1"})
    assert answer.status_code == 303
    assert "2 tags deleted." in admin.get(answer.location).text
    assert names(app) & {"ant", "bee", "wasp"} == {"wasp"}
