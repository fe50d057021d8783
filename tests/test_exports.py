"""Exports: other people's readers, the page, REST, and what can go wrong."""

import csv
import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta

import pytest
import supervision
from pycocotools.coco import COCO
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.jobs import TryLater
from apps.models import (
    Annotation,
    Delivery,
    Detection,
    Export,
    ExportStatus,
    Image,
    LabelStudio,
    SavedFilter,
    User,
    Verdict,
    Webhook,
    utcnow,
)
from apps.services import export_checks, native
from apps.services.export_pictures import BOTH, MODEL, PERSON, Boxes, ExportedBox, PictureReader
from apps.services.exports import Wanted
from apps.services.workers import worker_name
from apps.storage.local import LocalStorage
from tests.api.conftest import bearer, token_of  # noqa: F401 (fixtures)
from tests.conftest import picture_bytes, stored_files
from tests.labelled import coco
from tests.test_imports import begun

OF_ACCOUNT = {  # tables by their keys in account.json
    "tokens": "tokens",
    "saved_filters": "saved_searches",
    "webhooks": "webhooks",
    "label_studios": "label_studios",
    "client_calls": "calls",
    "imports": "imports",
    "exports": "exports",
}
LABELS = ("hot dog, big", "강아지", 'say "cheese"')
NAMES = ("고양이 사진.jpg", "same.jpg", "same.jpg", "a, b.jpg", "empty.jpg")
SIZE = (300, 200)


@pytest.fixture
def pictures(app, ann, upload) -> list[int]:
    """Five pictures: names of all kinds, labels with spaces and commas; the last has no boxes."""
    ids = [upload(ann, picture_bytes(SIZE), name) for name in NAMES]
    with app.app_context():
        owner = db.session.scalar(select(User.id))
        db.session.execute(Detection.__table__.delete())
        for image_id in ids[:4]:
            model = db.session.get_one(Image, image_id).model
            for number, label in enumerate(LABELS[:2]):
                box = {"x1": 10.25 + number, "y1": 20.5, "x2": 110.75, "y2": 99.125}
                found = Detection(image_id=image_id, label=label, score=0.9, model=model, **box)
                db.session.add(found)
            low = {"x1": 1, "y1": 2, "x2": 3, "y2": 4}
            db.session.add(
                Detection(image_id=image_id, label="unsure", score=0.1, model=model, **low)
            )
            drawn = {"x1": 0, "y1": 0, "x2": 300, "y2": 200, "label": LABELS[2]}
            db.session.add(
                Annotation(
                    image_id=image_id,
                    ref=f"00000000-0000-4000-8000-{image_id:012}",
                    author_id=owner,
                    verdict=Verdict.DRAWN,
                    **drawn,
                )
            )
        db.session.commit()
    return ids


def shown(app) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """What the pictures show, by the name that an export gives them."""
    with app.app_context():
        rows = services().export_jobs.maker.reader.read(1, list(range(1, 20)), Boxes(BOTH, 0.5))
        return {row.name: [(box.label, box.corners) for box in row.boxes] for row in rows}


def made(client, kind: str, search: str = "", **fields: str) -> zipfile.ZipFile:
    data = {"format": kind, "pictures": "1", "search": search} | fields
    answer = client.post("/exports", data=data)
    assert answer.status_code == 303, answer.text
    with client.application.app_context():
        row = db.session.scalars(select(Export).order_by(Export.id.desc())).first()
        assert row.status is ExportStatus.READY, row.error
    answer = client.get(f"/exports/{row.id}/file")
    assert answer.mimetype == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.testzip() is None
    return archive


def assert_near(found, wanted) -> None:
    order = lambda box: (box[0], box[1])  # noqa: E731
    for (label, corners), (name, sides) in zip(
        sorted(found, key=order), sorted(wanted, key=order), strict=True
    ):
        assert label == name
        assert corners == pytest.approx(sides, abs=0.5)


