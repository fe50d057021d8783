"""Several pictures of the gallery at once."""

import re
from collections.abc import Callable

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus
from apps.services.requests import MAX_AT_ONCE
from apps.vision.zoo.registry import BLOOD_CELLS
from tests.conftest import weights_here

SSD = "ssd300_vgg16.coco_v1"
ADDRESS = "/images/detect"


@pytest.fixture
def ready(app) -> None:
    weights_here(app, SSD)


@pytest.fixture
def pause(app, monkeypatch) -> Callable[[], list[int]]:
    """pause() -> what the queue is told from now on; it does nothing, so pictures wait."""

    def pause() -> list[int]:
        told: list[int] = []
        monkeypatch.setattr(services(app).queue, "enqueue", told.append)
        return told

    return pause


def models(app) -> dict[int, str | None]:
    with app.app_context():
        return {image.id: image.model for image in db.session.scalars(select(Image))}


def waiting(app) -> set[int]:
    with app.app_context():
        query = select(Image.id).where(Image.status == ImageStatus.QUEUED)
        return set(db.session.scalars(query))


def send(client, *ids: object, follow: bool = True, **fields: str):
    data = {"id": [str(one) for one in ids], **fields}
    return client.post(ADDRESS, data=data, follow_redirects=follow)


def test_the_gallery_has_a_box_for_each_tile_and_a_bar_that_works_without_scripts(
    ann, upload, ready
):
    ids = {upload(ann) for _ in range(3)}
    page = ann.get("/images/search?search=dog").text
    assert {int(n) for n in re.findall(r'name="id" value="(\d+)" form="selection"', page)} == ids
    form = re.search(r'<form[^>]* id="selection" method="post" action="([^"]+)"', page)
    assert form[1] == ADDRESS
    assert 'name="next" value="/images/search?search=dog"' in page
    assert f'<option value="{SSD}">' in page
    assert f'name="id" value="{min(ids)}"' in ann.get(f"/images/{min(ids)}/card").text


def test_only_models_that_are_ready_are_offered(ann, upload):
    upload(ann)
    page = ann.get("/").text
    assert f'value="{BLOOD_CELLS.name}"' in page
    assert f'value="{SSD}"' not in page


@pytest.mark.usefixtures("one_model")
def test_one_model_is_no_choice(ann, upload):
    upload(ann)
    page = ann.get("/").text
    assert 'id="selection"' in page
    assert 'name="model"' not in page


def test_an_empty_gallery_has_nothing_to_select(ann):
    assert 'id="selection"' not in ann.get("/").text


def test_the_chosen_pictures_are_detected_with_the_chosen_model(app, ann, upload, ready):
    first, second, third = (upload(ann) for _ in range(3))
    answer = send(ann, first, third, model=SSD, next="/?page=1", follow=False)
    assert (answer.status_code, answer.location) == (303, "/?page=1")
    assert "2 pictures are queued for detection." in ann.get("/").text
    assert models(app) == {first: SSD, second: "fake.test", third: SSD}


def test_without_a_model_it_is_the_usual_one(app, ann, upload, pause):
    image_id = upload(ann)
    idle = pause()
    assert "1 picture is queued for detection." in send(ann, image_id, model="").text
    assert idle == [image_id]


def test_one_update_for_all_of_them(ann, upload, pause, count_queries):
    ids = [upload(ann) for _ in range(5)]
    pause()
    with count_queries() as statements:
        send(ann, *ids, follow=False)
    assert len([statement for statement in statements if statement.startswith("UPDATE")]) == 1


def test_those_that_wait_already_are_left_alone_and_counted(app, ann, upload, pause):
    first, second = upload(ann), upload(ann)
    with app.app_context():
        db.session.get_one(Image, first).status = ImageStatus.RUNNING
        db.session.commit()
    idle = pause()
    page = send(ann, first, second, second).text
    assert "1 picture is queued for detection." in page
    assert "1 picture was left alone, because it is waiting already." in page
    assert idle == [second]
    assert waiting(app) == {second}


def test_other_accounts_pictures_are_as_if_they_were_not_there(app, ann, bob, upload, pause):
    mine, theirs = upload(ann), upload(bob)
    idle = pause()
    page = send(ann, mine, theirs, 4711).text
    assert "1 picture is queued for detection." in page
    assert "2 pictures are no longer there." in page
    assert idle == [mine]
    assert waiting(app) == {mine}


@pytest.mark.parametrize(
    "ids", [[], ["x"], ["-1"], ["1.5"], ["99999999999999999999"], ["1; DROP TABLE images"], [""]]
)
def test_no_picture_or_nonsense_says_what_to_do(app, ann, upload, pause, ids):
    upload(ann)
    idle = pause()
    assert "Select some pictures first." in send(ann, *ids).text
    assert idle == []


def test_too_many_at_once_are_refused_with_the_limit(app, ann, upload, pause):
    image_id = upload(ann)
    idle = pause()
    answer = send(ann, image_id, *range(10_000, 10_000 + MAX_AT_ONCE))
    assert answer.status_code == 422
    assert f"at most {MAX_AT_ONCE} pictures" in answer.text
    assert idle == []
    many = send(ann, image_id, *range(10_000, 10_000 + MAX_AT_ONCE - 1))
    assert f"{MAX_AT_ONCE - 1} pictures are no longer there." in many.text
    assert idle == [image_id]


@pytest.mark.parametrize(("model", "status"), [("nonsense", 404), (SSD, 422), ("a\x00b", 404)])
def test_a_model_that_is_unknown_or_not_ready_changes_nothing(
    app, ann, upload, pause, model, status
):
    image_id = upload(ann)
    idle = pause()
    assert send(ann, image_id, model=model).status_code == status
    assert idle == []


def test_the_way_back_never_leaves_this_site(ann, upload):
    answer = send(ann, upload(ann), next="//evil.example", follow=False)
    assert answer.location == "/"


def test_visitors_and_forms_without_a_token_are_refused(app, ann, upload, pause):
    image_id = upload(ann)
    idle = pause()
    assert send(app.test_client(), image_id, follow=False).location.startswith("/auth/login")
    assert ann.get(ADDRESS).status_code == 404  # no stored file has this name
    assert ann.put(ADDRESS).status_code == 405
    app.config["WTF_CSRF_ENABLED"] = True
    answer = send(ann, image_id)
    assert answer.status_code == 400
    assert "Load the page again" in answer.text
    assert idle == []
