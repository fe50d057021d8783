"""Masks in COCO's run-length encoding: the same as pycocotools and torchvision make them."""

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.masks import (
    Bits,
    Polygon,
    Size,
    cropped,
    decode,
    encode,
    of_box,
    outline,
    segmentation,
    svg_path,
)
from apps.vision.types import Box
from apps.vision.zoo.registry import DetectorSpec, get_detector
from apps.vision.zoo.store import WeightsStore
from tests.vision import agreement


def drawn(size: Size, *shapes: tuple[str, tuple[int, int, int, int], int]) -> Bits:
    """A (height, width) bitmap of shapes such as ("ellipse", corners, 1)."""
    picture = Image.new("L", size)
    for kind, corners, fill in shapes:
        getattr(ImageDraw.Draw(picture), kind)(corners, fill=fill)
    return np.asarray(picture).astype(bool)


RING = drawn((200, 150), ("ellipse", (20, 10, 180, 140), 1), ("ellipse", (70, 50, 120, 100), 0))
TWO = drawn((90, 60), ("rectangle", (5, 5, 30, 20), 1), ("ellipse", (50, 20, 85, 55), 1))
WHOLE = np.ones((40, 30), bool)
SHAPES = pytest.mark.parametrize("mask", [RING, TWO, WHOLE], ids=["ring", "two", "whole"])


def size_of(mask: Bits) -> Size:
    return mask.shape[1], mask.shape[0]


def reference(mask: Bits) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def filled(polygons: list[Polygon], size: Size, finer: int = 8) -> Bits:
    """The pixels inside, holes left out (each line toggles), drawn ``finer`` and counted."""
    inside = np.zeros((size[1] * finer, size[0] * finer), bool)
    for polygon in polygons:
        picture = Image.new("1", (size[0] * finer, size[1] * finer))
        points = [(x * finer - 0.5, y * finer - 0.5) for x, y in polygon]
        ImageDraw.Draw(picture).polygon(points, fill=1)
        inside ^= np.asarray(picture)
    return inside.reshape(size[1], finer, size[0], finer).mean(axis=(1, 3)) >= 0.5


def overlap(one: Bits, other: Bits) -> float:
    return (one & other).sum() / (one | other).sum()


# -- the format ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 5), (40, 1300), (600, 700)])
@pytest.mark.parametrize("density", [0, 0.01, 0.5, 0.99, 1])
def test_any_bitmap_comes_back_and_is_what_pycocotools_makes_of_it(shape, density):
    mask = np.random.default_rng(7).random(shape) < density
    rle = encode(mask)
    assert rle == reference(mask)["counts"].decode()
    assert np.array_equal(decode(rle, size_of(mask)), mask)


@SHAPES
def test_area_and_overlap_are_those_of_pycocotools(mask):
    shifted = np.roll(mask, 4, axis=1)
    one, other = (
        {**segmentation(encode(m), size_of(m)), "counts": encode(m).encode()}
        for m in (mask, shifted)
    )
    assert coco.area(one) == mask.sum()
    assert coco.iou([one], [other], [0])[0, 0] == pytest.approx(overlap(mask, shifted))


def test_the_json_form_is_the_one_of_coco():
    assert segmentation(encode(TWO), (90, 60)) == {"size": [60, 90], "counts": encode(TWO)}


def test_the_crop_holds_every_pixel_and_starts_where_it_says():
    x, y, bits = cropped(encode(TWO), size_of(TWO))
    back = np.zeros_like(TWO)
    back[y : y + bits.shape[0], x : x + bits.shape[1]] = bits
    assert np.array_equal(back, TWO)
    assert bits.shape == (51, 81)
    assert cropped(encode(np.zeros((9, 9), bool)), (9, 9))[2].size == 0


# -- from a mask head to the picture -------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_a_box_gets_the_pixels_that_torchvision_would_paste(seed):
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    chance = np.random.default_rng(seed)
    size = int(chance.integers(1, 1200)), int(chance.integers(1, 900))
    small = torch.from_numpy(chance.random((1, 1, 7, 7), np.float32))
    small = torch.nn.functional.interpolate(small, (28, 28), mode="bicubic").clamp(0, 1)
    (x1, x2), (y1, y2) = (np.sort(chance.random(2)) * side for side in size)
    box = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32)
    pasted = paste_masks_in_image(small, box, size[::-1])[0, 0].numpy()
    found = decode(of_box(small[0, 0].numpy(), tuple(box[0].tolist()), size), size)
    differing = found != (pasted >= 0.5)
    assert np.abs(pasted[differing] - 0.5).max(initial=0) < 1e-5  # rounding, nothing else


@pytest.mark.parametrize(
    "corners",
    [(-50, -20, 30, 20), (80, 50, 140, 90), (-5, -5, 105, 65), (-9, -9, -4, -4), (40, 30, 40, 30)],
)
def test_a_box_over_the_border_or_without_width_is_no_error(corners):
    mask = decode(of_box(np.ones((28, 28), np.float32), corners, (100, 60)), (100, 60))
    left, top, right, bottom = corners
    assert mask[:, : max(0, int(left) - 3)].sum() == 0
    assert mask[min(60, int(bottom) + 4) :].sum() == 0
    inside = mask[max(0, top + 3) : max(0, bottom - 3), max(0, left + 3) : max(0, right - 3)]
    assert inside.all()


def test_an_unsure_mask_is_empty_and_can_be_drawn():
    rle = of_box(np.full((28, 28), 0.49, np.float32), (10, 10, 50, 50), (100, 60))
    assert not decode(rle, (100, 60)).any()
    assert outline(rle, (100, 60)) == []
    assert svg_path([]) == ""


