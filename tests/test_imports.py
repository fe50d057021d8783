"""Imports: what people see before, that all comes or nothing, and the way back."""

import hashlib
import io
import json
import stat
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import func, select, update
from sqlalchemy.orm import undefer

from apps.api.rest import PREFIX
from apps.container import services
from apps.extensions import db
from apps.jobs import TryLater
from apps.models import (
    Annotation,
    Detection,
    Image,
    ImageTag,
    Import,
    ImportedPicture,
    ImportStatus,
    Result,
    Tag,
    TrashedImage,
    User,
    Verdict,
    utcnow,
)
from apps.services import import_jobs
from apps.services import imports as limits
from apps.services import native as native_format
from apps.services.import_files import ZipFiles
from apps.services.import_plan import Plan
from apps.services.import_rows import RowWriter
from apps.services.native import (
    PICTURES,
    NativeAnnotation,
    NativeBox,
    NativeFound,
    NativePicture,
    NativeResult,
    NativeTag,
    read_pictures,
)
from apps.storage.local import LocalStorage
from apps.vision import masks
from apps.vision.formats.incoming import recognise
from tests.conftest import picture_bytes, stored_files
from tests.labelled import BOXES, FORMATS, coco, coco_content, packed, pictures

JSON = {"Accept": "application/json"}


def sent(client, data: bytes | dict[str, bytes | str], name: str = "set.zip", status: int = 201):
    """The answer to an upload, as the page's script asks for it."""
    content = data if isinstance(data, bytes) else packed(data)
    form = {"archive": (io.BytesIO(content), name)}
    answer = client.post("/imports/upload", data=form, headers=JSON)
    assert answer.status_code == status, answer.text
    return answer.json


def begun(client, data: bytes | dict[str, bytes | str]) -> int:
    return sent(client, data)["id"]


def row_of(app, import_id: int) -> Import:
    with app.app_context():
        row = db.session.get_one(Import, import_id)
        assert row.report is None or row.report  # is read before the row is taken away
        db.session.expunge(row)
        return row


def confirmed(client, import_id: int, count: int | None = None, **fields: Any):
    """Confirms as the page does, with every class kept unless ``keep`` says more."""
    form = {"keep": [str(n) for n in range(count or 2)]} | fields
    return client.post(f"/imports/{import_id}/confirm", data=form)


def gallery(app) -> dict[str, list[tuple[str, list[float]]]]:
    """Titles of all pictures with what people say about them."""
    with app.app_context():
        images = db.session.scalars(select(Image).order_by(Image.id)).all()
        return {
            image.title: [
                (said.label, [said.x1, said.y1, said.x2, said.y2]) for said in said_of(image)
            ]
            for image in images
        }


def said_of(image: Image):
    query = select(Annotation).where(Annotation.image_id == image.id)
    return db.session.scalars(query.order_by(Annotation.id))


def nothing_left(app) -> bool:
    with app.app_context():
        rows = db.session.scalar(select(func.count()).select_from(ImportedPicture))
    return not gallery(app) and not rows and stored_files(app) == []


@pytest.fixture
def idle(app, monkeypatch):
    """Imports wait until the test has them worked on."""
    monkeypatch.setattr(services(app).import_queue, "_run", lambda import_id: None)
    return services(app).import_jobs


def work(app, import_id: int) -> None:
    with app.app_context():
        services(app).import_jobs.run(import_id)


# -- the whole way -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_comes_with_its_boxes_as_the_words_of_a_person(app, ann, kind):
    import_id = begun(ann, FORMATS[kind]())
    row = row_of(app, import_id)
    assert row.status is ImportStatus.READY, row.error
    assert (row.report["kind"], row.report["pictures"], row.report["boxes"]) == (kind, 3, 3)
    assert gallery(app) == {}
    assert confirmed(ann, import_id).status_code == 303
    row = row_of(app, import_id)
    assert (row.status, row.pictures, row.boxes) == (ImportStatus.DONE, 3, 3)
    found = gallery(app)
    for name, boxes in BOXES.items():
        assert [label for label, _ in found[name]] == [label for label, _ in boxes]
        for (_, got), (_, wanted) in zip(found[name], boxes, strict=True):
            assert got == pytest.approx(wanted, abs=0.01)
    with app.app_context():
        assert set(db.session.scalars(select(Annotation.verdict))) == {Verdict.DRAWN}
    assert len(stored_files(app)) == 9  # and the archive is gone
    page = ann.get("/")
    assert page.status_code == 200
    assert ann.get(f"/imports/{import_id}").status_code == 200


