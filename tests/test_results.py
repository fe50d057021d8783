"""Results of several models for one picture: kept, compared, chosen; and their masks."""

import io
import re

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import func, select, text
from sqlalchemy.exc import InvalidRequestError

from apps.container import services
from apps.extensions import db
from apps.models import Detection, Image, ImageStatus, Result
from apps.vision.masks import decode, encode
from apps.vision.types import Box
from tests.conftest import picture_bytes, weights_here

SSD, MASK = "ssd300_vgg16.coco_v1", "maskrcnn_resnet50_fpn.coco_v1"
USUAL = "fake.test"  # the model of the tests' engine
DOG = Box("dog", 0.9, 4, 4, 40, 40)
CAT = Box("cat", 0.8, 30, 20, 60, 44)


@pytest.fixture
def ready(app) -> None:
    """The weights of two more models are there, as far as anybody asks."""
    for name in (SSD, MASK):
        weights_here(app, name)


@pytest.fixture
def look(app, ready):
    """look(client, image_id, "model", box, …): that model looks and finds these boxes."""

    def look(client, image_id: int, model: str, *boxes: Box) -> None:
        services(app).detections.engine.script = lambda picture: boxes
        data = {"model": model} if model != USUAL else {}
        assert client.post(f"/detect/{image_id}", data=data).status_code == 303

    return look


def rows(app, model: str) -> list[str]:
    """Labels that the database keeps of ``model``."""
    with app.app_context():
        query = select(Detection.label).where(Detection.model == model)
        return sorted(db.session.scalars(query))


def tags_of(client, image_id: int) -> set[str]:
    return set(re.findall(r"search=([^\"&]+)\"", client.get(f"/images/{image_id}/card").text))


def shown(page: str) -> list[str]:
    return re.findall(r'<li class="c\d+[^"]*" data-box="\d+" [^>]*data-label="([^"]+)"', page)


# -- kept ----------------------------------------------------------------------------------


def test_another_model_replaces_what_is_shown_and_the_earlier_result_stays(app, ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    page = ann.get(f"/images/{image_id}").text
    assert shown(page) == ["cat"]
    assert "Compare with “" in page
    assert (rows(app, USUAL), rows(app, SSD)) == (["cat", "dog"], ["cat"])
    assert tags_of(ann, image_id) == {"cat"}


def test_the_same_model_again_replaces_its_own_boxes_alone(app, ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT, CAT)
    look(ann, image_id, SSD, DOG)
    assert (rows(app, USUAL), rows(app, SSD)) == (["cat", "dog"], ["dog"])
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Result)) == 2


def test_a_model_that_found_nothing_can_be_compared_too(ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD)
    assert "The model found nothing here." in ann.get(f"/images/{image_id}").text
    page = ann.get(f"/images/{image_id}/compare").text
    assert tally(page) == {"both": 0, "left": 1, "right": 0}


def test_one_result_says_how_to_get_another(ann, upload, ready):
    page = ann.get(f"/images/{upload(ann)}").text
    assert "Compare with “" not in page
    assert "Detect again with another model to compare" in page


@pytest.mark.usefixtures("one_model")
def test_nothing_suggests_another_model_where_there_is_none(ann, upload):
    page = ann.get(f"/images/{upload(ann)}").text
    assert "Detect again with another model" not in page
    assert 'name="model"' not in page


