"""Labels that strangers send: every format, and everything that can be wrong with them."""

import json

import pytest

from apps.errors import InvalidImage, InvalidInput
from apps.vision.formats.incoming import files, recognise
from apps.vision.formats.incoming import found as limits
from apps.vision.formats.incoming.files import Shelf
from apps.vision.formats.incoming.found import Found, Problems
from apps.vision.formats.incoming.recognise import read
from tests.labelled import BOXES, FORMATS, SIZE, coco, coco_content, pictures, yolo


class Memory:
    """Files in memory."""

    def __init__(self, files: dict[str, bytes | str]) -> None:
        self.files = {n: d.encode() if isinstance(d, str) else d for n, d in files.items()}
        self.names = tuple(self.files)

    def read(self, name: str, most: int) -> bytes:
        if len(self.files[name]) > most:
            raise InvalidImage("too_large", "too large")
        return self.files[name]


def looked(files: dict[str, bytes | str], most: int = 2**20) -> tuple[Found, list[str]]:
    """What is found, and the problems as texts."""
    problems = Problems()
    found = read(Shelf(Memory(files), problems, most))
    return found, [f"{row['file']}: {row['message'] % row['params']}" for row in problems.listed]


def boxes_of(found: Found) -> dict[str, list[tuple[str, list[float]]]]:
    """By the last part of the picture's name, in pixels."""
    (w, h), result = SIZE, {}
    for name, picture in found.pictures.items():
        scale = (w, h, w, h) if picture.parts else (1, 1, 1, 1)
        result[name.rpartition("/")[2]] = [
            (box.label, [side * by for side, by in zip(box.corners, scale, strict=True)])
            for box in picture.boxes
        ]
    return result


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_recognised_and_its_boxes_are_where_they_were_drawn(kind):
    found, problems = looked(FORMATS[kind]())
    assert found.kind == kind
    assert problems == []
    for name, rows in BOXES.items():
        assert [label for label, _ in boxes_of(found)[name]] == [label for label, _ in rows]
        for (_, got), (_, wanted) in zip(boxes_of(found)[name], rows, strict=True):
            assert got == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("kind", FORMATS)
def test_everything_may_lie_in_a_folder_of_the_archive(kind):
    found, problems = looked({f"my data/v1/{n}": d for n, d in FORMATS[kind]().items()})
    assert found.kind == kind
    assert problems == []
    assert found.boxes == 3


def test_pictures_without_labels_come_without_boxes_and_that_is_said():
    found, problems = looked(coco() | {"images/d.jpg": b"picture"})
    assert found.pictures["images/d.jpg"].boxes == []
    assert problems == ["images/d.jpg: No label file names this picture. It comes without boxes."]


def test_an_archive_without_labels_or_without_pictures_is_refused():
    with pytest.raises(InvalidInput, match="no labels"):
        looked(pictures())
    with pytest.raises(InvalidInput, match="no picture"):
        looked({"annotations.json": json.dumps(coco_content())})


# -- COCO ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image_id": 9, "category_id": 0, "bbox": [1, 1, 2, 2]}, "the picture 9"),
        ({"image_id": 0, "category_id": 9, "bbox": [1, 1, 2, 2]}, "the class 9"),
        ({"image_id": 0, "category_id": 0, "bbox": [1, 1, 2]}, "no box of four numbers"),
        ({"image_id": 0, "category_id": 0, "bbox": [1, 1, {}, 2]}, "no box of four numbers"),
        ({"image_id": 0, "category_id": 0}, "no box of four numbers"),
        ({"image_id": [], "category_id": {}, "bbox": 3}, "the picture []"),
        ({"image_id": 0, "category_id": 0, "bbox": [1, 1, 2, 2], "iscrowd": 1}, "a crowd"),
        ("nothing", "not complete"),
    ],
)
def test_a_wrong_annotation_of_coco_is_named_and_the_others_come(row, reason):
    content = coco_content()
    content["annotations"].append(row)
    found, problems = looked(pictures() | {"x.json": json.dumps(content)})
    assert found.boxes == 3
    assert len(problems) == 1
    assert reason in problems[0]


