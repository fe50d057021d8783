"""Tags, review and export for many pictures at once; and searches that are kept."""

import csv
import io
import json
import zipfile

import pytest
from PIL import Image as Picture
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageTag, SavedFilter, Tag, TagSource
from apps.vision.formats import coco, voc, yolo
from tests.conftest import picture_bytes


def send(client, path: str, *ids: int, **fields: str):
    data = {"id": [str(one) for one in ids], **fields}
    return client.post(f"/images/{path}", data=data, follow_redirects=True)


def tags(app, image_id: int) -> dict[str, TagSource]:
    query = select(Tag.name, ImageTag.source).join(ImageTag.tag)
    with app.app_context():
        return dict(db.session.execute(query.where(ImageTag.image_id == image_id)).all())


def test_a_tag_is_added_to_all_and_taken_off_again(app, ann, bob, upload):
    first, second, theirs = upload(ann), upload(ann), upload(bob)
    ann.post(f"/images/{first}/tags", data={"name": "beach"})
    page = send(ann, "tags", first, second, theirs, name="beach", action="add").text
    assert "The tag was added to 1 picture." in page
    assert "1 picture has the tag already." in page
    assert "1 picture is no longer there." in page
    assert tags(app, second)["beach"] is TagSource.PERSON
    assert "beach" not in tags(app, theirs)
    page = send(ann, "tags", first, second, theirs, name="BEACH", action="remove").text
    assert "The tag was taken off 2 pictures." in page
    assert "beach" not in tags(app, first)


def test_a_models_tag_that_is_taken_off_stays_off_and_can_be_put_back(app, ann, upload):
    image_id = upload(ann)
    send(ann, "tags", image_id, name="dog", action="remove")
    assert tags(app, image_id)["dog"] is TagSource.REMOVED
    ann.post(f"/detect/{image_id}")
    assert tags(app, image_id)["dog"] is TagSource.REMOVED
    assert "added to 1 picture" in send(ann, "tags", image_id, name="dog").text
    assert tags(app, image_id)["dog"] is TagSource.PERSON


def test_what_is_no_tag_or_no_picture_is_told(ann, upload):
    image_id = upload(ann)
    assert "Write a tag first." in send(ann, "tags", image_id, name=" ").text
    assert (
        "There is no such tag." in send(ann, "tags", image_id, name="unheard", action="remove").text
    )
    for path in ("tags", "review", "export", "trash"):
        assert "Select some pictures first." in send(ann, path).text
        if path != "export":
            page = send(ann, path, *range(1, 1002), name="x").text
            assert "Choose at most 1000 pictures at once" in page


def test_pictures_are_marked_as_reviewed_and_back(app, ann, bob, upload):
    first, second, theirs = upload(ann), upload(ann), upload(bob)
    with app.app_context():
        before = db.session.get_one(Image, first).version
    assert "2 pictures are marked" in send(ann, "review", first, second, theirs).text
    with app.app_context():
        rows = {image.id: image for image in db.session.scalars(select(Image))}
        assert rows[first].reviewed_at
        assert rows[first].version == before + 1  # who has it open in an editor hears of it
        assert rows[theirs].reviewed_at is None
    assert "1 picture was so already." in send(ann, "review", first).text
    assert "1 picture is no longer marked" in send(ann, "review", first, reviewed="no").text
    assert 'class="tile-reviewed"' in ann.get("/").text


# -- export --------------------------------------------------------------------------------


def exported(client, *ids: int, **fields: str) -> zipfile.ZipFile:
    answer = send(client, "export", *ids, **fields)
    assert answer.mimetype == "application/zip", answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.testzip() is None
    return archive


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "csv"])
def test_an_export_can_be_read_again(kind, ann, upload, tmp_path):
    data = picture_bytes()
    ids = [
        upload(ann, data, "a/b:c.jpg"),
        upload(ann, name="same.jpg"),
        upload(ann, name="same.png"),
    ]
    archive = exported(ann, *ids, format=kind, pictures="1")
    archive.extractall(tmp_path)
    if kind == "csv":
        text = archive.read("boxes.csv").decode("utf-8-sig")
        table = list(csv.DictReader(io.StringIO(text)))
        assert {row["label"] for row in table} == {"dog"}  # the cat is below the threshold
        assert len({row["file"] for row in table}) == 3
        return
    found = {"coco": coco, "yolo": yolo, "voc": voc}[kind].read(tmp_path)
    assert found.classes == ("dog",)
    assert len(found.pictures) == 3
    assert all(len(picture.boxes) == 1 for picture in found.pictures)
    assert data in [picture.file.path.read_bytes() for picture in found.pictures]


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [("", {"dog"}), ("20", {"dog", "cat"}), ("30.5", {"dog"}), ("95", set())],
)
def test_an_export_has_a_threshold_of_its_own_which_is_the_accounts_at_first(
    threshold, labels, ann, upload
):
    archive = exported(ann, upload(ann), format="csv", threshold=threshold)
    table = csv.DictReader(io.StringIO(archive.read("boxes.csv").decode("utf-8-sig")))
    assert {row["label"] for row in table} - {""} == labels
    assert (
        'name="threshold" type="number" min="0" max="100" step="any" value="50"'
        in ann.get("/").text
    )