def test_a_mask_over_twelve_megapixels_takes_few_of_them_as_memory():
    small = np.random.default_rng(0).random((28, 28), np.float32)
    tracemalloc.start()
    try:
        rle = of_box(small, (0, 0, 4000, 3000), (4000, 3000))
        polygons = outline(rle, (4000, 3000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert polygons
    assert peak < 40e6  # bytes; one float bitmap of the picture alone has 48


# -- outlines ------------------------------------------------------------------------------


@SHAPES
def test_the_outline_holds_the_same_pixels(mask):
    polygons = outline(encode(mask), size_of(mask))
    assert overlap(filled(polygons, size_of(mask)), mask) > 0.97


def test_the_outline_of_a_large_mask_is_coarser_and_still_right():
    mask = drawn((3000, 2000), ("ellipse", (100, 100, 2900, 1900), 1))
    polygons = outline(encode(mask), size_of(mask))
    assert sum(map(len, polygons)) < 200
    assert overlap(filled(polygons, size_of(mask), finer=1), mask) > 0.98


def test_holes_run_the_other_way_so_that_svg_leaves_them_open():
    def turn(polygon: Polygon) -> float:
        pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
        return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)

    turns = [turn(polygon) for polygon in outline(encode(RING), size_of(RING))]
    assert len(turns) == 2
    assert turns[0] * turns[1] < 0


def test_parts_that_touch_at_a_corner_stay_two():
    mask = np.zeros((20, 20), bool)
    mask[2:10, 2:10] = mask[10:18, 10:18] = True
    assert len(outline(encode(mask), (20, 20))) == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2)])
def test_outlines_of_tiny_masks_are_no_error(size):
    [polygon] = outline(encode(np.ones(size[::-1], bool)), size)
    assert all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in polygon)


def test_an_svg_path_is_closed_and_short():
    assert svg_path([[(0, 0), (10.5, 0), (10, 10)], [(1, 1), (2, 1), (2, 2)]]) == (
        "M0 0L10.5 0L10 10ZM1 1L2 1L2 2Z"
    )


# -- through the engine --------------------------------------------------------------------


def maskrcnn_resnet50_fpn(**options):
    """torchvision's builder of that name, but quick: for small pictures with few objects."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    few = {"min_size": 160, "rpn_post_nms_top_n_test": 60, "box_detections_per_img": 20}
    return maskrcnn_resnet50_fpn(**few, **options)


@pytest.fixture(scope="module")
def mask_rcnn(tmp_path_factory) -> tuple[TorchEngine, DetectorSpec]:
    """A Mask R-CNN of torchvision with random weights that is sure of itself."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    spec = get_detector("maskrcnn_resnet50_fpn.coco_v1")
    spec = replace(spec, builder=f"{__name__}:{maskrcnn_resnet50_fpn.__name__}")
    state = spec.build().state_dict()
    state["roi_heads.box_predictor.cls_score.weight"] *= 40  # else no score reaches the floor
    state["roi_heads.mask_predictor.mask_fcn_logits.weight"] *= 5
    path = folder / spec.weights.name
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(spec, weights=replace(spec.weights, sha256=digest[:8]))
    store = WeightsStore(folder)
    return TorchEngine(
        store, spec.name, EngineOptions("cpu"), lookup={spec.name: spec}.__getitem__
    ), spec


PICTURE = Image.effect_noise((160, 120), 90).convert("RGB")


def test_the_engine_gives_each_box_the_mask_of_the_plain_torchvision_model(mask_rcnn):
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor

    from apps.vision.zoo.weights import load_detector

    engine, spec = mask_rcnn
    boxes = engine.detect(PICTURE).boxes
    network = load_detector(spec, engine.store)
    del network.get_submodule("transform").postprocess  # torchvision's own is back
    with torch.inference_mode():
        [plain] = network([pil_to_tensor(PICTURE).float() / 255])
    assert plain["masks"].shape[1:] == (1, 120, 160)
    labels = [spec.classes[label - 1] for label in plain["labels"].tolist()]
    places, pasted = plain["boxes"].tolist(), plain["masks"][:, 0].numpy() >= 0.5
    assert len(boxes) > 5
    some = 0
    for box in boxes:
        mine = decode(box.mask, PICTURE.size)
        alike = [n for n, label in enumerate(labels) if label == box.label]
        best = max(alike, key=lambda n: agreement.overlap(agreement.corners(box), tuple(places[n])))
        wanted = pasted[best]
        # Not the IoU: some of these boxes are slivers, where a thousandth of a pixel counts.
        assert agreement.corners(box) == pytest.approx(places[best], abs=0.01)
        assert (mine & wanted).sum() >= 0.99 * (mine | wanted).sum()
        some += bool(mine.any() and not mine.all())
    assert some > 5


def test_masks_of_a_smaller_copy_have_the_size_of_the_picture(mask_rcnn):
    engine, _ = mask_rcnn
    size = (322, 243)
    boxes = engine.detect(PICTURE.resize((161, 122)), size=size).boxes
    assert max(box.x2 for box in boxes) > 161
    for box in boxes:
        x, y, bits = cropped(box.mask, size)
        if bits.size:
            margin = 1 + 0.04 * max(box.x2 - box.x1, box.y2 - box.y1)  # 30/28, half on each side
            assert box.x1 - margin <= x
            assert box.y1 - margin <= y
            assert x + bits.shape[1] <= box.x2 + margin + 1
            assert y + bits.shape[0] <= box.y2 + margin + 1


def test_a_model_without_masks_gives_none():
    assert Box("dog", 0.5, 0, 0, 1, 1).mask is None
    assert "mask" not in repr(Box("dog", 0.5, 0, 0, 1, 1, encode(TWO)))