def test_outlines_are_reported_and_their_boxes_come():
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2, 3, 3]]
    found, problems = looked(pictures() | {"x.json": json.dumps(content)})
    assert found.boxes == 3
    assert problems == ["x.json: Outlines (segmentation) are not taken over; their boxes are."]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../etc/passwd.jpg", "leads out of the archive"),
        ("/etc/a.jpg", "leads out of the archive"),
        ("missing.jpg", "not in the archive"),
        ("a/" * 400_000 + "a.jpg", "longer than any name"),
    ],
)
def test_a_reference_that_leads_nowhere_is_reported(name, reason):
    content = coco_content()
    content["images"][0]["file_name"] = name
    _, problems = looked(pictures() | {"x.json": json.dumps(content)}, most=2**21)
    assert reason in problems[0]


@pytest.mark.parametrize(
    ("name", "place"),
    [("set/two/a.jpg", "x/two/a.jpg"), ("one/A.JPG", "x/one/a.jpg"), ("other/c.jpg", "y/c.jpg"),
     ("TWO/a.jpg", "y/TWO/a.jpg")],
)  # fmt: skip
def test_folders_of_another_place_tell_pictures_of_one_name_apart(name, place):
    files = dict.fromkeys(("x/one/a.jpg", "x/two/a.jpg", "y/TWO/a.jpg", "y/c.jpg"), b"picture")
    content = coco_content()
    content["images"] = [{"id": 0, "file_name": name}]
    found, _ = looked(files | {"x.json": json.dumps(content)})
    assert [file for file, picture in found.pictures.items() if picture.boxes] == [place]


def test_a_name_that_several_pictures_have_is_not_guessed():
    files = pictures("one/") | pictures("two/") | {"x.json": json.dumps(coco_content())}
    found, problems = looked(files)
    assert found.boxes == 0
    assert "several pictures could be meant" in problems[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 100_000, "nested too deeply"), ("{", "not readable as JSON"),
     ("9" * 5000, "not readable as JSON"), (b"\xff\xfe{}", "not text in UTF-8")],
)  # fmt: skip
def test_json_that_cannot_be_read_is_named_beside_labels_that_can(text, reason):
    found, problems = looked(coco() | {"other.json": text})
    assert found.boxes == 3
    assert len(problems) == 1
    assert reason in problems[0]


def test_a_label_file_that_is_too_large_is_left_out():
    with pytest.raises(InvalidInput, match="larger than"):
        looked(coco(), most=100)


def test_json_of_more_lists_and_fields_than_fit_in_memory_is_not_loaded(monkeypatch):
    monkeypatch.setattr(files, "MAX_PARTS", 20)
    with pytest.raises(InvalidInput, match="more than 20 lists and fields"):
        looked(coco())


@pytest.mark.parametrize("kind", FORMATS)
def test_reading_can_be_ended(kind):
    class Enough(Exception):
        pass

    def tick() -> None:
        raise Enough

    with pytest.raises(Enough):
        read(Shelf(Memory(FORMATS[kind]()), Problems(), 2**20, tick))


def test_an_error_of_a_reader_names_the_file(monkeypatch):
    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(recognise.coco, "read", broken)
    with pytest.raises(InvalidInput, match=r"“annotations.json” cannot be read: too deep"):
        looked(pictures() | {"annotations.json": json.dumps(coco_content())})


def test_more_boxes_than_fit_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BOXES", 2)
    with pytest.raises(InvalidInput, match="more than 2 boxes"):
        looked(coco())