def same_boxes(data: supervision.DetectionDataset, wanted, shift: float = 0) -> None:
    seen = {}
    for path, _, boxes in data:
        seen[path.rpartition("/")[2]] = [
            (data.classes[number], (x1 - shift, y1 - shift, x2, y2))
            for number, (x1, y1, x2, y2) in zip(boxes.class_id, boxes.xyxy.tolist(), strict=True)
        ]
    assert sorted(seen) == sorted(wanted)
    for name, boxes in wanted.items():
        assert_near(seen[name], boxes)


# -- other people's readers ----------------------------------------------------------------


def test_supervision_and_pycocotools_read_coco(app, ann, pictures, tmp_path):
    made(ann, "coco").extractall(tmp_path)
    wanted = shown(app)
    folder, labels = str(tmp_path / "images"), str(tmp_path / "annotations.json")
    same_boxes(supervision.DetectionDataset.from_coco(folder, labels), wanted)
    data = COCO(labels)
    names = {row["id"]: row["name"] for row in data.loadCats(data.getCatIds())}
    for image in data.loadImgs(data.getImgIds()):
        found = [
            (names[row["category_id"]], (x, y, x + w, y + h))
            for row in data.loadAnns(data.getAnnIds(image["id"]))
            for x, y, w, h in [row["bbox"]]
        ]
        assert_near(found, wanted[image["file_name"]])


def test_supervision_reads_yolo_with_its_split(app, ann, pictures, tmp_path):
    made(ann, "yolo").extractall(tmp_path)
    wanted, found = shown(app), {}
    for split in ("train", "val"):
        folder, labels = tmp_path / "images" / split, tmp_path / "labels" / split
        if folder.is_dir():
            data = supervision.DetectionDataset.from_yolo(
                str(folder), str(labels), str(tmp_path / "data.yaml")
            )
            part = {path.name: wanted[path.name] for path in folder.iterdir()}
            same_boxes(data, part)
            found |= part
    assert found == wanted


def test_supervision_reads_voc_which_counts_from_1(app, ann, pictures, tmp_path):
    made(ann, "voc").extractall(tmp_path)
    data = supervision.DetectionDataset.from_pascal_voc(
        str(tmp_path / "JPEGImages"), str(tmp_path / "Annotations")
    )
    wanted = shown(app)
    first = next(iter(data))[2]
    assert len(first) in (0, 3)
    same_boxes(data, wanted, shift=1 if min(first.xyxy.min(axis=0).tolist(), default=0) else 0)


def test_a_table_has_every_picture_and_scores(app, ann, pictures):
    text = made(ann, "csv").read("boxes.csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["file"] for row in rows} == set(shown(app))
    assert {row["score"] for row in rows if row["label"] == LABELS[2]} == {""}
    assert {row["score"] for row in rows if row["label"] == LABELS[0]} == {"0.9000"}
    assert [row["label"] for row in rows if row["file"] == "empty.jpg"] == [""]


def test_label_studio_gets_annotations_predictions_and_a_labelling_setup(ann, pictures):
    archive = made(ann, "labelstudio")
    tasks = json.loads(archive.read("tasks.json"))
    assert len(tasks) == 5
    task = tasks[0]
    assert task["data"]["image"].startswith("/data/local-files/?d=images/%EA")
    [region] = task["annotations"][0]["result"]
    assert region["value"]["rectanglelabels"] == [LABELS[2]]
    assert region["value"]["width"] == 100
    assert [each["score"] for each in task["predictions"][0]["result"]] == [0.9, 0.9]
    assert tasks[4]["annotations"] == tasks[4]["predictions"] == []
    assert "say &quot;cheese&quot;" in archive.read("label_config.xml").decode() or (
        "'say \"cheese\"'" in archive.read("label_config.xml").decode()
    )


@pytest.mark.parametrize(
    ("whose", "labels"), [(MODEL, set(LABELS[:2])), (PERSON, {LABELS[2]}), (BOTH, set(LABELS))]
)
def test_boxes_of_models_of_people_or_both(whose, labels, ann, pictures):
    content = json.loads(made(ann, "coco", boxes=whose).read("annotations.json"))
    assert {row["name"] for row in content["categories"]} == labels
    content = json.loads(made(ann, "coco", threshold="5").read("annotations.json"))
    assert "unsure" in {row["name"] for row in content["categories"]}


# -- native archive ------------------------------------------------------------------------


def test_a_native_archive_holds_all_that_is_known(app, ann, pictures):
    ann.post(f"/images/{pictures[0]}/tags", data={"name": "여행"})
    ann.post("/images/review", data={"id": pictures[0]})
    archive = made(ann, "native")
    manifest = native.read_manifest(archive.read("sightbox.json"))
    assert (manifest.pictures, manifest.model_boxes, manifest.annotations) == (5, 12, 4)
    assert archive.namelist()[-1] == "sightbox.json"
    with archive.open("pictures.jsonl") as stream:
        records = list(native.read_pictures(stream))
    first = records[0]
    assert first.title == NAMES[0]
    assert first.reviewed_at
    assert native.NativeTag("여행", "person") in first.tags
    assert [box.score for box in first.results[0].boxes] == [0.9, 0.9, 0.1]
    assert first.annotations[0].verdict == "drawn"
    assert first.file is not None
    assert len(archive.read(first.file)) == first.bytes
    with app.app_context():
        row = db.session.get_one(Image, pictures[0])
        assert (first.created_at, first.detected_at) == (row.created_at, row.detected_at)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"title": 1}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_is_named(line):
    with pytest.raises(native.InvalidInput, match=r"pictures.jsonl:1"):
        list(native.read_pictures(io.BytesIO(line)))