def test_deleting_a_picture_counts_and_takes_the_boxes_of_every_model(app, ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    assert "3 boxes" in ann.get(f"/images/delete/{image_id}").text
    ann.post(f"/images/delete/{image_id}")
    with app.app_context():
        assert db.session.scalars(select(Detection)).all() == []
        assert db.session.scalars(select(Result)).all() == []


def test_the_administrators_page_names_every_result(ann, admin, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    page = ann.get  # the owner's own page is another one
    assert page(f"/crud/images/{image_id}").status_code == 403
    text_ = admin.get(f"/crud/images/{image_id}").text
    assert "<dt>Boxes</dt><dd>1</dd>" in text_
    assert f"{USUAL} (2 boxes)" in text_


# -- tags follow the present result --------------------------------------------------------


def test_a_new_threshold_makes_tags_of_the_present_result_alone(ann, upload, look):
    image_id = upload(ann)  # dog 0.9, cat 0.3
    look(ann, image_id, SSD, Box("bird", 0.4, 1, 1, 9, 9))
    assert tags_of(ann, image_id) == set()
    fields = {"username": "ann", "email": "ann@example.com", "threshold": "0.2"}
    assert ann.post("/auth/account", data=fields).status_code == 303
    assert tags_of(ann, image_id) == {"bird"}


def test_a_tag_that_the_present_result_lacks_is_taken_off_for_now_only(app, ann, upload, look):
    image_id = upload(ann)
    ann.post(f"/images/{image_id}/tags", data={"name": "dog"})  # now a person's
    look(ann, image_id, SSD, CAT)
    with app.app_context():
        dog = services(app).tags.find("dog").id
    ann.post(f"/images/{image_id}/tags/{dog}/delete")
    look(ann, image_id, SSD, CAT, DOG)
    assert tags_of(ann, image_id) == {"cat", "dog"}


# -- the choice of the present one ---------------------------------------------------------


def test_an_earlier_result_becomes_the_present_one_without_detecting(app, ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    services(app).detections.engine.script = lambda picture: pytest.fail("it looked again")
    answer = ann.post(f"/images/{image_id}/result", data={"model": USUAL})
    assert (answer.status_code, answer.location) == (303, f"/images/{image_id}")
    page = ann.get(f"/images/{image_id}").text
    assert shown(page) == ["dog", "cat"]
    assert f'href="/models/{SSD}"' in page  # under "Other results" now
    assert tags_of(ann, image_id) == {"dog"}
    assert (rows(app, USUAL), rows(app, SSD)) == (["cat", "dog"], ["cat"])


def test_using_an_earlier_result_settles_a_failed_picture(app, ann, upload, look):
    image_id = upload(ann)
    services(app).detections.engine.script = lambda picture: 1 / 0
    for _ in range(3):
        ann.post(f"/detect/{image_id}", data={"model": SSD})
        with app.app_context():
            services(app).detections.run(image_id)
            services(app).detections.run(image_id)
    assert 'data-status="failed"' in ann.get(f"/images/{image_id}").text
    assert ann.post(f"/images/{image_id}/result", data={"model": USUAL}).status_code == 303
    page = ann.get(f"/images/{image_id}").text
    assert 'data-status="done"' in page
    assert "Detection failed." not in page


@pytest.mark.parametrize("model", ["", "nonsense", SSD, "a" * 300, "%s\x00"])
def test_only_a_kept_result_can_be_used_or_shown(ann, upload, ready, model):
    image_id = upload(ann)
    assert ann.post(f"/images/{image_id}/result", data={"model": model}).status_code == 404
    if not model:
        return
    for address in ("compare?left=", "compare?right=", "boxes.json?model=", "annotated?model="):
        path, _, name = address.partition("?")
        answer = ann.get(f"/images/{image_id}/{path}", query_string={name[:-1]: model})
        assert answer.status_code == (200 if path == "compare" else 404)  # nothing to compare yet


def test_a_result_cannot_be_used_while_the_picture_waits(app, ann, upload, look):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    with app.app_context():
        db.session.get_one(Image, image_id).status = ImageStatus.RUNNING
        db.session.commit()
    answer = ann.post(f"/images/{image_id}/result", data={"model": USUAL})
    assert answer.status_code == 409
    assert "already" in answer.text
    with app.app_context():
        assert db.session.get_one(Image, image_id).model == SSD


# -- compared ------------------------------------------------------------------------------


def tally(page: str) -> dict[str, int]:
    return {who: int(n) for who, n in re.findall(r'data-tally="(\w+)">(\d+)<', page)}


def objects(page: str) -> list[tuple[str, str, str]]:
    """(who saw it, left score, right score) of the rows that are not hidden."""
    found = re.findall(
        r'<tr class="is-(\w+)( d-none)?"[^>]*data-left="([^"]*)" data-right="([^"]*)"', page
    )
    return [(who, left, right) for who, hidden, left, right in found if not hidden]


@pytest.fixture
def compared(ann, upload, look) -> int:
    """A picture at which two models looked: they agree on the dog, more or less."""
    image_id = upload(ann)
    look(ann, image_id, SSD, DOG, CAT)
    look(ann, image_id, MASK, Box("dog", 0.6, 5, 5, 40, 40), Box("bird", 0.7, 1, 1, 9, 9))
    return image_id


def test_two_results_stand_side_by_side_with_what_both_found(ann, compared):
    page = ann.get(f"/images/{compared}/compare?left={SSD}&right={MASK}").text
    assert tally(page) == {"both": 1, "left": 1, "right": 1}
    assert objects(page) == [("both", "0.9", "0.6"), ("left", "0.8", ""), ("right", "", "0.7")]
    assert "data-share>33 %<" in page
    assert page.count("data-boxes") == 2
    assert page.count("<rect") == 4
    assert page.count('class="box is-both"') == 2
    assert [n for _, n in re.findall(r'data-total="(\w+)">(\d+)<', page)] == ["2", "2"]


def test_the_threshold_of_the_address_decides_without_a_script(ann, compared):
    address = f"/images/{compared}/compare?left={SSD}&right={MASK}&threshold="
    page = ann.get(f"{address}0.65").text
    assert tally(page) == {"both": 0, "left": 2, "right": 1}
    assert objects(page)[0] == ("left", "0.9", "0.6")  # the other one saw it, but is not sure
    nothing = ann.get(f"{address}0.95").text
    assert tally(nothing) == {"both": 0, "left": 0, "right": 0}
    assert objects(nothing) == []
    assert re.search(r'small" data-none-shown', nothing)
    for odd in ("nan", "x", "-5", "1e9"):
        assert ann.get(address + odd).status_code == 200


def test_the_present_result_is_compared_with_the_one_before(ann, compared):
    page = ann.get(f"/images/{compared}/compare").text
    chosen = re.findall(r'<option value="([^"]+)" selected>', page)
    assert chosen == [SSD, MASK]
    assert f"left={SSD}&amp;right={MASK}" in ann.get(f"/images/{compared}").text


def test_any_two_kept_results_can_be_chosen_and_no_others(ann, compared):
    address = f"/images/{compared}/compare"
    page = ann.get(f"{address}?left={USUAL}&right={SSD}").text
    assert re.findall(r'<option value="([^"]+)" selected>', page) == [USUAL, SSD]
    same = ann.get(f"{address}?left={SSD}&right={SSD}").text
    assert tally(same) == {"both": 2, "left": 0, "right": 0}
    missing = ann.get(f"{address}?left=nonsense")
    assert missing.status_code == 404
    assert "has not looked at this picture" in missing.text


def test_one_result_alone_cannot_be_compared_and_says_what_to_do(ann, upload):
    answer = ann.get(f"/images/{upload(ann)}/compare")
    assert answer.status_code == 200
    assert "no two results to compare yet" in answer.text


def test_the_queries_do_not_grow_with_the_boxes_or_the_results(ann, upload, look, count_queries):
    image_id = upload(ann)
    counts = []
    for number, model in ((1, SSD), (60, MASK)):
        look(ann, image_id, model, *(Box("dog", 0.9, n, 1, n + 2, 9) for n in range(number)))
        for page in (f"/images/{image_id}", f"/images/{image_id}/compare"):
            with count_queries() as statements:
                assert ann.get(page).status_code == 200
            counts.append(len(statements))
    assert counts[:2] == counts[2:]


@pytest.mark.parametrize("page", ["/", "/images/{}/card", "/images/delete/{}"])
def test_pages_that_show_no_boxes_read_none(ann, upload, look, count_queries, page):
    image_id = upload(ann)
    look(ann, image_id, SSD, CAT)
    with count_queries() as statements:
        ann.get(page.format(image_id))
    assert not [statement for statement in statements if "detections.x1" in statement]


def test_the_boxes_of_one_result_are_found_by_an_index(app, ann, upload):
    if db_is_not_sqlite(app):
        pytest.skip("SQLite explains its plan in one way")
    with app.app_context():
        plan = db.session.execute(
            text("EXPLAIN QUERY PLAN SELECT * FROM detections WHERE image_id = 1 AND model = 'm'")
        ).all()
    assert "ix_detections_image_id_model (image_id=? AND model=?)" in str(plan)


def db_is_not_sqlite(app) -> bool:
    with app.app_context():
        return db.engine.dialect.name != "sqlite"


# -- downloads -----------------------------------------------------------------------------


def test_downloads_are_of_the_present_result_unless_another_is_named(ann, compared):
    address = f"/images/{compared}/boxes.json"
    assert ann.get(address).json["model"] == MASK
    other = ann.get(f"{address}?model={SSD}").json
    assert (other["model"], [box["label"] for box in other["boxes"]]) == (SSD, ["dog", "cat"])
    assert other["detected_at"] < ann.get(address).json["detected_at"]
    drawn = [
        ann.get(f"/images/{compared}/annotated", query_string=query).data
        for query in ({}, {"model": SSD}, {"model": MASK})
    ]
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_picture_nobody_has_looked_at_has_no_boxes_yet(app, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        image.status, image.model, image.detected_at = ImageStatus.QUEUED, None, None
        db.session.execute(text("DELETE FROM detections"))
        db.session.execute(text("DELETE FROM results"))
        db.session.commit()
    found = ann.get(f"/images/{image_id}/boxes.json").json
    assert (found["boxes"], found["model"], found["detected_at"]) == ([], None, None)
    assert ann.get(f"/images/{image_id}/annotated").status_code == 200
    assert ann.get(f"/images/{image_id}").status_code == 200
    assert ann.get(f"/images/{image_id}/compare").status_code == 200


# -- masks ---------------------------------------------------------------------------------

OVAL = np.hypot((np.arange(64) - 30) / 20, (np.arange(48)[:, None] - 24) / 16) < 1


@pytest.fixture
def masked(ann, upload, look) -> int:
    """A white picture with a masked dog, and the result of a model without masks."""
    image_id = upload(ann, picture_bytes((64, 48), "PNG", "white"))
    look(ann, image_id, SSD, DOG)
    look(ann, image_id, MASK, Box("dog", 0.9, 10, 8, 50, 40, encode(OVAL)), CAT)
    return image_id


def test_masks_are_drawn_over_the_picture_and_can_be_switched_off(ann, masked):
    page = ann.get(f"/images/{masked}").text
    assert len(re.findall(r'<path class="mask" d="M[\d. LMZ]+Z"', page)) == 1
    assert 'id="masks"' in page
    compared = ann.get(f"/images/{masked}/compare").text
    assert compared.count('class="mask"') == 1
    assert 'id="masks"' in compared


def test_a_result_without_masks_has_no_switch_for_them(ann, masked):
    ann.post(f"/images/{masked}/result", data={"model": SSD})
    page = ann.get(f"/images/{masked}").text
    assert 'class="mask"' not in page
    assert 'id="masks"' not in page


def test_masks_come_along_as_coco_segmentation(ann, masked):
    dog, cat = ann.get(f"/images/{masked}/boxes.json").json["boxes"]
    assert dog["segmentation"]["size"] == [48, 64]
    assert np.array_equal(decode(dog["segmentation"]["counts"], (64, 48)), OVAL)
    assert "segmentation" not in cat


def test_the_annotated_picture_shows_masks_through_which_one_sees(ann, masked):
    data = ann.get(f"/images/{masked}/annotated?threshold=0.85").data
    drawn = np.asarray(Picture.open(io.BytesIO(data))).astype(int)
    inside, outside = drawn[30, 30], drawn[44, 4]
    assert outside.min() > 240
    assert inside.min() < 200 < inside.max()


def test_a_mask_that_was_not_asked_for_is_an_error_and_not_a_query(app, masked):
    with app.app_context(), pytest.raises(InvalidRequestError, match="mask"):
        _ = db.session.scalars(select(Detection)).first().mask