# -- YOLO ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [("0 0.5 0.5", "not a class number and a box"), ("x 0.5 0.5 0.1 0.1", "not a class"),
     ("7 0.5 0.5 0.1 0.1", "there is no such class"), ("-1 0.5 0.5 0.1 0.1", "no such class"),
     ("nan 0.5 0.5 0.1 0.1", "not a class number"), ("0.5 0.5 0.5 0.1 0.1", "not a class")],
)  # fmt: skip
def test_a_wrong_line_of_yolo_is_named_by_its_number(line, reason):
    files = yolo()
    files["labels/train/c.txt"] = line
    found, problems = looked(files)
    assert found.boxes == 3
    assert len(problems) == 1
    assert problems[0].startswith("labels/train/c.txt: Line 1 ")
    assert reason in problems[0]


def test_yolo_without_names_uses_the_numbers_and_outlines_become_boxes():
    files = {name: data for name, data in yolo().items() if name != "data.yaml"}
    files["labels/train/c.txt"] = "5 0.1 0.1 0.5 0.1 0.3 0.4"
    found, problems = looked(files)
    assert sorted(found.classes) == ["0", "1", "5"]
    [box] = found.pictures["images/train/c.jpg"].boxes
    assert box.corners == (0.1, 0.1, 0.5, 0.4)
    assert len(problems) == 2


def test_labels_beside_the_pictures_and_split_folders_are_found():
    picture, label = pictures()["images/a.jpg"], "0 0.5 0.5 0.2 0.2"
    beside, _ = looked({"a.jpg": picture, "a.txt": label, "classes.txt": "dog\n"})
    split, _ = looked({"valid/images/a.jpg": picture, "valid/labels/a.txt": label,
                       "data.yaml": "names: [dog]\n"})  # fmt: skip
    assert [list(each.classes) for each in (beside, split)] == [["dog"], ["dog"]]
    assert (beside.boxes, split.boxes) == (1, 1)


@pytest.mark.parametrize("value", ["!!int ''", "!!timestamp x", "!!bool x", "[", "*none"])
def test_yaml_that_cannot_be_is_named(value):
    _found, problems = looked(yolo() | {"data.yaml": f"names: {value}\n"})
    assert any(text.startswith("data.yaml: ") for text in problems)


def test_yolo_lines_may_end_as_on_old_machines():
    lines = "0 .5 .5 .2 .2\r0 .4 .4 .2 .2\r1 .6 .6 .2 .2\r"
    found, _ = looked(yolo() | {"labels/train/c.txt": lines})
    assert len(found.pictures["images/train/c.jpg"].boxes) == 3


def test_yaml_aliases_that_expand_without_end_are_refused():
    bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nnames: [*b,*b]\n"
    found, problems = looked(yolo() | {"data.yaml": bomb})
    assert sorted(found.classes) == ["0", "1"]
    assert any("aliases" in text for text in problems)


def test_a_description_that_is_too_large_is_left_out_and_none_is_read_twice():
    class Counting(Memory):
        count = 0

        def read(self, name: str, most: int) -> bytes:
            self.count += name == "data.yaml"
            return super().read(name, most)

    shelf = Shelf(counting := Counting(yolo()), Problems(), 2**20)
    assert sorted(read(shelf).classes) == ["cat", "dog"]
    assert counting.count == 1
    large = "names: [dog, cat]\n" + "#" * 2**20
    found, problems = looked(yolo() | {"data.yaml": large}, most=2**24)
    assert sorted(found.classes) == ["0", "1"]
    assert problems[0] == "data.yaml: This label file is larger than 1.0 MB. It is left out."


# -- VOC -----------------------------------------------------------------------------------


