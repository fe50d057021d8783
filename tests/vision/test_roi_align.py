"""RoIAlign from rows: torchvision's values."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from apps.vision.roi_align import GatheredRoIAlign

SHAPE = (64, 96)  # of a padded picture


def maps(pictures: int, levels: int = 3) -> dict[str, Tensor]:
    """Levels of four channels, each half as large as the one before."""
    torch.manual_seed(1)
    layouts = (torch.channels_last, torch.contiguous_format)
    return {
        str(number): torch.randn(pictures, 4, 16 >> number, 24 >> number).contiguous(
            memory_format=layouts[number % 2]
        )
        for number in range(levels)
    }


def some_boxes() -> Tensor:
    """Of every level; some tiny, at the edge, outside."""
    return torch.tensor(
        [
            [3.0, 5.0, 3.2, 5.1],
            [10.0, 8.0, 60.0, 50.0],
            [0.0, 0.0, 96.0, 64.0],
            [-20.0, -9.0, 30.0, 40.0],
            [80.0, 50.0, 99.0, 70.0],
            [95.0, 63.0, 96.0, 64.0],
            [120.0, 5.0, 130.0, 20.0],
        ]
    )


def both(pool: MultiScaleRoIAlign, boxes: list[Tensor], levels: int = 3) -> tuple[Tensor, Tensor]:
    """What torchvision's ``pool`` gives, and what ours does in its second call."""
    given = maps(len(boxes), levels), boxes, [SHAPE] * len(boxes)
    ours = GatheredRoIAlign(pool)
    with torch.inference_mode():
        wanted = pool(*given)
        assert torch.equal(ours(*given), wanted)  # its first call sets up the scales
        return wanted, ours(*given)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("size", [7, (3, 5)])
def test_values_are_those_of_torchvision(samples, size):
    pool = MultiScaleRoIAlign(["0", "1", "2"], size, samples, canonical_scale=32)
    wanted, found = both(pool, [some_boxes()])
    assert wanted.abs().max() > 0.5
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_every_picture_of_a_batch_is_pooled_from_its_own_maps():
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=32)
    boxes = [some_boxes(), torch.zeros(0, 4), some_boxes().flip(0)[:3]]
    wanted, found = both(pool, boxes)
    assert not torch.allclose(wanted[0], wanted[-1])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_level_and_maps_that_are_not_pooled_from():
    wanted, found = both(MultiScaleRoIAlign(["1"], 7, 2), [some_boxes()])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_maps_in_another_order_than_their_names():
    pool = MultiScaleRoIAlign(["2", "0", "1"], 7, 2, canonical_scale=32)
    wanted, found = both(pool, [some_boxes()])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_maps_with_a_gap_between_them():
    wanted, found = both(MultiScaleRoIAlign(["0", "2"], 7, 2), [some_boxes()])
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("pictures", [1, 2])
def test_no_box_at_all_is_no_value(pictures):
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    _, found = both(pool, [torch.zeros(0, 4)] * pictures)
    assert found.shape == (0, 4, 7, 7)


def test_with_samples_that_depend_on_the_box_it_is_torchvisions_own():
    wanted, found = both(MultiScaleRoIAlign(["0", "1", "2"], 7, -1), [some_boxes()])
    assert torch.equal(found, wanted)
