"""Labelled pictures on their way into a detector: the check, the parts, augmentation."""

import math
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from apps.errors import InvalidInput
from apps.vision.formats.dataset import DetectionData, LabelledBox, PictureFile
from apps.vision.train.detection.augment import Augmenter, Maps, cut_boxes, draw_maps
from apps.vision.train.detection.check import check_detection, read_files, repaired
from apps.vision.train.detection.parts import divide, part_of
from apps.vision.train.detection.pictures import PictureStore
from apps.vision.train.detection.recipe import DetectorRecipe
from tests.train.boxes import divided, rectangles, write_png

STILL: dict[str, Any] = {
    "mirror": 0.0,
    "stretch": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "grey": 0.0,
    "zoom": (1.0, 1.0),
    "width": 96,
    "height": 64,
    "keep": 96,
}


@pytest.fixture
def data(tmp_path):
    return rectangles(tmp_path, 6)


def recipe(**values) -> DetectorRecipe:
    return DetectorRecipe(**(STILL | values))


# -- the check ------------------------------------------------------------------------------


def with_box(data, corners, label="flat"):
    first = data.pictures[0]
    box = LabelledBox(label, corners)
    return replace(data, pictures=(replace(first, boxes=(*first.boxes, box)), *data.pictures[1:]))


def test_good_data_has_no_findings(data):
    report = check_detection(data)
    assert "6 pictures, 12 boxes: flat 6, tall 6" in report.text()
    assert report.findings == ()


@pytest.mark.parametrize(
    ("corners", "label", "text"),
    [
        ((math.nan, 1.0, 2.0, 3.0), "flat", "no numbers: images/0.png: box 3, flat"),
        ((5.0, 5.0, 5.0, 9.0), "flat", "without width or height"),
        ((9.0, 5.0, 5.0, 9.0), "flat", "without width or height"),
        ((80.0, 5.0, 120.0, 9.0), "flat", "reach out"),
        ((-9.0, 5.0, 12.0, 9.0), "flat", "reach out"),
        ((1.0, 5.0, 12.0, 9.0), "cat", "a class that is not listed: images/0.png: box 3, cat"),
    ],
)
def test_an_impossible_box_is_named_and_a_training_refused(data, corners, label, text):
    broken = with_box(data, corners, label)
    report = check_detection(broken)
    assert text in report.text()
    with pytest.raises(InvalidInput, match=r"images/0\.png"):
        report.refuse_broken()
    check_detection(repaired(broken)).refuse_broken()


def test_boxes_that_reach_out_are_cut_by_a_repair(data):
    boxes = repaired(with_box(data, (80.0, 5.0, 120.0, 9.0))).pictures[0].boxes
    assert boxes[-1].corners == (80.0, 5.0, 96.0, 9.0)


def test_missing_damaged_and_wrongly_sized_pictures_are_named(data):
    one, two, three, *rest = data.pictures
    two.file.path.write_bytes(b"GIF89a no more")
    write_png(three.file.path, np.zeros((10, 20, 3), np.uint8))
    text = check_detection(replace(data, pictures=(replace(one, file=None), two, three, *rest)))
    assert "missing: images/0.png" in text.text()
    assert "cannot be read: images/1.png" in text.text()
    assert "images/2.png: 20 × 10, not 96 × 64" in text.text()


def test_a_repair_leaves_out_pictures_that_cannot_be_used(data):
    one, two, three, four, *rest = data.pictures
    two.file.path.write_bytes(b"GIF89a no more")
    write_png(three.file.path, np.zeros((10, 20, 3), np.uint8))
    four.file.path.write_bytes(four.file.path.read_bytes()[:-60])
    broken = replace(data, pictures=(replace(one, file=None), two, three, four, *rest))
    whole = repaired(broken)
    assert whole.pictures == tuple(rest)
    check_detection(whole).refuse_broken()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_picture_that_was_cut_short_is_found(data, form):
    """Its header is whole, and says the right size."""
    path = data.pictures[1].file.path
    with Image.open(path) as picture:
        noise = Image.effect_noise(picture.size, 90).convert("RGB")
    noise.save(path, form)
    assert check_detection(data).findings == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read: images/1.png" in check_detection(data).text()


