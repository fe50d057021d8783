"""Pooling by matrix products: torchvision's values and gradients."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from apps.vision.train.detection.pool import MatrixRoIAlign

SHAPES = [(64, 96)] * 3  # of three padded pictures


def maps() -> dict[str, Tensor]:
    """Three levels of four channels."""
    torch.manual_seed(1)
    sizes = [(8, 12), (4, 6), (2, 3)]
    return {
        str(number): torch.randn(3, 4, *size).requires_grad_() for number, size in enumerate(sizes)
    }


def some_boxes() -> list[Tensor]:
    """Boxes of every level, some tiny, at the edge, outside; one picture has none."""
    edges = [[-20.0, -9.0, 30.0, 40.0], [80.0, 50.0, 99.0, 70.0], [95.0, 63.0, 96.0, 64.0]]
    inside = [[3.0, 5.0, 3.2, 5.1], [10.0, 8.0, 60.0, 50.0], [0.0, 0.0, 96.0, 64.0]]
    return [torch.tensor(inside), torch.zeros(0, 4), torch.tensor(edges + inside)]


def pooled(pool: MultiScaleRoIAlign, boxes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Values, and the gradients of the levels for weights drawn by a seed."""
    levels = maps()
    values = pool(levels, boxes, SHAPES)
    torch.manual_seed(2)
    (values * torch.randn(values.shape)).sum().backward()
    zeros = [torch.zeros_like(level) for level in levels.values()]
    gradients = [level.grad for level in levels.values()]
    return values.detach(), [z if g is None else g for z, g in zip(zeros, gradients, strict=True)]


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("size", [7, (3, 5)])
def test_values_and_gradients_are_those_of_torchvision(samples, size):
    names = ["0", "1", "2"]
    usual = MultiScaleRoIAlign(names, size, samples, canonical_scale=32)
    ours = MatrixRoIAlign(usual)
    (expected, slopes), (values, own) = (pooled(pool, some_boxes()) for pool in (usual, ours))
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    for slope, mine in zip(slopes, own, strict=True):
        torch.testing.assert_close(mine, slope, rtol=1e-4, atol=1e-4)


def test_no_box_at_all_is_no_value():
    pool = MatrixRoIAlign(MultiScaleRoIAlign(["0", "1", "2"], 7, 2))
    assert pool(maps(), [torch.zeros(0, 4)] * 3, SHAPES).shape == (0, 4, 7, 7)


@pytest.mark.parametrize(
    ("training", "samples", "largest"), [(False, 2, 2048), (True, -1, 2048), (True, 2, 95)]
)
def test_out_of_training_and_where_products_do_not_pay_it_is_torchvisions_own(
    training, samples, largest, monkeypatch
):
    monkeypatch.setattr("apps.vision.train.detection.pool.LARGEST", largest)
    usual = MultiScaleRoIAlign(["0", "1", "2"], 7, samples)
    ours = MatrixRoIAlign(usual).train(training)
    assert torch.equal(ours(maps(), some_boxes(), SHAPES), usual(maps(), some_boxes(), SHAPES))


def test_weights_are_not_rounded_under_autocast():
    usual = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    with torch.autocast("cpu", torch.bfloat16):
        values = MatrixRoIAlign(usual)(maps(), some_boxes(), SHAPES)
    torch.testing.assert_close(values, usual(maps(), some_boxes(), SHAPES), rtol=1e-4, atol=1e-4)
