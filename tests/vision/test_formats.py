"""Boxes to files and back: COCO, VOC and YOLO."""

import json
import zipfile
from dataclasses import replace

import pytest

from apps.errors import InvalidInput
from apps.vision.formats import coco, folders, voc, yolo
from apps.vision.formats.dataset import Archives, PictureFile, PictureFolder, is_safe
from tests.train.boxes import CLASSES, divided, rectangles


@pytest.fixture
def data(tmp_path):
    """Three pictures with a hard box, in the parts train, val and test."""
    made = divided(rectangles(tmp_path, 3), "train", "val", "test")
    first = made.pictures[0]
    hard = (replace(first.boxes[0], difficult=True), *first.boxes[1:])
    return replace(made, pictures=(replace(first, boxes=hard), *made.pictures[1:]))


def test_coco_gives_back_what_was_written(data, tmp_path):
    coco.write(data, tmp_path / coco.ANNOTATIONS)
    assert coco.read(tmp_path) == data == folders.read(tmp_path)


def test_voc_gives_back_what_was_written(data, tmp_path):
    voc.write(data, tmp_path)
    assert voc.read(tmp_path) == data == folders.read(tmp_path)


def test_voc_counts_pixels_from_one_and_both_ends_belong_to_the_box(data, tmp_path):
    voc.write(data, tmp_path)
    x1, y1, x2, y2 = data.pictures[0].boxes[0].corners
    text = (tmp_path / "Annotations" / "0.xml").read_text()
    for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
        assert f"<{tag}>{value:.0f}</{tag}>" in text


def test_yolo_gives_back_what_was_written_but_difficult(tmp_path):
    data = rectangles(tmp_path, 2)
    moved = []
    for picture, split in zip(data.pictures, ("train", "val"), strict=True):
        name = f"images/{split}/{picture.name.rpartition('/')[2]}"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.file.path.rename(tmp_path / name)
        file = PictureFile(tmp_path / name)
        moved.append(replace(picture, name=name, file=file, split=split))
    data = replace(data, pictures=tuple(moved))
    yolo.write(data, tmp_path)
    again = yolo.read(tmp_path)
    assert again.classes == CLASSES == folders.read(tmp_path).classes
    for picture, wanted in zip(again.pictures, data.pictures, strict=True):
        assert picture.name == wanted.name
        assert picture.split == wanted.split
        for box, right in zip(picture.boxes, wanted.boxes, strict=True):
            assert box.label == right.label
            assert box.corners == pytest.approx(right.corners, abs=1e-3)


def test_a_yolo_picture_without_a_label_file_has_no_boxes(tmp_path):
    rectangles(tmp_path, 1)
    (tmp_path / "classes.txt").write_text("flat\ntall\n")
    [picture] = folders.read(tmp_path).pictures
    assert picture.boxes == ()
    assert (picture.width, picture.height) == (96, 64)


def test_a_yolo_label_file_without_a_picture_is_a_missing_picture(tmp_path):
    rectangles(tmp_path, 1)
    (tmp_path / "classes.txt").write_text("flat\ntall\n")
    (tmp_path / "labels").mkdir()
    for name, text in (("0", "0 .5 .5 .1 .1"), ("gone", "1 .5 .5 .1 .1"), ("classes", "flat\n")):
        (tmp_path / "labels" / f"{name}.txt").write_text(text)
    _, missing = folders.read(tmp_path).pictures
    assert (missing.name, missing.file) == ("labels/gone.txt", None)