def test_a_picture_that_came_has_a_page_and_can_be_searched_and_detected(app, ann):
    import_id = begun(ann, coco())
    confirmed(ann, import_id, detect="on", reviewed="on", tags="zoo, two words")
    with app.app_context():
        image = db.session.scalars(select(Image).where(Image.title == "a.jpg")).one()
        assert image.status == "done"
        assert image.model is not None
        assert image.reviewed_at is not None
        tags = dict(db.session.execute(
            select(Tag.name, ImageTag.source).join(ImageTag.tag).where(
                ImageTag.image_id == image.id)).all())  # fmt: skip
        image_id = image.id
    assert {"zoo", "two words", "dog", "cat"} <= set(tags)
    assert tags["zoo"] == "person"
    assert tags["dog"] == "model"
    assert ann.get(f"/images/{image_id}").status_code == 200
    assert ann.get("/images/search?search=zoo+dog").text.count("<article") == 3


def test_pictures_that_nobody_looked_at_have_pages_too(app, ann):
    confirmed(ann, begun(ann, coco()))
    with app.app_context():
        ids = db.session.scalars(select(Image.id)).all()
    for image_id in ids:
        for address in ("", "/result", "/card", "/boxes.json", "/state.json"):
            answer = ann.get(f"/images/{image_id}{address}")
            assert answer.status_code == 200, (address, answer.text)


def test_classes_are_renamed_merged_and_dropped(app, ann):
    import_id = begun(ann, coco())
    names = [each["name"] for each in row_of(app, import_id).report["classes"]]
    dog, cat = names.index("dog"), names.index("cat")
    fields: dict[str, Any] = {
        "keep": [str(dog), str(cat)],
        f"becomes-{dog}": "pet",
        f"becomes-{cat}": "pet",
    }
    confirmed(ann, import_id, **fields)
    assert [label for label, _ in gallery(app)["a.jpg"]] == ["pet", "pet"]
    second = begun(ann, coco())
    confirmed(ann, second, keep=[str(cat)])
    assert row_of(app, second).boxes == 1


def test_a_label_that_cannot_be_is_refused_and_the_form_keeps_what_was_typed(app, ann):
    import_id = begun(ann, coco())
    typed: dict[str, Any] = {"becomes-0": " ", "becomes-1": "kept"}
    answer = confirmed(ann, import_id, **typed)
    assert answer.status_code == 422
    assert "cannot be called" in answer.text
    assert 'value="kept"' in answer.text
    assert row_of(app, import_id).status is ImportStatus.READY


def test_pictures_that_are_here_are_counted_and_left_as_they_are(app, ann, upload):
    files = coco()
    upload(ann, files["images/a.jpg"], "mine.jpg")
    import_id = begun(ann, files)
    report = row_of(app, import_id).report
    assert (report["pictures"], report["here"]) == (2, 1)
    confirmed(ann, import_id)
    assert sorted(gallery(app)) == ["b.jpg", "c.jpg", "mine.jpg"]
    again = begun(ann, files)
    assert row_of(app, again).report["pictures"] == 0
    assert confirmed(ann, again).status_code == 422


# -- what Sightbox exported ----------------------------------------------------------------


def native(app, **manifest: Any) -> dict[str, bytes | str]:
    """An archive of one picture about which everything is known."""
    data = picture_bytes((64, 48))
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ref, other = str(uuid.uuid4()), str(uuid.uuid4())
    box, place = (1.0, 2.0, 30.0, 40.0), (5.5, 6.25, 20.0, 30.0)
    mask = masks.encode(np.ones((48, 64), bool))
    digest = hashlib.sha256(data).hexdigest()
    picture = NativePicture(
        "고양이.jpg", "jpg", "image/jpeg", digest, len(data), 64, 48, "done", None, "two.model",
        None, 12, 0.25, when, when, when, f"files/{digest}.jpg",
        (
            NativeResult("one.model", when, None),
            NativeResult("two.model", when, 12, (
                NativeBox("dog", 0.875, box, mask, ref), NativeBox("cat", 0.125, place),
            )),
        ),
        (
            NativeAnnotation(ref, "changed", "wolf", place,
                             NativeFound("two.model", "dog", 0.875, box), when, when),
            NativeAnnotation(other, "drawn", "zebra", place, None, when, when),
        ),
        (NativeTag("mine", "person"), NativeTag("dog", "removed"), NativeTag("wolf", "model")),
    )  # fmt: skip
    said = {"format": "sightbox", "version": 1, "created_at": when.isoformat(), "pictures": 1,
            "model_boxes": 2, "annotations": 2, "files": 1, "with_pictures": True,
            "missing": []} | manifest  # fmt: skip
    return {
        PICTURES: picture.to_line(),
        f"files/{digest}.jpg": data,
        "sightbox.json": json.dumps(said),
    }


