"""The annotated picture: boxes and labels where they belong, and only in the copy."""

import io

import numpy as np
import pytest
from PIL import Image

from apps.vision.colors import color_of, text_on
from apps.vision.draw import TINT, annotate, encode_jpeg
from apps.vision.masks import encode
from apps.vision.types import Box

GROUND = (10, 20, 30)


def ground(size: tuple[int, int] = (320, 240)) -> Image.Image:
    return Image.new("RGB", size, GROUND)


def rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def where(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """(height, width) of booleans: which pixels have ``color``."""
    return (np.asarray(picture) == np.array(color)).all(axis=2)


def label_of(picture: Image.Image, box: Box) -> np.ndarray:
    """The label of ``box`` as drawn far from every border of a picture of the same size."""
    width, height = picture.size
    middle = Box(box.label, box.score, width // 3, height // 2, width // 3 + 1, height // 2 + 1)
    drawn = where(annotate(picture, [middle]), GROUND)
    rows, columns = np.nonzero(~drawn[: height // 2])
    patch = np.asarray(annotate(picture, [middle]))
    return patch[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def contains(picture: Image.Image, patch: np.ndarray) -> bool:
    """Whether ``patch`` is somewhere in ``picture``, pixel for pixel."""
    pixels = np.asarray(picture)
    height, width = patch.shape[:2]
    return any(
        np.array_equal(pixels[row : row + height, column : column + width], patch)
        for row in range(pixels.shape[0] - height + 1)
        for column in range(pixels.shape[1] - width + 1)
    )


def test_a_box_is_outlined_in_the_colour_of_its_label():
    drawn = annotate(ground(), [Box("dog", 0.9, 100, 80, 200, 160)])
    color = rgb(color_of("dog"))
    for place in ((100, 120), (200, 120), (150, 80), (150, 160), (100, 160), (200, 160)):
        assert drawn.getpixel(place) == color, place
    for place in ((98, 120), (202, 120), (150, 162), (150, 120)):
        assert drawn.getpixel(place) == GROUND, place


def test_two_labels_have_their_two_colours():
    drawn = annotate(
        ground(), [Box("dog", 0.9, 20, 80, 90, 160), Box("cat", 0.8, 200, 80, 290, 160)]
    )
    assert drawn.getpixel((50, 160)) == rgb(color_of("dog"))
    assert drawn.getpixel((250, 160)) == rgb(color_of("cat"))


def test_the_best_box_is_on_top():
    boxes = [Box("dog", 0.9, 50, 80, 150, 160), Box("cat", 0.3, 50, 80, 150, 160)]
    for order in (boxes, boxes[::-1]):
        assert annotate(ground(), order).getpixel((100, 160)) == rgb(color_of("dog"))


def test_the_label_is_readable_above_its_box():
    drawn = annotate(ground(), [Box("dog", 0.9, 100, 80, 200, 160)])
    above = drawn.crop((100, 60, 200, 80))
    assert where(above, rgb(color_of("dog"))).sum() > 200
    ink = np.abs(np.asarray(above).astype(int) - rgb(text_on(color_of("dog")))).max(axis=2)
    label = np.nonzero(where(above, rgb(color_of("dog"))))
    inside = ink[label[0].min() : label[0].max(), label[1].min() : label[1].max()]
    assert (inside < 100).sum() > 20  # letters are smoothed, so few pixels are the very colour


@pytest.mark.parametrize(
    "corners",
    [
        (0, 0, 50, 50),
        (300, 0, 320, 40),
        (0, 220, 60, 240),
        (310, 230, 320, 240),
        (0, 0, 320, 240),
        (319.9, 239.9, 320, 240),
        (150, 3, 200, 60),
    ],
)
def test_the_whole_label_is_inside_the_picture_when_its_box_is_at_a_border(corners):
    box = Box("Platelets", 0.87, *corners)
    assert contains(annotate(ground(), [box]), label_of(ground(), box))


def test_a_box_that_ends_at_the_border_keeps_its_line():
    drawn = annotate(ground(), [Box("dog", 0.9, 100, 100, 320, 240)])
    color = rgb(color_of("dog"))
    for place in ((319, 180), (318, 180), (200, 239), (200, 238)):
        assert drawn.getpixel(place) == color, place


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (1, 20_000), (16, 12)])
def test_pictures_of_any_size_can_be_drawn_on(size):
    box = Box("Platelets", 0.9, 0, 0, *size)
    corner = Box("RBC", 0.5, size[0] - 0.01, size[1] - 0.01, *size)
    assert annotate(ground(size), [box, corner]).size == size


def test_the_label_shrinks_to_fit_a_small_picture():
    box = Box("Platelets", 0.9, 8, 30, 40, 44)
    drawn = annotate(ground((64, 48)), [box])
    label = ~where(drawn.crop((0, 0, 64, 30)), GROUND)
    columns = np.nonzero(label.any(axis=0))[0]
    assert 30 < columns.size <= 64
    written = where(drawn, rgb(text_on(color_of("Platelets"))))
    assert not written[:, 62:].any()  # the margin after the last letter is there


def test_a_mask_is_mixed_into_its_pixels_and_lies_under_every_label():
    mask = np.zeros((240, 320), bool)
    mask[100:200, 50:250] = True
    masked = Box("dog", 0.9, 50, 100, 250, 200, encode(mask))
    other = Box("cat", 0.3, 100, 150, 160, 190)
    drawn = annotate(ground(), [masked, other])
    tinted = drawn.getpixel((230, 180))
    mixed = [
        under + TINT * (over - under)
        for under, over in zip(GROUND, rgb(color_of("dog")), strict=True)
    ]
    assert tinted == pytest.approx(mixed, abs=1)
    assert drawn.getpixel((30, 150)) == drawn.getpixel((260, 150)) == GROUND
    assert drawn.getpixel((100, 180)) == rgb(color_of("cat"))


def test_an_empty_mask_changes_nothing():
    empty = encode(np.zeros((240, 320), bool))
    boxes = [Box("dog", 0.9, 10, 40, 100, 100, mask) for mask in (empty, None)]
    one, other = (np.asarray(annotate(ground(), [box])) for box in boxes)
    assert np.array_equal(one, other)


def test_the_original_picture_is_not_changed():
    picture = ground()
    annotate(picture, [Box("dog", 0.9, 10, 10, 100, 100)])
    assert where(picture, GROUND).all()


def test_no_boxes_are_a_plain_copy():
    picture = ground()
    drawn = annotate(picture, [])
    assert drawn is not picture
    assert where(drawn, GROUND).all()


def test_the_jpeg_has_the_size_of_the_picture_and_nothing_of_its_metadata():
    source = io.BytesIO()
    ground().save(source, "JPEG", comment=b"secret", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0secret")
    with Image.open(source) as picture:
        data = encode_jpeg(annotate(picture, []))
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as file:
        assert (file.format, file.mode, file.size) == ("JPEG", "RGB", (320, 240))