def test_another_version_is_refused():
    manifest = native.NativeManifest(2, utcnow(), 0, 0, 0, 0, with_pictures=False)
    with pytest.raises(native.InvalidInput, match="version 2"):
        native.read_manifest(manifest.to_json())


def test_my_data_holds_everything_and_no_secret(app, ann, pictures, token_of):  # noqa: F811
    secret = token_of("ann")
    ann.post("/images/filters", data={"name": "Dogs", "search": "dog"})
    ann.post("/images/trash", data={"id": pictures[1]})
    archive = made(ann, "account")
    facts = json.loads(archive.read("account.json"))
    assert facts["email"] == "ann@example.com"
    assert facts["tokens"][0]["name"] == "a test"
    assert facts["saved_searches"][0]["name"] == "Dogs"
    text = archive.read("account.json").decode()
    with app.app_context():
        user = db.session.scalar(select(User))
        assert user.password not in text
    assert secret not in text
    [trashed] = archive.read("trash.jsonl").splitlines()
    row = json.loads(trashed)
    assert len(archive.read(row["file"])) == row["bytes"]
    assert len(archive.read("pictures.jsonl").splitlines()) == 4
    assert archive.read("clips.jsonl") == b""
    assert "Download my data" in ann.get("/auth/account").text


IN_MY_DATA = {  # where the rows of a table are, or why they are nowhere
    "images": "pictures.jsonl",
    "annotations": "pictures.jsonl",
    "image_tags": "pictures.jsonl",
    "trashed_images": "trash.jsonl",
    "videos": "clips.jsonl",
    **dict.fromkeys(OF_ACCOUNT, "account.json"),
    "picture_counts": None,  # what the database counts of the others
    "tag_counts": None,
    "kept_answers": None,  # for a day, so that a program may ask again
}


def test_my_data_has_every_table_that_belongs_to_an_account(app, ann, pictures, bearer):  # noqa: F811
    owned = {
        name
        for name, table in db.metadata.tables.items()
        if {"owner_id", "user_id", "author_id"} & set(table.columns.keys())
    }
    assert owned == set(IN_MY_DATA)
    secrets = ("digest of it", "whsec_secret", "encrypted token")
    with app.app_context():
        rows = [
            LabelStudio(owner_id=1, digest=secrets[0], prefix="ls_x", host="http://studio",
                        token=secrets[2], model="", min_score=0.3),
            Webhook(id=7, owner_id=1, url="http://told.example", events="detection.done",
                    secret=secrets[1]),
            Delivery(webhook_id=7, uid="msg_1", event="detection.done", body="{}"),
        ]  # fmt: skip
        for row in rows:
            db.session.add(row)
            db.session.commit()
    app.test_client().get("/api/v1/me", headers=bearer("ann"))  # a token and a call
    ann.post("/images/filters", data={"name": "Dogs", "search": "dog"})
    begun(ann, coco())
    archive = made(ann, "account")
    text = archive.read("account.json").decode()
    facts = json.loads(text)
    for where in OF_ACCOUNT.values():
        assert facts[where], where
    [message] = map(json.loads, archive.read("messages.jsonl").splitlines())
    assert (message["uid"], message["webhook_id"]) == ("msg_1", facts["webhooks"][0]["id"])
    assert facts["imports"][0]["report"]["pictures"] == 3
    assert not [secret for secret in secrets if secret in text]