def test_without_a_size_in_the_labels_that_of_the_file_counts(data):
    broken = with_box(data, (80.0, 5.0, 120.0, 9.0))
    first = replace(broken.pictures[0], width=0, height=0)
    broken = replace(broken, pictures=(first, *broken.pictures[1:]))
    assert "reach out of their picture: images/0.png: box 3" in check_detection(broken).text()
    fixed = repaired(broken).pictures[0]
    assert fixed.boxes[-1].corners == (80.0, 5.0, 96.0, 9.0)
    assert (fixed.width, fixed.height) == (96, 64)


def test_a_class_that_cannot_be_learned_is_a_warning(data):
    """It is only in other parts, or only difficult."""
    data = divided(data, "train", "val")
    first, second, *rest = data.pictures
    hard = LabelledBox("hard", (1.0, 1.0, 9.0, 9.0), difficult=True)
    extra = LabelledBox("elsewhere", (1.0, 1.0, 9.0, 9.0))
    pictures = (
        replace(first, boxes=(*first.boxes, hard)),
        replace(second, boxes=(*second.boxes, extra)),
        *rest,
    )
    report = check_detection(DetectionData((*data.classes, "hard", "elsewhere"), pictures))
    report.refuse_broken()
    [finding] = report.findings
    assert "to learn from" in finding.what
    assert finding.examples == ("hard", "elsewhere")


def test_how_many_pictures_are_read_is_reported(data):
    told = []
    read_files(data, lambda done, total: told.append((done, total)))
    assert told == [(number, 6) for number in range(1, 7)]


def test_the_second_of_two_pictures_of_one_name_is_looked_at_too(data):
    one, two, *rest = data.pictures
    two.file.path.write_bytes(b"no picture")
    same = replace(data, pictures=(one, replace(two, name=one.name), *rest))
    text = check_detection(same).text()
    assert f"names that two pictures have: {one.name}" in text
    assert f"cannot be read: {one.name}" in text
    turned = replace(data, pictures=(replace(two, name=one.name), one, *rest))
    assert repaired(turned).pictures[0].file == one.file


def test_twins_in_two_parts_and_rare_classes_are_warnings(data):
    data = divided(data, "train", "test")
    one, two, *rest = data.pictures
    two.file.path.write_bytes(one.file.path.read_bytes())
    many = replace(one, boxes=one.boxes + tuple(one.boxes[:1]) * 70)
    report = check_detection(
        replace(data, classes=(*data.classes, "never"), pictures=(many, two, *rest))
    )
    report.refuse_broken()
    for text in (
        "in two parts: images/1.png = images/0.png",
        "of the boxes of the commonest one: tall 3",  # in train
    ):
        assert text in report.text()
    assert "classes without a box: never" in report.text()
    assert "there twice" in report.text()


# -- parts ----------------------------------------------------------------------------------


def test_what_is_held_out_depends_on_the_seed_of_the_split_alone(tmp_path):
    data = rectangles(tmp_path, 12)
    shuffled = replace(data, pictures=data.pictures[::-1])
    parts = divide(data, recipe(test=3, val=2))
    again = divide(shuffled, recipe(test=3, val=2, seed=9))
    assert [len(p.pictures) for p in (parts.train, parts.val, parts.test)] == [7, 2, 3]
    assert parts == again
    other = divide(data, recipe(test=3, val=2, split_seed=21))
    assert other.test != parts.test
    names = {p.name for part in (parts.train, parts.val, parts.test) for p in part.pictures}
    assert len(names) == 12