def test_a_threshold_that_is_none_is_told(ann, upload):
    image_id = upload(ann)
    for threshold in ("101", "-1", "much", "nan"):
        page = send(ann, "export", image_id, threshold=threshold)
        assert "from 0 to 1" in page.text, threshold


def test_an_export_without_pictures_has_labels_alone(ann, upload):
    names = exported(ann, upload(ann), format="coco").namelist()
    assert names == ["annotations.json"]


def test_a_picture_that_only_its_exif_turns_is_exported_upright(ann, upload):
    exif = Picture.Exif()
    exif[0x0112] = 6
    image_id = upload(ann, picture_bytes((60, 40), exif=exif), "turned.jpg")
    archive = exported(ann, image_id, format="coco", pictures="1")
    with Picture.open(archive.open("images/turned.jpg")) as picture:
        assert picture.size == (40, 60)
        assert picture.getexif().get(0x0112, 1) == 1
    [row] = json.loads(archive.read("annotations.json"))["images"]
    assert (row["width"], row["height"]) == (40, 60)


def test_a_lost_file_is_named_and_its_labels_are_there(app, ann, upload):
    image_id = upload(ann, name="lost.jpg")
    with app.app_context():
        services().storage.delete(db.session.get_one(Image, image_id).original_key)
    archive = exported(ann, image_id, format="coco", pictures="1")
    assert archive.read("missing.txt").decode() == "lost.jpg\n"
    assert json.loads(archive.read("annotations.json"))["images"]


def test_an_export_is_limited_and_ones_own(ann, bob, upload):
    image_id = upload(bob)
    assert "None of these pictures is there" in send(ann, "export", image_id).text
    assert "no such format" in send(bob, "export", image_id, format="../x").text


# -- searches that are kept ----------------------------------------------------------------


def keep(client, name: str, search: str = "dog>=2"):
    data = {"name": name, "search": search}
    return client.post("/images/filters", data=data, follow_redirects=True).text


def test_a_search_is_kept_opened_renamed_and_deleted(app, ann, bob, upload):
    upload(ann)
    assert "is kept as “Two dogs”" in keep(ann, " Two  dogs ")
    assert "You have kept a search as “two DOGS” already." in keep(ann, "two DOGS")
    assert "is kept as" in keep(bob, "Two dogs")
    page = ann.get("/").text
    assert '<a href="/images/search?search=dog%3E%3D2" title="dog&gt;=2">Two dogs</a>' in page
    with app.app_context():
        [mine, theirs] = db.session.scalars(select(SavedFilter.id).order_by(SavedFilter.id))
    for path in (f"/images/filters/{theirs}", f"/images/filters/{theirs}/delete"):
        assert ann.post(path, data={"name": "x"}).status_code == 404
        assert app.test_client().post(path).status_code == 302
        assert ann.get(path).status_code in (404, 405)
    keep(ann, "Other", "cat")
    path = f"/images/filters/{mine}"
    assert "already" in ann.post(path, data={"name": "other"}, follow_redirects=True).text
    assert "now called “Dogs”" in ann.post(path, data={"name": "Dogs"}, follow_redirects=True).text
    assert "is deleted" in ann.post(f"{path}/delete", follow_redirects=True).text
    assert ">Dogs</a>" not in ann.get("/").text


@pytest.mark.parametrize(
    ("name", "search", "says"),
    [
        ("", "dog", "Write a name first."),
        ("x" * 61, "dog", "at most 60 characters"),
        ("a\u202eb", "dog", "control characters"),
        ("x", " ", "Search for something first"),
        ("x", "강" * 400, "too long to be kept"),
    ],
)
def test_what_cannot_be_kept_is_told(name, search, says, ann):
    assert says in keep(ann, name, search)


def test_a_change_without_a_token_is_refused(app, ann, upload):
    image_id = upload(ann)
    app.config["WTF_CSRF_ENABLED"] = True
    for path in ("tags", "review", "export", "trash", "filters"):
        assert send(ann, path, image_id).status_code == 400
    assert ann.post("/trash/restore").status_code == 400
    assert ann.post("/trash/delete", data={"all": "1", "confirmed": "1"}).status_code == 400