# -- lost, empty, somebody else's ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["coco", "native"])
def test_a_lost_picture_is_named_and_its_labels_are_there(kind, app, ann, pictures):
    with app.app_context():
        services().storage.delete(db.session.get_one(Image, pictures[0]).original_key)
    archive = made(ann, kind)
    assert "고양이" in archive.read("missing.txt").decode()
    assert "1 file is lost" in ann.get("/exports").text
    assert sum(name.endswith(".jpg") for name in archive.namelist()) == 4


def test_nothing_to_export_is_told(ann, bob, pictures):
    assert "None yet." in bob.get("/exports").text
    answer = bob.post("/exports", data={"format": "coco"})
    assert answer.status_code == 422
    assert "You have no pictures yet" in answer.text
    answer = ann.post("/exports", data={"format": "coco", "search": "nothing-like-it"})
    assert "This search finds no picture" in answer.text
    for fields, says in (
        ({"format": "x"}, "no such format"),
        ({"boxes": "x"}, "whose boxes"),
        ({"threshold": "900"}, "from 0 to 1"),
        ({"threshold": "x"}, "from 0 to 1"),
        ({"search": "score>"}, 'id="export-mistake"'),
    ):
        answer = ann.post("/exports", data={"format": "coco"} | fields)
        assert answer.status_code in (400, 422)
        assert says in answer.text


def test_an_export_of_a_search_has_what_it_finds(ann, pictures):
    content = json.loads(made(ann, "coco", "title:same").read("annotations.json"))
    assert len(content["images"]) == 2
    assert len({row["file_name"] for row in content["images"]}) == 2


def test_only_its_owner_has_an_export(app, ann, bob, pictures):
    made(ann, "csv")
    for path in ("file", "cancel", "delete"):
        ask = bob.get if path == "file" else bob.post
        assert ask(f"/exports/1/{path}").status_code == 404
        visitor = app.test_client()
        answer = (visitor.get if path == "file" else visitor.post)(f"/exports/1/{path}")
        assert answer.status_code == 302
        assert ann.put(f"/exports/1/{path}").status_code == 405
    assert "CSV" not in bob.get("/exports").text.partition("New export")[0]
    assert ann.post("/exports/1/delete").status_code == 303
    assert not [name for name in stored_files(app) if name.startswith("export/")]


def test_a_form_without_a_token_is_refused(app, ann, pictures):
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post("/exports", data={"format": "coco"}).status_code == 400


# -- jobs ----------------------------------------------------------------------------------


@pytest.fixture
def waiting(app, ann, pictures, monkeypatch) -> int:
    """An export that waits."""
    with app.app_context():
        queue = services().export_queue
        monkeypatch.setattr(queue, "_run", lambda export_id: None)
        return services().exports.create(1, Wanted("coco")).id


def status_of(app, export_id: int) -> ExportStatus:
    with app.app_context():
        return db.session.get_one(Export, export_id).status


def test_more_than_200_chosen_pictures_become_a_job(app, ann, pictures, monkeypatch):
    monkeypatch.setattr("apps.detector.selection.MAX_PICTURES", 2)
    answer = ann.post("/images/export", data={"id": pictures, "format": "coco"})
    assert answer.location == "/exports"
    assert status_of(app, 1) is ExportStatus.READY


