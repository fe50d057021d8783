"""Layers of torch that have no deterministic gradient on a GPU, made of operations that have one.

Training is deterministic unless its recipe says otherwise, and PyTorch then refuses the gradients
of ``avg_pool3d``, which its own response norm uses, and of ``adaptive_avg_pool2d``. What comes out
is the same, and so are parameters (none) and names.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LocalResponseNorm(nn.LocalResponseNorm):
    """Each value over a power of the mean of the squares around it, in ``size`` channels
    (Krizhevsky et al. 2012, section 3.3)."""

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        squares = maps.square().flatten(2).unsqueeze(1)  # channels are the rows of a picture
        padded = F.pad(squares, (0, 0, self.size // 2, (self.size - 1) // 2))
        means = F.avg_pool2d(padded, (self.size, 1), stride=1).reshape(maps.shape)
        return maps / (means * self.alpha + self.k).pow(self.beta)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Means over a grid of ``side`` x ``side`` cells; maps of that size stay as they are."""

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, side, side)."""
        height, width = maps.shape[-2:]
        if height == width == self.side:
            return maps
        rows, columns = (_cells(length, self.side).to(maps) for length in (height, width))
        return rows @ maps @ columns.T


def _cells(length: int, count: int) -> Tensor:
    """(count, length): the weights that make means of ``count`` cells, which overlap or lie apart
    as torch's do."""
    weights = torch.zeros(count, length)
    for cell in range(count):
        begin, end = cell * length // count, -(-(cell + 1) * length // count)
        weights[cell, begin:end] = 1 / (end - begin)
    return weights