def picture_line(files: dict[str, bytes | str]) -> bytes:
    line = files[PICTURES]
    assert isinstance(line, bytes)
    return line


def test_a_native_archive_is_restored_exactly(app, ann):
    files = native(app)
    import_id = begun(ann, files)
    row = row_of(app, import_id)
    assert row.status is ImportStatus.READY, row.error
    assert (row.report["kind"], row.report["pictures"], row.report["boxes"]) == ("native", 1, 4)
    assert "restored as they were" in ann.get(f"/imports/{import_id}").text
    confirmed(ann, import_id, tags="zoo")
    assert row_of(app, import_id).status is ImportStatus.DONE
    [wanted] = read_pictures(io.BytesIO(picture_line(files)))
    with app.app_context():
        image = db.session.scalars(select(Image)).one()
        names = ("title", "sha256", "model", "duration_ms", "uncertainty", "created_at",
                 "detected_at", "reviewed_at", "bytes", "width", "height")  # fmt: skip
        assert {n: getattr(image, n) for n in names} == {n: getattr(wanted, n) for n in names}
        words = {word.ref: word for word in db.session.scalars(select(Annotation))}
        changed = words[wanted.annotations[0].ref]
        assert (changed.label, changed.found_label, changed.found_score) == ("wolf", "dog", 0.875)
        assert (changed.x1, changed.found_x1, changed.created_at) == (5.5, 1.0, wanted.created_at)
        query = select(Detection).options(undefer(Detection.mask)).order_by(Detection.id)
        dog, cat = db.session.scalars(query)
        assert (dog.score, dog.model, dog.annotation_id) == (0.875, "two.model", changed.id)
        assert (dog.mask, cat.annotation_id) == (wanted.results[1].boxes[0].mask, None)
        assert set(db.session.scalars(select(Result.model))) == {"one.model", "two.model"}
        links = db.session.execute(select(Tag.name, ImageTag.source).join(ImageTag.tag))
        assert dict(links.all()) == {"mine": "person", "dog": "removed", "wolf": "model",
                                     "zoo": "person"}  # fmt: skip
        image_id = image.id
    for address in ("", "/result", "/boxes.json", "/state.json"):
        assert ann.get(f"/images/{image_id}{address}").status_code == 200


def test_a_native_archive_takes_no_other_names_and_no_detection(app, program):
    form = {"archive": (io.BytesIO(packed(native(app))), "set.zip")}
    address = f"/imports/{program('POST', '/imports', data=form).json['id']}"
    for choices in ({"reviewed": True}, {"detect": True}, {"classes": {"dog": "cat"}}):
        assert program("POST", f"{address}/confirm", json=choices).status_code == 422


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "has version 2"),
        ({"pictures": 5}, "should hold 5 pictures"),
        ({"format": "other"}, "is not “sightbox”"),
    ],
)
def test_a_native_archive_that_is_not_whole_or_newer_is_refused(app, ann, change, reason):
    import_id = begun(ann, native(app, **change))
    assert row_of(app, import_id).status is ImportStatus.FAILED
    assert reason in ann.get(f"/imports/{import_id}").text


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"width":64', '"width":63', "pixels"),
        ('"box":[1.0,2.0,30.0,40.0]', '"box":[1.0,2.0,3000.0,40.0]', "a box of a model"),
        ('"mask":"', '"mask":"~', "a box of a model"),
        ('"mask":"', '"mask":"oooooooooooo', "a box of a model"),
        ('"name":"mine"', '"name":"mi\\u0007ne"', "a tag"),
        ('"label":"zebra"', f'"label":"{"z" * 99}"', "an annotation"),
        ('"created_at":"2026', '"created_at":"0001', "a time"),
        ('"duration_ms":12', '"duration_ms":99999999999', "a duration"),
        ('"model":"two.model","wanted', '"model":"three","wanted', "is not there"),
        ('"file":"files/', '"file":"../', "without its file"),
        ('"sha256":"', '"sha256":"0', "is not what the archive says"),
    ],
)
def test_a_record_that_cannot_be_is_left_out_with_the_reason(app, ann, old, new, reason):
    files = native(app)
    line = picture_line(files).decode()
    assert old in line
    files[PICTURES] = line.replace(old, new, 1)
    import_id = begun(ann, files)
    assert row_of(app, import_id).report["pictures"] == 0
    assert any(reason in text for text in problems_of(app, import_id))


