"""Cutting boxes out of pictures."""

import pytest
from PIL import Image

from apps.vision.crop import crop


def marked() -> Image.Image:
    """100 x 80, black, with a white box from 20, 10 to 40, 50."""
    picture = Image.new("L", (100, 80))
    picture.paste(255, (20, 10, 40, 50))
    return picture


def test_what_the_box_frames_is_cut_out_and_nothing_else():
    part = crop(marked(), (20, 10, 40, 50), (100, 80))
    assert part.size == (20, 40)
    assert part.getextrema() == (255, 255)


def test_a_margin_is_a_part_of_the_longer_side_and_ends_at_the_edge():
    part = crop(marked(), (20, 10, 40, 50), (100, 80), margin=0.5)
    assert part.size == (60, 70)  # 0..60 and, cut at the top, 0..70
    assert part.getbbox() == (20, 10, 40, 50)


def test_boxes_are_in_pixels_of_the_original_of_a_smaller_copy():
    part = crop(marked(), (200, 100, 400, 500), (1000, 800))
    assert part.size == (20, 40)
    assert part.getextrema() == (255, 255)


@pytest.mark.parametrize(
    "box", [(0.2, 0.2, 0.3, 0.3), (99.9, 79.9, 100.0, 80.0), (120, 90, 130, 95), (-9, -9, -2, -2)]
)
def test_at_least_one_pixel_is_left(box):
    assert crop(marked(), box, (100, 80)).size == (1, 1)