def test_a_waiting_export_shows_its_state_and_is_cancelled(app, ann, waiting):
    page = ann.get("/exports").text
    assert "data-live" in page
    assert "<progress" in page
    assert ann.get(f"/exports/{waiting}/file").status_code == 409
    ann.post(f"/exports/{waiting}/cancel")
    assert status_of(app, waiting) is ExportStatus.CANCELLED
    with app.app_context():
        services().export_jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.CANCELLED


def test_a_running_export_that_is_cancelled_or_deleted_leaves_no_file(app, ann, waiting):
    with app.app_context():
        jobs = replace(services().export_jobs, save_seconds=0)
        read = PictureReader.read

        def cancelled(*args):
            services().exports.cancel(1, waiting)
            yield from read(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PictureReader, "read", cancelled)
            jobs.run(waiting)
        assert status_of(app, waiting) is ExportStatus.CANCELLED
        other = services().exports.create(1, Wanted("coco")).id

        def deleted(*args):
            services().exports.delete(1, other)
            yield from read(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PictureReader, "read", deleted)
            jobs.run(other)
    assert not [name for name in stored_files(app) if name.startswith("export/")]


def test_an_export_that_is_cancelled_while_its_file_is_stored_is_not_ready(
    app, ann, waiting, monkeypatch
):
    honest = LocalStorage.put_file

    def cancels(self, key, file) -> None:
        services().exports.cancel(1, waiting)
        honest(self, key, file)

    monkeypatch.setattr(LocalStorage, "put_file", cancels)
    with app.app_context():
        services().export_jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.CANCELLED
    assert not [name for name in stored_files(app) if name.startswith("export/")]


def test_an_export_outlives_a_killed_worker(app, ann, waiting):
    with app.app_context():
        row = db.session.get_one(Export, waiting)
        gone = worker_name().split(":")
        gone[1] = "999999999"
        row.status, row.attempts = ExportStatus.RUNNING, 1
        row.claimed_by, row.claimed_at = ":".join(gone), utcnow()
        db.session.commit()
        services().storage.put(row.key_of(1), b"half")
        jobs = services().export_jobs
        assert jobs.recover() == 1
        assert jobs.work.next_queued() == waiting
        jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.READY
    assert len([name for name in stored_files(app) if name.startswith("export/")]) == 1


def test_a_worker_that_dies_three_times_gives_up(app, ann, waiting):
    with app.app_context():
        row = db.session.get_one(Export, waiting)
        row.status, row.attempts, row.claimed_by = ExportStatus.RUNNING, 3, None
        row.claimed_at = utcnow()
        db.session.commit()
        services().export_jobs.recover()
    assert "The server stopped three times" in ann.get("/exports").text


def test_a_storage_that_is_away_costs_no_try(app, ann, waiting, monkeypatch):
    with app.app_context():
        storage = services().storage

        def away(*_args):
            raise OSError("away")

        with monkeypatch.context() as patch:
            patch.setattr(storage, "open", away)
            patch.setattr(storage, "check", away)
            with pytest.raises(TryLater):
                services().export_jobs.run(waiting)
        row = db.session.get_one(Export, waiting)
        assert (row.status, row.attempts) == (ExportStatus.QUEUED, 0)
        services().export_jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.READY


def test_an_export_that_reads_back_differently_is_not_offered(app, ann, waiting, monkeypatch):
    wrong = ExportedBox("dog", (0, 0, 9, 9))
    from apps.services import export_writers

    add = export_writers.Coco.add

    def add_wrong(self, picture):
        return add(self, replace(picture, boxes=(wrong,) * len(picture.boxes)))

    monkeypatch.setattr(export_writers.Coco, "add", add_wrong)
    with app.app_context():
        services().export_jobs.run(waiting)
    page = ann.get("/exports").text
    assert "gave something else than the pictures have" in page
    assert not [name for name in stored_files(app) if name.startswith("export/")]
    answer = ann.post("/images/export", data={"id": 1, "format": "coco"}, follow_redirects=True)
    assert "gave something else" in answer.text
    assert export_checks.NEAR == 0.5


def more(picture):
    return replace(picture, width=picture.width + 1)