def test_parts_that_the_data_has_are_kept(data):
    data = divided(data, "train", "train", "test")
    parts = divide(data, recipe(val=1))
    assert {p.split for p in parts.test.pictures} == {"test"}
    assert (len(parts.train.pictures), len(parts.val.pictures)) == (3, 1)


def test_an_empty_part_is_refused(data):
    with pytest.raises(InvalidInput, match="part “train”"):
        divide(data, recipe(test=5, val=1))


def test_one_part_needs_no_other(data):
    alone = divided(data, "test")
    assert part_of(alone, recipe(), "test") == alone
    with pytest.raises(InvalidInput, match="part “train”"):
        part_of(alone, recipe(), "train")


# -- augmentation ---------------------------------------------------------------------------


def bright_box(pixels: torch.Tensor) -> tuple[float, ...]:
    """Corners of everything that is brighter than the middle of dark and white."""
    rows, columns = torch.nonzero(pixels.mean(0) > 0.6, as_tuple=True)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def test_without_augmentation_a_view_is_the_picture(data):
    store = PictureStore.of(data, 96)
    views, targets = Augmenter(store, recipe())(torch.tensor([2]), 0.0)
    assert torch.allclose(views[0], store.picture(2), atol=1e-6)
    assert torch.allclose(targets[0]["boxes"], store.truths[2].boxes)
    assert targets[0]["labels"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "values",
    [
        {"mirror": 1.0},
        {"upside_down": 1.0},
        {"zoom": (0.6, 0.8)},
        {"zoom": (1.2, 1.6)},
        {"stretch": 0.4},
        {"width": 128, "height": 128, "zoom": (0.5, 1.5), "mirror": 0.5, "upside_down": 0.5},
        {"sizes": (0.5, 1.5), "zoom": (1.0, 1.4), "mirror": 0.5},
    ],
)
def test_boxes_follow_the_pixels(data, values):
    """Each class's rectangle, alone on its picture, lies where its box says, to a pixel."""
    single = [replace(p, boxes=p.boxes[n % 2 :][:1]) for n, p in enumerate(data.pictures)]
    for picture, before in zip(single, data.pictures, strict=True):
        [box] = picture.boxes
        x1, y1, x2, y2 = (int(c) for c in box.corners)
        pixels = np.full((64, 96, 3), 40, np.uint8)
        pixels[y1:y2, x1:x2] = 255
        write_png(before.file.path, pixels)
    store = PictureStore.of(replace(data, pictures=tuple(single)), 96)
    torch.manual_seed(3)
    augmenter = Augmenter(store, recipe(visible=0.2, **values))
    seen = 0
    for _ in range(4):
        views, targets = augmenter(torch.arange(6), 0.0)
        for view, target in zip(views, targets, strict=True):
            for box in target["boxes"]:
                assert bright_box(view) == pytest.approx(box.tolist(), abs=1.3)
                seen += 1
    assert seen > 8


