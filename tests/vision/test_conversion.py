"""What classifiers see of pictures of any kind."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from apps.vision import conversion
from apps.vision.conversion import convert
from apps.vision.zoo.classifiers import Fit, InputSpec, classifiers, get_classifier

DIGIT = get_classifier("lenet5.mnist").input
CLOTHES = get_classifier("fashion_cnn.fashion_mnist").input
PHOTO = get_classifier("resnet50.imagenet1k_v1").input


def stroke(size: tuple[int, int] = (280, 280), at: int = 40, ground: int = 255) -> Image.Image:
    """An upright line, 20 x 100 pixels, dark on light paper."""
    paper = Image.new("RGB", size, (ground,) * 3)
    ImageDraw.Draw(paper).rectangle((at, at, at + 19, at + 99), fill=(10, 10, 30))
    return paper


def texts(converted: conversion.Converted) -> list[str]:
    return [step.text for step in converted.steps]


def test_a_dark_digit_on_light_paper_becomes_light_on_black():
    converted = convert(stroke(), DIGIT)
    assert conversion.SWAPPED in texts(converted)
    seen = np.asarray(converted.seen)
    assert seen.shape == (28, 28)
    assert seen.max() == 255
    assert seen[0].max() == 0


def test_a_light_digit_on_black_is_not_swapped():
    converted = convert(ImageOps.invert(stroke()), DIGIT)
    assert conversion.SWAPPED not in texts(converted)
    np.testing.assert_array_equal(converted.seen, convert(stroke(), DIGIT).seen)


def test_people_may_say_whether_light_and_dark_are_swapped():
    assert conversion.SWAPPED not in texts(convert(stroke(), DIGIT, invert=False))
    assert conversion.SWAPPED in texts(convert(ImageOps.invert(stroke()), DIGIT, invert=True))
    assert conversion.SWAPPED not in texts(convert(stroke(), PHOTO, invert=True))


def test_a_digit_is_20_pixels_long_and_its_centre_of_mass_is_in_the_middle():
    drawn = stroke()
    ImageDraw.Draw(drawn).rectangle((60, 40, 79, 59), fill=(10, 10, 30))  # heavier above and right
    values = np.asarray(convert(drawn, DIGIT).seen, float)
    rows = np.flatnonzero(values.sum(1))
    assert rows[-1] - rows[0] + 1 == 20
    places = np.arange(28) + 0.5
    assert (values.sum(0) * places).sum() / values.sum() == pytest.approx(14, abs=0.5)
    assert (values.sum(1) * places).sum() / values.sum() == pytest.approx(14, abs=0.5)


def test_where_on_the_paper_and_how_large_a_digit_is_makes_no_difference():
    wanted = np.asarray(convert(stroke(), DIGIT).seen, float)
    for other in (stroke(at=150), stroke((400, 330), at=7), stroke().resize((560, 560))):
        assert np.abs(np.asarray(convert(other, DIGIT).seen, float) - wanted).mean() < 4


def test_grey_and_noisy_paper_becomes_black():
    paper = np.random.default_rng(0).normal(200, 10, (280, 280)).clip(0, 255).astype(np.uint8)
    paper[40:140, 40:60] = 20
    converted = convert(Image.fromarray(paper).convert("RGB"), DIGIT)
    assert conversion.GROUND in texts(converted)
    wanted = np.asarray(convert(stroke(), DIGIT).seen, float)
    assert np.abs(np.asarray(converted.seen, float) - wanted).mean() < 6


def test_clothes_fill_the_square_in_their_own_shape():
    photo = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(photo).rectangle((150, 20, 189, 179), fill="navy")  # 40 x 160
    seen = np.asarray(convert(photo, CLOTHES).seen)
    rows, columns = np.flatnonzero(seen.sum(1)), np.flatnonzero(seen.sum(0))
    assert (rows[0], rows[-1]) == (0, 27)
    assert columns[-1] - columns[0] + 1 == 7
    assert abs((columns[0] + columns[-1]) - 27) <= 1


@pytest.mark.parametrize("given", [DIGIT, CLOTHES])
def test_a_picture_of_the_data_set_itself_is_seen_as_it_is(given):
    values = np.zeros((28, 28), np.uint8)
    values[1:27, 9:20] = np.random.default_rng(1).integers(1, 256, (26, 11))
    for picture in (Image.fromarray(values), Image.fromarray(values).convert("RGB")):
        np.testing.assert_array_equal(convert(picture, given).seen, values)
    swapped = Image.fromarray(255 - values)
    np.testing.assert_array_equal(convert(swapped, given).seen, values)


def test_values_are_normalized_with_the_mean_and_the_deviation_of_each_channel():
    given = InputSpec(3, 4, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    values = convert(Image.new("RGB", (9, 9), (255, 0, 255)), given).values
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, 2, 2], [1.0, -1.0, 0.5])


def test_photographs_are_prepared_as_torchvision_prepares_them():
    from torchvision.models import ResNet50_Weights

    noise = [Image.effect_noise((40, 30), 90) for _ in range(3)]
    for size in ((640, 480), (301, 517), (97, 60)):
        photo = Image.merge("RGB", noise).resize(size)
        theirs = ResNet50_Weights.IMAGENET1K_V1.transforms()(photo).numpy()
        ours = convert(photo, PHOTO).values
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 0.04  # two of 255 steps of brightness


def test_the_steps_begin_with_the_picture_and_end_with_what_the_network_sees():
    photo = Image.effect_noise((900, 500), 90).convert("RGB")
    for spec in classifiers():
        steps = convert(photo, spec.input).steps
        assert steps[0].text == conversion.CAME
        assert steps[0].picture.size == (384, 213)
        assert steps[-1].text == conversion.NORMALIZED
        assert steps[-1].picture.size == (spec.input.size, spec.input.size)
        assert (conversion.GREY in [step.text for step in steps]) == (spec.input.channels == 1)
        assert all(max(step.picture.size) <= 384 for step in steps)


def test_the_picture_itself_stays_as_it_is():
    photo = stroke()
    before = photo.tobytes()
    for spec in classifiers():
        convert(photo, spec.input)
    assert photo.tobytes() == before


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (10000, 10), (10, 10000), (27, 28)])
@pytest.mark.parametrize("given", [DIGIT, CLOTHES, PHOTO, InputSpec(1, 28, (0.5,), (0.5,))])
def test_pictures_of_any_shape_become_the_networks_shape(size, given):
    for picture in (Image.new("RGB", size, "teal"), Image.effect_noise(size, 90)):
        for invert in (None, True, False):
            converted = convert(picture, given, invert)
            assert converted.values.shape == (given.channels, given.size, given.size)
            assert np.isfinite(converted.values).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode_become_the_networks_mode(mode):
    picture = Image.new("L", (50, 40), 128).convert("RGB" if mode == "P" else "L").convert(mode)
    for given in (DIGIT, PHOTO):
        assert convert(picture, given).seen.mode == ("L" if given.channels == 1 else "RGB")


@pytest.mark.parametrize("value", [0, 90, 255])
def test_an_empty_sheet_is_black(value):
    for given in (DIGIT, CLOTHES):
        seen = convert(Image.new("RGB", (280, 280), (value,) * 3), given).seen
        assert seen.getextrema() == (0, 0)


def test_a_faint_pencil_is_seen():
    paper = Image.new("RGB", (280, 280), (250, 250, 250))
    ImageDraw.Draw(paper).rectangle((100, 60, 119, 200), fill=(230, 230, 230))
    seen = np.asarray(convert(paper, DIGIT).seen)
    assert seen.max() == 255
    assert np.count_nonzero(seen.sum(1)) == 20


def test_every_fit_is_used():
    assert {spec.input.fit for spec in classifiers()} == set(Fit)