def surer(picture):
    sure = [replace(box, score=box.score and 0.5) for box in picture.boxes]
    return replace(picture, boxes=tuple(sure))


def of_a_person(picture):
    return replace(picture, boxes=tuple(replace(box, score=None) for box in picture.boxes))


def renamed(picture):
    return replace(picture, name=f"x{picture.name}")


WRONG = {
    "coco": (more, surer, of_a_person, renamed),
    "voc": (more, renamed),
    "csv": (more, surer, of_a_person, renamed),
    "labelstudio": (more, surer, of_a_person, renamed),
    "yolo": (renamed,),
}


@pytest.mark.parametrize(
    ("kind", "wrong"), [(kind, wrong) for kind, every in WRONG.items() for wrong in every]
)
def test_sizes_scores_names_and_whose_boxes_are_compared(
    kind, wrong, app, ann, pictures, monkeypatch
):
    from apps.services.export_writers import WRITERS

    add = WRITERS[kind].add
    monkeypatch.setattr(WRITERS[kind], "add", lambda self, picture: add(self, wrong(picture)))
    answer = ann.post(
        "/images/export", data={"id": pictures, "format": kind}, follow_redirects=True
    )
    assert "gave something else" in answer.text


@pytest.mark.parametrize("kind", ["coco", "native"])
def test_an_original_that_the_disk_changed_is_named_and_left_out(kind, app, ann, pictures):
    with app.app_context():
        image = db.session.get_one(Image, pictures[0])
        storage = services().storage
        with storage.open(image.original_key) as stream:
            data = stream.read()
        storage.delete(image.original_key)
        storage.put(image.original_key, data[:-2] + b"xx")
    archive = made(ann, kind)
    assert "고양이" in archive.read("missing.txt").decode()
    assert sum(name.endswith(".jpg") for name in archive.namelist()) == 4


def test_a_file_is_kept_for_some_days_and_then_purged(app, ann, pictures):
    made(ann, "csv")
    with app.app_context():
        row = db.session.get_one(Export, 1)
        assert row.expires_at - row.finished_at > timedelta(days=6)
        row.expires_at = utcnow() - timedelta(seconds=1)
        db.session.commit()
        assert ann.get("/exports/1/file").status_code == 404
        assert services().export_jobs.purge() == 1
    assert status_of(app, 1) is ExportStatus.EXPIRED
    assert not [name for name in stored_files(app) if name.startswith("export/")]
    assert "expired" in ann.get("/exports").text


def test_an_account_waits_for_a_few_exports_at_a_time(app, ann, waiting):
    with app.app_context():
        for _ in range(2):
            services().exports.create(1, Wanted("csv"))
    answer = ann.post("/exports", data={"format": "coco"})
    assert answer.status_code == 503
    assert "wait or run already" in answer.text


def test_an_account_keeps_a_limited_number_of_bytes_and_always_one_export(app, ann, pictures):
    room = services(app).export_jobs.room
    object.__setattr__(room, "most", 1)
    made(ann, "coco")  # the only one may have more
    answer = ann.post("/exports", data={"format": "coco", "pictures": "1"})
    assert answer.status_code == 409
    assert "Delete one that is not needed" in answer.text
    ann.post("/exports/1/delete")
    made(ann, "coco")


@pytest.mark.parametrize("with_pictures", [True, False])  # known before it is made, or after
def test_an_export_that_is_too_large_beside_others_is_not_kept(app, ann, waiting, with_pictures):
    jobs = services(app).export_jobs
    with app.app_context():
        db.session.get_one(Export, waiting).with_pictures = with_pictures
        more = {"boxes": BOTH, "threshold": 0.5, "with_pictures": True, "key": "k", "bytes": 10}
        until = utcnow() + timedelta(days=1)
        db.session.add(
            Export(owner_id=1, kind="coco", status=ExportStatus.READY, expires_at=until, **more)
        )
        db.session.commit()
        object.__setattr__(jobs.room, "most", 11)
        jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.FAILED
    assert "take too much room" in ann.get("/exports").text
    assert not [name for name in stored_files(app) if name.startswith("export/")]