def test_an_xml_file_with_entities_is_refused_and_the_others_come():
    files = FORMATS["voc"]()
    files["Annotations/c.xml"] = (
        '<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]>'
        "<annotation><filename>&y;</filename></annotation>"
    )
    found, problems = looked(files)
    assert found.boxes == 3
    assert any("declares entities" in text for text in problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("<annotation>", "not readable as XML"),
     ("<annotation><filename>c.jpg</filename><object><name>x</name></object></annotation>",
      "no name or no box"),
     ("<annotation><filename>q.jpg</filename></annotation>", "")],
)  # fmt: skip
def test_a_wrong_xml_file_is_named(text, reason):
    found, problems = looked(FORMATS["voc"]() | {"Annotations/c.xml": text})
    assert found.boxes == 3
    assert reason in "".join(problems)


# -- CSV -----------------------------------------------------------------------------------


def test_a_table_may_have_other_words_another_order_and_semicolons():
    lines = "class;xmin;ymin;xmax;ymax;filename\n'=dog;1;2;3;4;a.jpg\ncat;;2;3;4;a.jpg\n"
    found, problems = looked(pictures() | {"labels.csv": lines})
    assert [(box.label, box.corners) for box in found.pictures["images/a.jpg"].boxes] == [
        ("=dog", (1.0, 2.0, 3.0, 4.0))
    ]
    assert problems[0].startswith("labels.csv: Line 3 is not a box")


@pytest.mark.parametrize("text", ["x" * 200_000, "x," * 2**20])
def test_a_table_with_an_endless_cell_or_line_is_refused_with_the_reason(text):
    with pytest.raises(InvalidInput, match="cannot be read on from line 1"):
        looked(pictures() | {"labels.csv": text}, most=2**24)


# -- Label Studio --------------------------------------------------------------------------


def test_label_studio_takes_the_latest_annotation_turns_boxes_upright_and_names_the_rest():
    def result(label: str, **more: object) -> list[dict[str, object]]:
        value = {"x": 50, "y": 50, "width": 10, "height": 20, "rectanglelabels": [label]}
        return [{"type": "rectanglelabels", "value": value | more}]

    wide = {"rotation": 90, "original_width": 100, "original_height": 50}
    tasks = [
        {"id": 1, "data": {"image": "a.jpg"}, "annotations": [
            {"result": result("old"), "updated_at": "2026-01-01"},
            {"result": result("new"), "updated_at": "2026-02-01"},
            {"result": result("no"), "updated_at": "2026-03-01", "was_cancelled": True}]},
        {"id": 2, "data": {"image": "s3://bucket/x/b.jpg"}, "annotations": [],
         "predictions": [{"result": result("turned", **wide)}]},
        {"id": 3, "data": {}},
        {"id": 4, "image": "/data/local-files/?d=sets/c.jpg", "label": [{"x": 1, "y": 1,
         "width": 5, "height": 5, "rectanglelabels": ["small"]}]},
        "nothing",
    ]  # fmt: skip
    found, problems = looked(pictures() | {"x.json": json.dumps(tasks)})
    labels = {name[-5]: [box.label for box in p.boxes] for name, p in found.pictures.items()}
    assert labels == {"a": ["new"], "b": ["turned"], "c": ["small"]}
    [turned] = found.pictures["images/b.jpg"].boxes
    assert turned.corners == pytest.approx((0.4, 0.5, 0.5, 0.7))
    assert len(problems) == 5


def test_what_is_no_address_is_named_and_the_other_tasks_come():
    box = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["small"]}
    tasks = [{"image": name, "label": [box]} for name in ("http://[abc/d.jpg", "a.jpg")]
    found, problems = looked(pictures() | {"x.json": json.dumps(tasks)})
    assert found.boxes == 1
    assert "“http://[abc/d.jpg”, which is no address" in problems[0]


def test_a_problem_of_many_files_is_listed_in_part_and_counted():
    problems = Problems()
    for number in range(100):
        problems.add(f"{number}\n.jpg", "Broken.")
    rows = problems.as_json()
    assert len(rows) == limits.LISTED
    assert [row["more"] for row in rows[-2:]] == [0, 60]
    assert problems.losses == 100
    assert "\n" not in rows[0]["file"]
