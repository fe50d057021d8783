"""Label Studio's predictions beside annotations: boxes of models beside those of people."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import (
    Annotation,
    Detection,
    Image,
    ImageTag,
    Result,
    Tag,
    User,
    Verdict,
    utcnow,
)
from apps.services import import_plan
from apps.services.results import store_result
from apps.vision.types import Box, Detections
from apps.vision.zoo.registry import BLOOD_CELLS
from tests.labelled import pictures as picture_files
from tests.test_exports import made, pictures  # noqa: F401 (fixture)
from tests.test_imports import begun, confirmed, gallery, problems_of, row_of

HALF = 0.5  # pixels that a box may move on its way through percentages


@pytest.fixture
def several(app, pictures):  # noqa: F811
    """Of the five pictures one has boxes of its model alone, one of a person alone, one none."""
    with app.app_context():
        drawn = Annotation.image_id == pictures[1]
        db.session.execute(Annotation.__table__.delete().where(drawn))
        found = Detection.image_id == pictures[2]
        db.session.execute(Detection.__table__.delete().where(found))
        box = {"x1": 3.3, "y1": 4.4, "x2": 77.7, "y2": 88.8}
        here = {"image_id": pictures[3], "model": db.session.get_one(Image, pictures[3]).model}
        db.session.add(Detection(label="강아지", score=0.625, **here, **box))
        db.session.commit()
    return pictures


def all_boxes(app, name: str) -> dict[str, tuple[list[Any], list[Any], str | None]]:
    """SHA-256 of each picture of an account with at least one box, and who says what of it."""
    with app.app_context():
        images = select(Image).join(User, User.id == Image.owner_id).where(User.username == name)
        every = {}
        for image in db.session.scalars(images):
            said = db.session.scalars(select(Annotation).where(Annotation.image_id == image.id))
            found = db.session.scalars(
                select(Detection).where(Detection.image_id == image.id, Detection.score >= 0.5)
            )
            people = sorted((one.label, one.x1, one.y1, one.x2, one.y2) for one in said)
            models = sorted(
                (one.label, one.x1, one.y1, one.x2, one.y2, one.score, one.model) for one in found
            )
            every[image.sha256] = (people, models, image.model if models else None)
        return every


def test_an_export_of_both_comes_back_whole_in_another_account(app, ann, bob, several):
    archive = made(ann, "labelstudio")
    import_id = begun(bob, archive.fp.getvalue())
    wanted = all_boxes(app, "ann")
    people = sum(len(said) for said, _, _ in wanted.values())
    models = sum(len(found) for _, found, _ in wanted.values())
    assert (people, models) == (3, 7)
    report = row_of(app, import_id).report
    assert (report["pictures"], report["boxes"], report["model_boxes"]) == (5, 10, 7)
    counts = {row["name"]: (row["boxes"], row["pictures"]) for row in report["classes"]}
    assert counts == {"hot dog, big": (3, 3), "강아지": (4, 3), 'say "cheese"': (3, 3)}
    assert problems_of(app, import_id) == []
    assert "7 of them models" in bob.get(f"/imports/{import_id}").text
    confirmed(bob, import_id, count=3)
    assert row_of(app, import_id).boxes == 10
    got = all_boxes(app, "bob")
    assert got.keys() == wanted.keys()
    for key, (said, found, shown) in wanted.items():
        assert got[key][2] == shown
        for mine, other in ((said, got[key][0]), (found, got[key][1])):
            assert [box[0] for box in other] == [box[0] for box in mine]
            for one, two in zip(mine, other, strict=True):
                assert two[1:5] == pytest.approx(one[1:5], abs=HALF)
                assert two[5:] == one[5:]  # score and model
    with app.app_context():
        assert set(db.session.scalars(select(Annotation.verdict))) == {Verdict.DRAWN}
        ids = db.session.scalars(select(Image.id).where(Image.owner_id != 1)).all()
    for image_id in ids:
        for path in ("", "/result", "/boxes.json", "/state.json", "/compare"):
            answer = bob.get(f"/images/{image_id}{path}")
            assert answer.status_code in (200, 404)
            assert "None ms" not in answer.text
    again = made(bob, "labelstudio")
    first, second = (numbers(json.loads(one.read("tasks.json"))) for one in (archive, again))
    assert first == second


def numbers(tasks: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """How many boxes people and models have in each task, whatever the order of the tasks."""
    kinds = ("annotations", "predictions")
    count = lambda task, kind: sum(len(each["result"]) for each in task[kind])  # noqa: E731
    return sorted((count(task, kinds[0]), count(task, kinds[1])) for task in tasks)


def region(label: str, x: float, **more: object) -> dict[str, object]:
    value = {"x": x, "y": 10, "width": 25, "height": 50, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "value": value} | more


def tasks(*rows: dict[str, Any]) -> dict[str, bytes | str]:
    named = zip("abc", rows, strict=False)
    content = [{"id": n, "data": {"image": f"{n}.jpg"}} | row for n, row in named]
    return picture_files() | {"tasks.json": json.dumps(content)}


def results(app) -> dict[str, list[tuple[str, str, float, bool]]]:
    with app.app_context():
        rows = db.session.execute(
            select(Image.title, Detection).join(Detection, Detection.image_id == Image.id)
            .order_by(Detection.id)
        )  # fmt: skip
        found: dict[str, list[tuple[str, str, float, bool]]] = {}
        for title, box in rows:
            spoken = box.annotation_id is not None
            found.setdefault(title, []).append((box.model, box.label, box.score, spoken))
        return found


def test_each_models_predictions_are_a_result_with_its_scores(app, ann):
    files = tasks(
        {
            "annotations": [{"result": [region("dog", 10)]}],
            "predictions": [
                {"model_version": "one", "result": [region("cat", 40, score=0.75)]},
                {"model_version": "two\u202e", "score": 0.25, "result": [region("cat", 41)]},
                {"result": [region("cow", 60), region("dog", 10, score=7)]},
            ],
        },
        {"annotations": [], "predictions": [{"model_version": "m" * 99, "result": []}]},
    )
    import_id = begun(ann, files)
    assert (row_of(app, import_id).report["boxes"], row_of(app, import_id).report["model_boxes"]) \
        == (5, 4)  # fmt: skip
    assert any("without a score" in text for text in problems_of(app, import_id))
    confirmed(ann, import_id, count=3)
    assert results(app) == {
        "a.jpg": [
            ("one", "cat", 0.75, False),
            ("two", "cat", 0.25, False),
            ("imported", "cow", 1.0, False),
            ("imported", "dog", 1.0, False),
        ]
    }
    assert [label for label, _ in gallery(app)["a.jpg"]] == ["dog"]
    with app.app_context():
        image = db.session.scalars(select(Image).where(Image.title == "a.jpg")).one()
        assert image.model == "one"
        assert image.detected_at is not None
        assert image.uncertainty == pytest.approx(0.2)  # of one box with 0.75
        models = set(db.session.scalars(select(Result.model)))
        assert models == {"one", "two", "imported", "m" * 80}
        links = db.session.execute(select(Tag.name, ImageTag.source).join(ImageTag.tag)).all()
        assert dict(links) == {"dog": "model", "cat": "model"}  # cow is not in the present result


def test_classes_are_chosen_for_boxes_of_models_too(app, ann):
    both: dict[str, Any] = {
        "annotations": [{"result": [region("dog", 10)]}],
        "predictions": [{"model_version": "one", "result": [
            region("cat", 40, score=0.5), region("wolf", 40, score=0.75),
            region("dog", 70, score=0.5)]}],
    }  # fmt: skip
    import_id = begun(ann, tasks(both))
    names = [each["name"] for each in row_of(app, import_id).report["classes"]]
    places = {name: names.index(name) for name in names}
    fields: dict[str, Any] = {
        "keep": [str(places["cat"]), str(places["wolf"])],
        f"becomes-{places['cat']}": "pet",
        f"becomes-{places['wolf']}": "pet",
    }
    confirmed(ann, import_id, **fields)
    assert results(app) == {"a.jpg": [("one", "pet", 0.75, False)]}
    assert gallery(app)["a.jpg"] == []
    assert row_of(app, import_id).boxes == 1


@pytest.mark.parametrize(
    ("label", "x", "verdict"),
    [
        ("dog", 10, "accepted"),
        ("dog", 11, "changed"),
        ("cat", 10, "changed"),
        ("cat", 11, "changed"),
    ],
)
def test_boxes_that_a_person_made_of_predictions_are_not_there_twice(app, ann, label, x, verdict):
    both: dict[str, Any] = {
        "annotations": [{"result": [region(label, x, origin="prediction-changed"),
                                    region("cow", 61, origin="manual")]}],
        "predictions": [
            {"model_version": "one", "result": [
                region("dog", 10, score=0.75), region("cow", 60, score=0.5)]},
            {"model_version": "two", "result": [region("dog", 12, score=0.5)]},
        ],
    }  # fmt: skip
    confirmed(ann, begun(ann, tasks(both)), count=3)
    assert results(app) == {"a.jpg": [
        ("one", "dog", 0.75, True),
        ("one", "cow", 0.5, False),  # the person's was drawn beside it
        ("two", "dog", 0.5, True),  # the same object to another model
    ]}  # fmt: skip
    with app.app_context():
        word, drawn = db.session.scalars(select(Annotation).order_by(Annotation.id)).all()
        found = (word.found_model, word.found_label, word.found_score)
        assert (word.label, word.verdict, *found) == (label, verdict, "one", "dog", 0.75)
        model_box = db.session.scalars(select(Detection).order_by(Detection.id)).all()[0]
        corners = (model_box.x1, model_box.y1, model_box.x2, model_box.y2)
        assert (word.found_x1, word.found_y1, word.found_x2, word.found_y2) == corners
        assert (drawn.label, drawn.verdict, drawn.found_model) == ("cow", "drawn", None)
        links = db.session.execute(select(Tag.name, ImageTag.source).join(ImageTag.tag)).all()
        assert dict(links) == {label: "model", "cow": "model"}  # no dog where it is a cat
        place = Box("dog", 0.9, model_box.x1, model_box.y1, model_box.x2, model_box.y2)
        again = Detections((place,), "three")
        store_result(
            services(app).annotations.session, word.image_id, again, utcnow(), 5
        )  # a later run of some model
        spoken = select(Detection.annotation_id).where(Detection.model == "three")
        assert db.session.scalars(spoken).all() == [word.id]


def test_a_box_that_became_of_a_class_that_is_left_out_is_drawn(app, ann):
    both: dict[str, Any] = {
        "annotations": [{"result": [region("cat", 10, origin="prediction-changed")]}],
        "predictions": [{"model_version": "one", "result": [region("dog", 10, score=0.5)]}],
    }
    import_id = begun(ann, tasks(both))
    names = [each["name"] for each in row_of(app, import_id).report["classes"]]
    confirmed(ann, import_id, keep=[str(names.index("cat"))])
    assert results(app) == {}
    with app.app_context():
        assert db.session.scalars(select(Annotation.verdict)).all() == ["drawn"]


def test_the_model_may_look_at_imported_results_again(app, ann):
    both: dict[str, Any] = {
        "annotations": [{"result": [region("dog", 11)]}],
        "predictions": [{"model_version": "one", "result": [region("cat", 60, score=0.5)]}],
    }
    confirmed(ann, begun(ann, tasks(both)), detect="on")
    with app.app_context():
        image = db.session.scalars(select(Image).where(Image.title == "a.jpg")).one()
        assert image.status == "done"
        assert image.model not in (None, "one")
        assert "one" in set(db.session.scalars(select(Result.model)))


def test_predictions_alone_come_as_the_words_of_a_person_as_before(app, ann):
    alone: dict[str, Any] = {"annotations": [], "predictions": [
        {"model_version": "one", "result": [region("dog", 10, score=0.5)]}]}  # fmt: skip
    import_id = begun(ann, tasks(alone))
    assert row_of(app, import_id).report["model_boxes"] == 0
    assert any("What a model predicted is taken." in text for text in problems_of(app, import_id))
    confirmed(ann, import_id)
    assert [label for label, _ in gallery(app)["a.jpg"]] == ["dog"]
    assert results(app) == {}


def test_a_models_name_is_cut_when_it_is_read_and_cleaned_once_not_for_every_box(
    app, ann, monkeypatch
):
    cleaned: list[str] = []

    def counted(text: str) -> str:
        cleaned.append(text)
        return text[:80]

    monkeypatch.setattr(import_plan, "_model_name", counted)
    long = [region("dog", x, score=0.5) for x in range(40)]
    odd = [{"model_version": said, "result": [region("dog", 9, score=0.5)]}
           for said in (None, True, 1.5, ["x"] * 9, {"a": 1})]  # fmt: skip
    confirmed(ann, begun(ann, tasks({
        "annotations": [{"result": [region("dog", 10)]}],
        "predictions": [{"model_version": "m" * 99_999, "result": long}, *odd,
                        {"model_version": 7, "result": [region("dog", 9, score=0.5)]}],
    })))  # fmt: skip
    names = {model for model, *_ in results(app)["a.jpg"]}
    assert names == {"m" * 80, "", "7"}
    assert sorted(set(cleaned)) == ["", "7", "m" * 200]
    assert len(cleaned) <= 2 * 3  # the preview reads the archive, and the import once more


def test_models_that_are_not_known_here_have_no_link_and_those_that_are_have_one(app, ann):
    known = BLOOD_CELLS.name
    models = (("up/stream", "dog"), (known, "dog"), ("other one", "cat"))
    confirmed(ann, begun(ann, tasks({
        "annotations": [{"result": [region("dog", 10)]}],
        "predictions": [{"model_version": model, "result": [region(label, 40, score=0.75)]}
                        for model, label in models],
    })))  # fmt: skip
    with app.app_context():
        image_id = db.session.scalar(select(Image.id).where(Image.title == "a.jpg"))
    for left, right in (("up/stream", known), (known, "other one")):
        pages = [ann.get(f"/images/{image_id}").text,
                 ann.get(f"/images/{image_id}/compare?left={left}&right={right}").text]  # fmt: skip
        for page in pages:
            links = re.findall(r'href="(/models/[^"]+)"', page)
            assert links == [f"/models/{known}"]
            assert "None ms" not in page
        assert "up/stream" in pages[0]
        assert "other one" in pages[0]
    assert ann.get(f"/models/{known}").status_code == 200


def test_a_model_that_found_nothing_has_looked(app, ann):
    nothing = {"model_version": "two", "result": []}
    cat = {"model_version": "one", "result": [region("cat", 40, score=0.75)]}
    confirmed(ann, begun(ann, tasks(
        {"annotations": [{"result": [region("dog", 10)]}], "predictions": [cat, nothing]},
        {"annotations": [{"result": []}], "predictions": [nothing]},
    )))  # fmt: skip
    with app.app_context():
        rows = db.session.execute(
            select(Image.title, Image.model, Result.model, Image.uncertainty)
            .join(Result, Result.image_id == Image.id)
            .order_by(Image.title, Result.model)
        ).all()
        assert [tuple(row[:3]) for row in rows] == [
            ("a.jpg", "one", "one"), ("a.jpg", "one", "two"), ("b.jpg", "two", "two"),
        ]  # fmt: skip
        image_id = db.session.scalar(select(Image.id).where(Image.title == "b.jpg"))
    page = ann.get(f"/images/{image_id}").text
    assert "The model found nothing here." in page
    assert "None ms" not in page
    assert "About this model" not in page
    assert results(app) == {"a.jpg": [("one", "cat", 0.75, False)]}


def test_no_more_models_of_a_picture_come_than_anybody_has(app, ann):
    many = [{"model_version": n, "result": []} for n in range(102)]
    import_id = begun(ann, tasks({"annotations": [{"result": [region("dog", 10)]}],
                                  "predictions": many}))  # fmt: skip
    assert any("more than 100 models" in text for text in problems_of(app, import_id))
    confirmed(ann, import_id)
    with app.app_context():
        assert len(db.session.scalars(select(Result.model)).all()) == 100