def test_a_mosaic_has_four_pictures_and_their_boxes(data):
    store = PictureStore.of(data, 96)
    calm = recipe(mosaic=1.0, calm=0.2, width=192, height=128)
    torch.manual_seed(0)
    views, targets = Augmenter(store, calm)(torch.arange(2), 0.5)
    assert views.shape == (2, 3, 128, 192)
    for view, target in zip(views, targets, strict=True):
        assert len(target["boxes"]) >= 4
        for x1, y1, x2, y2 in target["boxes"].round().int().tolist():
            assert view[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean() > 0.85
    _, alone = Augmenter(store, calm)(torch.arange(2), 0.9)
    assert [len(target["boxes"]) for target in alone] == [2, 2]


def test_growing_views_begin_small_and_end_large(data):
    store = PictureStore.of(data, 96)
    augmenter = Augmenter(store, recipe(sizes=(1.0, 2.0, 3.0), growing=True))
    widths = [augmenter(torch.arange(1), part)[0].shape[3] for part in (0.0, 0.34, 0.7, 1.0)]
    assert widths == [96, 192, 288, 288]


def test_the_seed_decides_every_view(data):
    store = PictureStore.of(data, 96)
    augmenter = Augmenter(store, DetectorRecipe(mosaic=0.5).sized(64, 96))
    torch.manual_seed(5)
    first = augmenter(torch.arange(4), 0.0)[0]
    torch.manual_seed(5)
    assert torch.equal(augmenter(torch.arange(4), 0.0)[0], first)
    assert not torch.equal(augmenter(torch.arange(4), 0.0)[0], first)


def test_difficult_boxes_are_no_targets(data):
    first = data.pictures[0]
    hard = replace(first.boxes[0], difficult=True)
    store = PictureStore.of(
        replace(data, pictures=(replace(first, boxes=(hard, first.boxes[1])),)), 96
    )
    _, [target] = Augmenter(store, recipe())(torch.tensor([0]), 0.0)
    assert target["labels"].tolist() == [2]


def test_a_box_of_which_too_little_is_left_is_dropped():
    boxes = torch.tensor([[-10.0, 0, 10, 20], [-16, 0, 4, 20], [30, 30, 31, 50]])
    kept, cut = cut_boxes(boxes, 64, 96, visible=0.4)
    assert kept.tolist() == [True, False, False]
    assert cut[0].tolist() == [0, 0, 10, 20]


def test_colours_change_and_boxes_do_not(data):
    store = PictureStore.of(data, 96)
    torch.manual_seed(0)
    views, targets = Augmenter(store, recipe(brightness=0.3, contrast=0.5))(torch.arange(6), 0.0)
    assert float((views[0] - store.picture(0)).abs().max()) > 0.02
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    assert torch.allclose(targets[0]["boxes"], store.truths[0].boxes)


def test_maps_give_boxes_back_in_order_after_a_mirroring():
    maps = Maps(torch.tensor([[-2.0, 1.0]]), torch.tensor([[100.0, 5.0]]))
    assert maps.boxes(0, torch.tensor([[10.0, 10, 20, 30]])).tolist() == [[60, 15, 80, 35]]


def test_a_zoom_of_one_lets_every_picture_just_fit():
    sizes = torch.tensor([[96.0, 64], [64, 96]])
    maps = draw_maps(sizes, 96, 96, recipe(), (1.0, 1.0))
    assert torch.allclose((sizes * maps.factors).amax(1), torch.tensor([96.0, 96.0]))


def test_large_pictures_are_kept_smaller_and_their_boxes_too(data):
    store = PictureStore.of(data, 48)
    assert store.pixels.shape == (6, 3, 32, 48)
    assert store.pixels.dtype == torch.uint8
    assert torch.allclose(
        store.truths[0].boxes * 2, torch.tensor([b.corners for b in data.pictures[0].boxes])
    )


def test_each_zip_is_opened_once(data, tmp_path, monkeypatch):
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for picture in data.pictures:
            opened.write(picture.file.path, picture.name)
    opens = []
    usual = zipfile.ZipFile.__init__

    def counted(self, *args, **kwargs):
        opens.append(args)
        usual(self, *args, **kwargs)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", counted)
    packed = replace(
        data,
        pictures=tuple(replace(p, file=PictureFile(archive, p.name)) for p in data.pictures),
    )
    assert torch.equal(PictureStore.of(packed, 96).pixels, PictureStore.of(data, 96).pixels)
    assert len(opens) == 1
    assert not check_detection(packed).findings
    assert len(opens) == 2
    missing = replace(packed.pictures[0], file=PictureFile(archive, "nowhere.png"))
    with pytest.raises(InvalidInput, match=r"nowhere\.png"):
        PictureStore.of(replace(packed, pictures=(missing,)), 96)


def test_a_picture_that_cannot_be_read_is_named(data):
    data.pictures[3].file.path.write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"images/3\.png"):
        PictureStore.of(data, 96)
