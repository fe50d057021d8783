"""Large JPEGs are unpacked at a part of their size: faster, and nobody sees a difference."""

import io
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from apps.errors import InvalidImage
from apps.vision.decode import DISPLAY_SIDE, decode, reduction
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.prepare import DETAIL_SIDE
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from tests.smear import smear
from tests.vision.agreement import corners, overlap


def large_jpeg(factor: int = 14, **options: object) -> tuple[bytes, tuple[int, int]]:
    picture, _ = smear(2)
    size = picture.width * factor, picture.height * factor
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue(), size


@pytest.mark.parametrize(
    ("size", "side", "factor"),
    [((4000, 3000), 2000, 2), ((3999, 10), 2000, 1), ((64, 64), 2000, 1), ((10, 16_000), 2000, 8)],
)
def test_the_factor_leaves_enough_on_the_longest_side(size, side, factor):
    assert reduction(size, side) == factor


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_large_jpeg_comes_smaller_and_knows_its_size(options):
    data, size = large_jpeg(**options)
    whole, part = decode(data), decode(data, side=DETAIL_SIDE)
    assert whole.size == whole.picture.size == size
    assert part.size == size
    assert DETAIL_SIDE <= max(part.picture.size) < max(size)
    small = whole.picture.resize(part.picture.size, Image.Resampling.BOX)
    difference = ImageStat.Stat(ImageChops.difference(small, part.picture)).mean
    assert max(difference) < 2  # of 255


def test_a_turned_jpeg_comes_upright_with_its_sides_exchanged():
    exif = Image.Exif()
    exif[0x0112] = 6
    data, size = large_jpeg(exif=exif)
    part = decode(data, side=DETAIL_SIDE)
    assert part.size == (size[1], size[0])
    assert part.picture.height > part.picture.width


def test_what_is_not_twice_as_large_stays_whole():
    data, size = large_jpeg(factor=7)
    assert max(size) < 2 * DETAIL_SIDE
    assert decode(data, side=DETAIL_SIDE).picture.size == size


def test_its_boxes_come_back_in_the_pixels_of_the_whole_picture():
    engine = TorchEngine(WeightsStore(Path()), BLOOD_CELLS.name, EngineOptions("cpu"))
    data, _ = large_jpeg()
    part = decode(data, side=DETAIL_SIDE)
    found = engine.detect(part.picture, size=part.size).boxes
    whole = engine.detect(decode(data).picture).boxes
    sure = [box for box in whole if box.score > 0.9]
    assert len(sure) > 5
    for box in sure:
        assert max(overlap(corners(box), corners(other)) for other in found) > 0.9


def test_a_large_jpeg_that_was_cut_short_is_still_refused():
    data, _ = large_jpeg()
    with pytest.raises(InvalidImage, match="cut short"):
        decode(data[: len(data) // 2], side=DISPLAY_SIDE)