def test_a_full_disk_stops_exports_before_they_are_made(app, ann, waiting, pictures, monkeypatch):
    class Usage:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with app.app_context():
        services(app).export_jobs.run(waiting)
    assert status_of(app, waiting) is ExportStatus.FAILED
    assert "disk has no room" in ann.get("/exports").text
    data = {"id": pictures, "format": "coco", "pictures": "1"}
    answer = ann.post("/images/export", data=data, follow_redirects=True)
    assert "disk has no room" in answer.text


def test_only_some_exports_are_made_at_once_while_people_wait(app, ann, pictures):
    exports = services(app).exports
    held = 0
    while exports.turns.acquire(blocking=False):
        held += 1
    data = {"id": pictures, "format": "coco"}
    assert (
        "Try again in a moment" in ann.post("/images/export", data=data, follow_redirects=True).text
    )
    for _ in range(held):
        exports.turns.release()
    assert ann.post("/images/export", data=data).mimetype == "application/zip"
    assert exports.turns.acquire(blocking=False)  # given back


def test_a_deleted_account_leaves_no_export(app, ann, pictures, make_user):
    made(ann, "csv")
    make_user("root")
    with app.app_context():
        services().accounts.delete([1])
        assert not db.session.scalars(select(Export)).all()
        assert not db.session.scalars(select(SavedFilter)).all()
    assert stored_files(app) == []


# -- REST ----------------------------------------------------------------------------------


def test_programs_make_poll_load_and_delete_exports(app, ann, pictures, bearer):  # noqa: F811
    client, head, other = app.test_client(), bearer("ann", "read"), bearer("bob")
    body = {"format": "native", "ids": pictures[:2], "pictures": False}
    answer = client.post("/api/v1/exports", json=body, headers=head)
    assert answer.status_code == 202, answer.text
    export_id = answer.json["id"]
    told = client.get(f"/api/v1/exports/{export_id}", headers=head).json
    assert told["status"] == "ready"
    assert told["counts"]["pictures"] == 2
    answer = client.get(told["file"], headers=head)
    assert len(answer.data) == told["bytes"]
    part = client.get(told["file"], headers=head | {"Range": "bytes=0-3"})
    assert (part.status_code, part.data) == (206, b"PK\x03\x04")
    assert client.get(told["file"], headers=other).status_code == 404
    assert client.get("/api/v1/exports", headers=other).json == []
    assert client.delete(f"/api/v1/exports/{export_id}", headers=other).status_code == 404
    assert len(client.get("/api/v1/exports", headers=head).json) == 1
    assert client.delete(f"/api/v1/exports/{export_id}", headers=head).status_code == 403
    writer = bearer("ann", "write")
    assert client.delete(f"/api/v1/exports/{export_id}", headers=writer).status_code == 204
    assert client.get(f"/api/v1/exports/{export_id}", headers=head).status_code == 404


def test_programs_are_told_what_is_wrong(app, ann, bob, pictures, bearer):  # noqa: F811
    client, head = app.test_client(), bearer("bob", "read")
    assert client.post("/api/v1/exports", json={"format": "coco"}).status_code == 401
    for body, status in (
        ({"format": "account"}, 422),
        ({"format": "x"}, 422),
        ({"format": "coco", "ids": pictures}, 404),
        ({"format": "coco", "ids": []}, 422),
        ({"format": "coco"}, 422),
        ({"format": "coco", "threshold": 2}, 422),
        ({"format": "coco", "nonsense": 2}, 422),
    ):
        answer = client.post("/api/v1/exports", json=body, headers=head)
        assert answer.status_code == status, body
        assert answer.mimetype == "application/problem+json"


def test_no_token_sees_the_data_of_a_whole_account(app, ann, pictures, bearer):  # noqa: F811
    made(ann, "account")
    client, head = app.test_client(), bearer("ann", "read")
    assert client.get("/api/v1/exports", headers=head).json == []
    assert client.get("/api/v1/exports/1", headers=head).status_code == 404
    assert client.get("/api/v1/exports/1/file", headers=head).status_code == 404