def test_a_line_that_is_no_record_refuses_the_archive(app, ann):
    import_id = begun(ann, native(app) | {PICTURES: "{}"})
    assert row_of(app, import_id).status is ImportStatus.FAILED


def test_a_record_of_more_lists_than_fit_in_memory_refuses_the_archive(app, ann, monkeypatch):
    monkeypatch.setattr(native_format, "MAX_PARTS", 30)
    row = row_of(app, begun(ann, native(app)))
    assert "more than 30 lists and fields" in row.error_params["reason"]


# -- back again ----------------------------------------------------------------------------


def test_an_import_is_undone_as_a_whole_and_each_picture_can_be_restored(app, ann):
    import_id = begun(ann, coco())
    confirmed(ann, import_id)
    assert ann.post(f"/imports/{import_id}/undo").status_code == 303
    assert gallery(app) == {}
    assert row_of(app, import_id).status is ImportStatus.UNDONE
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(TrashedImage)) == 3
    ann.post("/trash/restore", data={"all": "1"})
    assert sorted(label for label, _ in gallery(app)["a.jpg"]) == ["cat", "dog"]
    assert ann.post(f"/imports/{import_id}/undo").status_code == 303
    assert gallery(app) == {}


def test_what_did_not_come_cannot_be_undone_and_what_waits_not_be_forgotten(app, ann):
    import_id = begun(ann, coco())
    assert ann.post(f"/imports/{import_id}/undo", headers=JSON).status_code == 409
    assert ann.post(f"/imports/{import_id}/forget", headers=JSON).status_code == 409
    ann.post(f"/imports/{import_id}/cancel")
    assert row_of(app, import_id).status is ImportStatus.CANCELLED
    assert nothing_left(app)
    assert ann.post(f"/imports/{import_id}/forget").status_code == 303
    assert ann.get(f"/imports/{import_id}").status_code == 404


# -- all or nothing ------------------------------------------------------------------------