CALLED = [
    ("training", "train"), ("Valid", "val"), ("validation", "val"), ("minival", "val"),
    ("TESTING", "test"), ("default", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split"), CALLED)
def test_parts_that_people_call_otherwise_are_known(data, tmp_path, name, split):
    data = replace(data, pictures=tuple(replace(p, split=name) for p in data.pictures))
    coco.write(data, tmp_path / coco.ANNOTATIONS)
    assert {picture.split for picture in folders.read(tmp_path).pictures} == {split}
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / f"instances_{name}2017.json"
    coco.write(replace(data, pictures=tuple(replace(p, split=None) for p in data.pictures)), path)
    (tmp_path / coco.ANNOTATIONS).unlink()
    assert {picture.split for picture in folders.read(tmp_path).pictures} == {split}
    voc.write(data, tmp_path / "voc")
    assert {picture.split for picture in folders.read(tmp_path / "voc").pictures} == {split}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(("name", "split"), CALLED[:-1])
def test_yolo_folders_of_parts_may_be_called_otherwise(tmp_path, name, split, described):
    rectangles(tmp_path / "made", 1)
    (tmp_path / "images").mkdir()
    (tmp_path / "made" / "images").rename(tmp_path / "images" / name)
    if described:
        (tmp_path / "data.yaml").write_text(f"names: [flat, tall]\n{name}: images/{name}\n")
    else:
        (tmp_path / "classes.txt").write_text("flat\ntall\n")
    assert [picture.split for picture in folders.read(tmp_path).pictures] == [split]


def test_a_part_that_nobody_knows_is_refused_by_its_name(data, tmp_path):
    odd = replace(data, pictures=(*data.pictures[:2], replace(data.pictures[2], split="extra")))
    coco.write(odd, tmp_path / coco.ANNOTATIONS)
    with pytest.raises(InvalidInput, match=r"images\[2\]: there is no part “extra”"):
        folders.read(tmp_path)
    voc.write(odd, tmp_path / "voc")
    with pytest.raises(InvalidInput, match=r"extra\.txt .*no part “extra”"):
        folders.read(tmp_path / "voc")
    (tmp_path / coco.ANNOTATIONS).unlink()
    (tmp_path / "classes.txt").write_text("flat\n")
    for name in ("train", "extra"):
        (tmp_path / "images" / name).mkdir()
    with pytest.raises(InvalidInput, match="no part “extra”"):
        folders.read(tmp_path)


def test_coco_as_it_is_published_has_a_file_and_a_folder_for_each_part(data, tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        part = replace(
            data.part(split),
            pictures=tuple(replace(p, split=None) for p in data.part(split).pictures),
        )
        coco.write(part, tmp_path / "annotations" / f"instances_{split}2017.json")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "train2017" / "images").mkdir(parents=True)
    (tmp_path / "elsewhere" / "0.png").rename(tmp_path / "train2017" / "images" / "0.png")
    read = folders.read(tmp_path)
    assert read.splits == ("train", "val")
    assert read.part("train").pictures[0].file is not None
    assert read.part("val").pictures[0].file is None


def test_pictures_may_lie_in_zips(data, tmp_path):
    coco.write(data, tmp_path / coco.ANNOTATIONS)
    picture = data.pictures[0]
    content = picture.file.path.read_bytes()
    with zipfile.ZipFile(tmp_path / "images-0.zip", "w") as archive:
        archive.writestr(picture.name, content)
    picture.file.path.unlink()
    file = coco.read(tmp_path).pictures[0].file
    assert file is not None
    assert file.member == picture.name
    with Archives() as archives:
        assert archives.read(file) == content


def test_a_part_that_is_not_there_is_named(data):
    assert [p.split for p in data.part("val", "test").pictures] == ["val", "test"]
    with pytest.raises(InvalidInput, match=r"no part “nope”.*train, val, test"):
        data.part("nope")


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b.png", "..\\b.png", "C:/b.png", ""]
)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(b"x")
    inner = tmp_path / "inner"
    inner.mkdir()
    assert not is_safe(name)
    assert PictureFolder(inner).find(name) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.pop("images"), "no list “images”"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\] has no file_name"),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3]), r"annotations\[2\]: bbox"),
        (lambda c: c["annotations"][0].update(category_id=9), "no category has the id 9"),
        (lambda c: c["annotations"][0].update(image_id=99), "id 99, not listed"),
        (lambda c: c["annotations"].append(5), r"annotations\[6\] is no object"),
    ],
)
def test_a_wrong_coco_entry_is_named(data, tmp_path, change, text):
    path = tmp_path / coco.ANNOTATIONS
    coco.write(data, path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=text) as caught:
        coco.read(tmp_path)
    assert str(path) in str(caught.value)


def test_the_line_of_broken_json_is_named(tmp_path):
    (tmp_path / coco.ANNOTATIONS).write_text('{\n"images": [\n}')
    with pytest.raises(InvalidInput, match=r"annotations\.json:3"):
        folders.read(tmp_path)


XML = """<annotation>
<filename>a.png</filename>
<object>
<name>flat</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>4</ymax></bndbox>
</object>
</annotation>"""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (XML.format("wide"), r"a\.xml:5.*xmax is no number"),
        (XML.format("3").replace("<name>flat</name>", ""), r"a\.xml:3.*without a name"),
        (XML.format("3")[:-5], r"a\.xml:7"),
        (
            '<!DOCTYPE a [\n<!ENTITY b "bb">]>\n' + XML.format("3"),
            r"a\.xml:2.*declares an entity",
        ),
    ],
)
def test_the_line_of_wrong_xml_is_named(tmp_path, text, place):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(InvalidInput, match=place):
        folders.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "text"),
    [("0 0.5 0.5", "not five numbers"), ("7 .5 .5 .1 .1", "no class 7"), ("x", "not five")],
)
def test_the_line_of_a_wrong_yolo_label_is_named(tmp_path, line, text):
    rectangles(tmp_path, 1)
    (tmp_path / "classes.txt").write_text("flat\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text(f"0 .5 .5 .1 .1\n\n{line}\n")
    with pytest.raises(InvalidInput, match=rf"0\.txt:3.*{text}"):
        folders.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: [a]\ntrain: ../../etc", "leads out"),
        ("names: {0: a, 2: b}\ntrain: images", "neither a list nor numbered"),
        ("names: [a]", "no folder as train"),
        ("names: [a\ntrain: x", "data.yaml:2"),
    ],
)
def test_a_wrong_yolo_description_says_what_is_wrong(tmp_path, text, reason):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=reason):
        folders.read(tmp_path)


def test_a_folder_without_labels_says_which_it_could_have(tmp_path):
    assert not folders.has_boxes(tmp_path)
    with pytest.raises(InvalidInput, match=r"annotations\.json.*VOC.*YOLO"):
        folders.read(tmp_path)


def test_voc_pictures_of_one_name_in_two_folders_are_refused(data, tmp_path):
    twins = [replace(p, name=f"{n}/same.png") for n, p in enumerate(data.pictures)]
    with pytest.raises(InvalidInput, match="another picture has it"):
        voc.write(replace(data, pictures=tuple(twins)), tmp_path / "voc")