def test_an_error_at_the_end_leaves_nothing_and_after_three_tries_it_fails(
    app, ann, idle, monkeypatch
):
    import_id = begun(ann, coco())
    work(app, import_id)
    confirmed(ann, import_id)

    def broken(*_args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(RowWriter, "_tag", broken)
    for status in (ImportStatus.QUEUED, ImportStatus.QUEUED, ImportStatus.FAILED):
        work(app, import_id)
        assert row_of(app, import_id).status is status
        assert gallery(app) == {}
        assert not any("original" in name for name in stored_files(app))
    assert nothing_left(app)
    assert "nothing came" in ann.get(f"/imports/{import_id}").text


def test_what_a_killed_worker_left_goes_and_the_import_comes_whole_then(
    app, ann, idle, monkeypatch
):
    import_id = begun(ann, coco())
    work(app, import_id)
    confirmed(ann, import_id)
    puts = []

    def killed(self, key: str, data: bytes) -> None:
        if len(puts) == 4:
            raise SystemExit
        puts.append(key)
        real(self, key, data)

    real = LocalStorage.put
    monkeypatch.setattr(LocalStorage, "put", killed)
    with pytest.raises(SystemExit):
        work(app, import_id)
    monkeypatch.setattr(LocalStorage, "put", real)
    assert row_of(app, import_id).status is ImportStatus.RUNNING
    assert gallery(app) == {}
    with app.app_context():
        assert services(app).import_jobs.recover() == 1
    assert row_of(app, import_id).status is ImportStatus.QUEUED
    assert [name for name in stored_files(app) if not name.startswith("import/")] == []
    work(app, import_id)
    assert len(gallery(app)) == 3
    assert len(stored_files(app)) == 9


def test_a_storage_that_is_away_costs_no_try(app, ann, idle, monkeypatch):
    import_id = begun(ann, coco())
    work(app, import_id)
    confirmed(ann, import_id)

    def away(*_args: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(LocalStorage, "put", away)
    monkeypatch.setattr(LocalStorage, "check", away)
    with pytest.raises(TryLater):
        work(app, import_id)
    row = row_of(app, import_id)
    assert (row.status, row.attempts) == (ImportStatus.QUEUED, 0)


def test_a_running_import_that_is_cancelled_leaves_nothing(app, ann, idle, monkeypatch):
    import_id = begun(ann, coco())
    work(app, import_id)
    confirmed(ann, import_id)

    def cancels(self, key: str, data: bytes) -> None:
        real(self, key, data)
        if "thumbnail" in key:
            db.session.execute(update(Import).values(cancelled=True))
            db.session.commit()

    real = LocalStorage.put
    monkeypatch.setattr(LocalStorage, "put", cancels)
    work(app, import_id)
    assert row_of(app, import_id).status is ImportStatus.CANCELLED
    assert nothing_left(app)


def test_a_check_that_is_cancelled_while_labels_are_read_looks_at_no_picture(
    app, ann, idle, monkeypatch
):
    import_id = begun(ann, coco() | {"more.json": json.dumps(coco_content())})
    asked: list[str] = []
    honest = ZipFiles.read

    def cancels(self, name: str, most: int) -> bytes:
        asked.append(name)
        row = update(Import).where(Import.id == import_id)
        db.session.execute(row.values(cancelled=True))
        db.session.commit()
        return honest(self, name, most)

    monkeypatch.setattr(ZipFiles, "read", cancels)
    monkeypatch.setattr(import_jobs, "SAVE_SECONDS", 0)
    work(app, import_id)
    assert row_of(app, import_id).status is ImportStatus.CANCELLED
    assert asked == ["annotations.json"]


def test_a_check_that_is_cancelled_at_its_very_end_is_not_ready(app, ann, idle, monkeypatch):
    import_id = begun(ann, coco())
    honest = Plan.report

    def cancels(self):
        assert ann.post(f"/imports/{import_id}/cancel").status_code == 303
        return honest(self)

    monkeypatch.setattr(Plan, "report", cancels)
    work(app, import_id)
    assert row_of(app, import_id).status is ImportStatus.CANCELLED
    assert nothing_left(app)


def test_labels_that_break_a_reader_refuse_the_archive_with_their_name(app, ann, monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(recognise.coco, "read", broken)
    row = row_of(app, begun(ann, coco()))
    assert (row.status, row.attempts) == (ImportStatus.FAILED, 1)
    assert row.error_params == {"name": "annotations.json", "reason": "odd"}


def test_an_account_that_is_deleted_meanwhile_leaves_no_file(
    app, ann, make_user, idle, monkeypatch
):
    import_id = begun(ann, coco())
    work(app, import_id)
    confirmed(ann, import_id)
    make_user("root", role="admin")
    ann_id = make_user("ann")
    gone: list[str] = []

    def leaves(self, key: str, data: bytes) -> None:
        real(self, key, data)
        if "thumbnail" in key and not gone:
            gone.append(key)
            services(app).accounts.delete([ann_id])

    real = LocalStorage.put
    monkeypatch.setattr(LocalStorage, "put", leaves)
    work(app, import_id)
    assert nothing_left(app)


def test_the_quota_is_told_before_and_kept_in_the_end(app, ann, make_user, idle):
    with app.app_context():
        db.session.get_one(User, make_user("ann")).quota_bytes = 100
        db.session.commit()
    import_id = begun(ann, coco())
    work(app, import_id)
    assert "is full" in ann.get(f"/imports/{import_id}").text
    assert confirmed(ann, import_id).status_code == 422
    with app.app_context():  # as if the account had become full after that
        db.session.execute(update(Import).values(status=ImportStatus.QUEUED, options={}))
        db.session.commit()
    work(app, import_id)
    assert row_of(app, import_id).status is ImportStatus.FAILED
    assert nothing_left(app)


def test_an_archive_that_nobody_confirms_goes_after_two_days(app, ann):
    import_id = begun(ann, coco())
    with app.app_context():
        db.session.execute(update(Import).values(queued_at=utcnow() - timedelta(days=3)))
        db.session.commit()
        services(app).import_jobs.recover()
    assert row_of(app, import_id).status is ImportStatus.CANCELLED
    assert stored_files(app) == []


def test_only_a_few_imports_may_be_open_at_once(app, ann, monkeypatch):
    monkeypatch.setattr(limits, "MAX_OPEN", 1)
    begun(ann, coco())
    assert sent(ann, coco(), status=409)["error"]["code"] == "conflict"
    assert len([name for name in stored_files(app) if name.startswith("import/")]) == 1


# -- boxes and pictures that are not what they should be -----------------------------------


def problems_of(app, import_id: int) -> list[str]:
    report = row_of(app, import_id).report
    return [row["message"] % row["params"] for row in report["problems"]]


@pytest.mark.parametrize(
    ("bbox", "comes", "reason"),
    [
        ([1, 1, float("nan"), 2], False, "no number"),
        ([1, 1, float("inf"), 2], False, "no number"),
        ([100, 100, 5, 5], False, "outside of the picture"),
        ([-50, -50, 10, 10], False, "outside of the picture"),
        ([5, 5, 0, 10], False, "no area"),
        ([5, 5, -3, 10], False, "no area"),
        ([50, 40, 30, 30], True, "cut at the border"),
        ([8.0, 6.0, 32.0, 24.0], False, "there twice"),
    ],
)
def test_a_box_that_cannot_be_is_named_with_its_picture(app, ann, bbox, comes, reason):
    content = coco_content()
    content["annotations"].append({"image_id": 0, "category_id": 1, "bbox": bbox})
    import_id = begun(ann, pictures() | {"x.json": json.dumps(content)})
    [problem] = problems_of(app, import_id)
    assert reason in problem
    assert row_of(app, import_id).report["boxes"] == 3 + comes
    page = ann.get(f"/imports/{import_id}").text
    assert "images/a.jpg" in page
    confirmed(ann, import_id)
    assert all(0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 48
               for rows in gallery(app).values() for _, (x1, y1, x2, y2) in rows)  # fmt: skip


def test_boxes_of_programs_that_know_nothing_of_exif_are_turned_with_the_picture(app, ann):
    buffer = io.BytesIO()
    exif = Picture.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: upright it is 48 x 64
    Picture.new("RGB", (64, 48), (9, 99, 9)).save(buffer, "JPEG", exif=exif)
    content = coco_content({"a.jpg": [("dog", (0.0, 0.0, 10.0, 20.0))]})
    import_id = begun(ann, {"a.jpg": buffer.getvalue(), "x.json": json.dumps(content)})
    assert problems_of(app, import_id) == []
    confirmed(ann, import_id)
    assert gallery(app)["a.jpg"] == [("dog", [28.0, 0.0, 48.0, 10.0])]


def test_labels_for_a_smaller_copy_are_scaled_and_those_of_another_picture_are_not_taken(app, ann):
    content = coco_content()
    content["images"][0] |= {"width": 32, "height": 24}
    content["images"][1] |= {"width": 48, "height": 48}
    import_id = begun(ann, pictures() | {"x.json": json.dumps(content)})
    assert row_of(app, import_id).report["boxes"] == 2
    scaled, *cut, other = problems_of(app, import_id)
    assert "boxes are scaled" in scaled
    assert len(cut) == 2
    assert "without its boxes" in other


def test_pictures_that_cannot_be_read_are_named_and_the_others_come(app, ann):
    files = coco()
    files["images/b.jpg"] = b"no picture"
    files["images/d.jpg"] = files["images/a.jpg"]
    files["images/e.jpg"] = picture_bytes((640, 480))[:-300]
    import_id = begun(ann, files)
    assert any("twice" in text for text in problems_of(app, import_id))
    confirmed(ann, import_id)
    assert sorted(gallery(app)) == ["a.jpg", "c.jpg"]
    assert any("cut short" in text for text in problems_of(app, import_id))


def test_a_class_name_that_is_no_label_is_proposed_in_a_shorter_form(app, ann):
    content = coco_content()
    content["categories"][1]["name"] = "long " * 30 + "\u202e"
    import_id = begun(ann, pictures() | {"x.json": json.dumps(content)})
    confirmed(ann, import_id)
    [label] = {label for label, _ in gallery(app)["b.jpg"]}
    assert len(label) <= 40


# -- hostile archives ----------------------------------------------------------------------


def test_a_bomb_is_refused_with_the_reason(app, ann):
    import_id = begun(ann, coco() | {"zeros.jpg": b"\0" * 70_000_000})
    row = row_of(app, import_id)
    assert row.status is ImportStatus.FAILED
    assert "would unpack to" in ann.get(f"/imports/{import_id}").text
    assert nothing_left(app)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [("files", 3, "files in this archive"), ("unpacked_bytes", 500, "would unpack to")],
)
def test_too_many_files_or_bytes_are_refused(app, ann, monkeypatch, setting, value, reason):
    object.__setattr__(services(app).import_jobs.limits, setting, value)
    import_id = begun(ann, coco())
    assert reason in ann.get(f"/imports/{import_id}").text
    assert nothing_left(app)


def test_unsafe_names_links_and_what_is_packed_twice_are_named_and_nothing_leaves_the_archive(
    app, ann
):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in coco().items():
            archive.writestr(name, data)
        for name in ("../../evil.jpg", "/abs.jpg", "C:\\windows.jpg", "x" * 500 + ".jpg"):
            archive.writestr(name, picture_bytes())
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("images/A.jpg", picture_bytes())
        archive.writestr("inner.zip", packed(coco()))
        archive.writestr("inner.jpg", packed(coco()))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("images/a.jpg", picture_bytes())
    import_id = begun(ann, buffer.getvalue())
    text = " ".join(problems_of(app, import_id))
    for reason in (
        "leads out",
        "a link",
        "of this name",
        "case of its letters",
        "inside an archive",
    ):
        assert reason in text, reason
    confirmed(ann, import_id)
    assert sorted(gallery(app)) == ["A.jpg", "a.jpg", "b.jpg", "c.jpg"]


def test_a_locked_archive_says_so(app, ann):
    data = bytearray(packed(coco()))
    place = 0
    while (place := data.find(b"PK\x01\x02", place)) >= 0:
        data[place + 8] |= 1
        place += 4
    import_id = begun(ann, bytes(data))
    assert row_of(app, import_id).status is ImportStatus.FAILED
    assert "locked with a password" in ann.get(f"/imports/{import_id}").text


@pytest.mark.parametrize(
    ("data", "status"), [(b"no archive", 422), (b"PK\x03\x04 but damaged", 201), (b"", 422)]
)
def test_what_is_no_archive_is_refused(app, ann, data, status):
    answer = sent(ann, data, status=status)
    if status == 201:
        assert row_of(app, answer["id"]).status is ImportStatus.FAILED
    assert nothing_left(app)


def test_an_archive_that_is_too_large_is_refused(make_app):
    app = make_app(MAX_IMPORT_BYTES=1000)
    with app.app_context():
        user = User(username="ann", email="ann@example.com", password="x")
        db.session.add(user)
        db.session.commit()
        key = user.fs_uniquifier
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = key, True
    assert sent(client, coco(), status=413)["error"]["code"] == "too_large"
    kind = "multipart/form-data; boundary=x"
    large = client.post("/imports/upload", data=b"x" * 3_000_000, content_type=kind, headers=JSON)
    assert large.status_code == 413


# -- whose it is ---------------------------------------------------------------------------

ADDRESSES = {
    ("GET", "/imports/{id}"): 200,
    ("POST", "/imports/{id}/confirm"): 303,
    ("POST", "/imports/{id}/cancel"): 303,
    ("POST", "/imports/{id}/undo"): 409,
    ("POST", "/imports/{id}/forget"): 409,
}


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_an_import_exists_for_its_owner_alone(app, ann, bob, method, path):
    address = path.format(id=begun(ann, coco()))
    assert app.test_client().open(address, method=method).status_code in (302, 303)
    assert bob.open(address, method=method).status_code == 404
    assert ann.open(path.format(id=4711), method=method).status_code == 404
    assert ann.open(address, method="DELETE").status_code == 405
    app.config["WTF_CSRF_ENABLED"] = True
    if method == "POST":
        assert ann.open(address, method=method).status_code == 400
    app.config["WTF_CSRF_ENABLED"] = False
    assert ann.open(address, method=method).status_code == ADDRESSES[method, path]


def test_the_list_and_its_state_are_ones_own(app, ann, bob):
    import_id = begun(ann, coco())
    assert f"/imports/{import_id}" in ann.get("/imports").text
    assert f"/imports/{import_id}" not in bob.get("/imports").text
    asked = f"/imports/status?id={import_id}&id=x&id=99999999999"
    assert ann.get(asked).json["imports"][str(import_id)]["status"] == "ready"
    assert bob.get(asked).json == {"imports": {}}
    assert ann.post("/imports/upload", data={}, headers=JSON).status_code == 422
    assert "Choose a ZIP file." in ann.post("/imports/upload", data={}).text


def test_without_scripts_an_upload_leads_to_its_page(ann):
    form = {"archive": (io.BytesIO(packed(coco())), "set.zip")}
    answer = ann.post("/imports/upload", data=form)
    assert answer.status_code == 303
    assert "Import 3 pictures" in ann.get(answer.location).text


# -- programs ------------------------------------------------------------------------------


@pytest.fixture
def program(app, make_user):
    user_id = make_user("ann")
    with app.app_context():
        token = services(app).tokens.create(user_id, "a test", ("read", "write"))[1]
    client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
    return lambda method, path, **options: client.open(
        PREFIX + path, method=method, headers=headers, **options
    )


def test_a_program_imports_looks_confirms_and_undoes(app, program):
    form = {"archive": (io.BytesIO(packed(coco())), "set.zip")}
    made = program("POST", "/imports", data=form)
    assert made.status_code == 202, made.text
    address = f"/imports/{made.json['id']}"
    ready = program("GET", f"{address}?wait=1").json
    assert (ready["status"], ready["preview"]["format"]) == ("ready", "coco")
    wrong = program("POST", f"{address}/confirm", json={"classes": {"wolf": "dog"}})
    assert (wrong.status_code, wrong.mimetype) == (422, "application/problem+json")
    choices = {"classes": {"dog": "wolf", "cat": None}, "tags": ["zoo"], "reviewed": True}
    assert program("POST", f"{address}/confirm", json=choices).status_code == 202
    done = program("GET", address).json
    assert (done["status"], done["pictures"], done["boxes"]) == ("done", 3, 2)
    assert [label for label, _ in gallery(app)["a.jpg"]] == ["wolf"]
    assert program("POST", f"{address}/confirm", json={}).status_code == 409
    assert program("POST", f"{address}/undo").json == {"moved": 3}
    assert program("GET", "/imports").json["items"][0]["status"] == "undone"
    assert program("DELETE", address).status_code == 204
    assert program("GET", address).status_code == 404


def test_a_program_is_told_what_is_wrong(program):
    form = {"archive": (io.BytesIO(b"nothing"), "set.zip")}
    answer = program("POST", "/imports", data=form)
    assert (answer.status_code, answer.json["code"]) == (422, "not_an_archive")
    assert program("POST", "/imports", data={"archive": "text"}).status_code == 422
    form = {"archive": (io.BytesIO(packed({"a.jpg": picture_bytes()})), "set.zip")}
    failed = program("POST", "/imports", data=form).json
    assert failed["status"] == "failed"
    assert "no labels" in failed["error"]
    assert program("POST", f"/imports/{failed['id']}/cancel").json["status"] == "failed"


def test_a_full_disk_takes_no_archive(program, monkeypatch):
    class Usage:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    form = {"archive": (io.BytesIO(packed(coco())), "set.zip")}
    answer = program("POST", "/imports", data=form)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert "disk has no room" in answer.json["detail"]


@pytest.mark.postgres
def test_on_postgresql_imports_come_whole_and_go_whole_too(postgres, make_app):
    app = make_app(SQLALCHEMY_DATABASE_URI=postgres)
    with app.app_context():
        user = User(username="ann", email="ann@example.com", password="x")
        db.session.add(user)
        db.session.commit()
        owner, service = user.id, services(app).imports
        for files, boxes in ((coco(), 3), (native(app), 4)):
            row = service.create(owner, "set.zip", io.BytesIO(packed(files)))
            assert row.status is ImportStatus.READY, row.error
            row = service.confirm(owner, row.id, limits.Choices())
            assert (row.status, row.boxes) == (ImportStatus.DONE, boxes)
            assert service.undo(owner, row.id) == row.pictures
    assert gallery(app) == {}
