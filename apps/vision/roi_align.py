"""RoIAlign (He et al. 2017, "Mask R-CNN") in other ways than torchvision's kernels compute it."""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torchvision.ops import MultiScaleRoIAlign


class SameRoIAlign(MultiScaleRoIAlign):
    """A pooling with the settings of another one.

    Args:
        pool: whose settings are taken over; the scales that it has inferred are not.
    """

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__(
            pool.featmap_names,
            pool.output_size,
            pool.sampling_ratio,
            canonical_scale=pool.canonical_scale,
            canonical_level=pool.canonical_level,
        )


class GatheredRoIAlign(SameRoIAlign):
    """RoIAlign for inference on a CPU: torchvision's values to rounding, and ten times as fast.

    torchvision's kernel takes one channel after the other, on one core. Here a pixel of a map is a
    row that has all of its channels side by side, as the layout channels-last has them anyway, and
    a pooled place is a weighted sum of rows: what PyTorch calls an embedding bag, for which it has
    a kernel that works on whole rows and on all cores.

    It is torchvision's own in its first call, which infers the scale of each map, with a
    ``sampling_ratio`` that depends on the box, and for maps that do not halve from one to the next.
    """

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """(levels, boxes of each picture) to (boxes of all pictures, C, height, width)."""
        maps = [level for name, level in x.items() if name in self.featmap_names]
        if not self._can_gather(maps):
            pooled: Tensor = super().forward(x, boxes, image_shapes)
            return pooled
        if not any(len(some) for some in boxes):
            return maps[0].new_zeros(0, maps[0].shape[1], *self.output_size)
        flat = [level.permute(0, 2, 3, 1).flatten(0, 2) for level in maps]
        rows = torch.cat(flat) if len(flat) > 1 else flat[0]
        places, weights = self._places(maps, boxes)
        sums = embedding_bag(places, rows, mode="sum", per_sample_weights=weights)
        return sums.view(-1, *self.output_size, rows.shape[1]).permute(0, 3, 1, 2)

    def _can_gather(self, maps: list[Tensor]) -> bool:
        levels = self.map_levels
        if self.scales is None or levels is None or self.sampling_ratio <= 0:
            return False
        return bool(levels.k_max - levels.k_min + 1 == len(maps) == len(self.scales))

    def _places(self, maps: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """For each pooled place, box after box and row after row: rows of maps and their weights.

        Both are (places, 4 * sampling_ratio ** 2).
        """
        corners, level = torch.cat(boxes), self.map_levels(boxes)
        picture = torch.repeat_interleave(torch.tensor([len(some) for some in boxes]))
        shapes = torch.tensor([each.shape[-2:] for each in maps])
        pixels = shapes.prod(1)
        before = (pixels.cumsum(0) - pixels) * len(boxes)  # in smaller levels
        first = before[level] + picture * pixels[level]
        height, width = shapes[level].unbind(1)
        left, top, right, bottom = (corners * torch.tensor(self.scales)[level, None]).unbind(1)
        tall, wide = self.output_size
        y, down = _taps(top, bottom, tall, height, self.sampling_ratio)
        x, across = _taps(left, right, wide, width, self.sampling_ratio)
        y = first[:, None, None] + y * width[:, None, None]
        places = y[:, :, None, :, None] + x[:, None, :, None, :]
        weights = down[:, :, None, :, None] * across[:, None, :, None, :]
        return places.flatten(0, 2).flatten(1), weights.flatten(0, 2).flatten(1)


def sampled(
    low: Tensor, high: Tensor, bins: int, size: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """The places along one axis that each bin of a box averages, as torchvision's kernel has them.

    A place outside by more than a pixel counts nothing, one in that margin takes the edge's value.

    Args:
        low: (n,), where each box begins, in pixels of its map.
        high: (n,), where it ends.
        bins: of each box.
        size: (n, 1), or one number: pixels of its map along this axis.
        samples: places in a bin.

    Returns:
        Places, 0 to ``size`` - 1, and whether each counts, both (n, bins * samples).
    """
    length = (high - low).clamp(min=1)
    parts = (torch.arange(bins * samples, device=low.device) + 0.5) / (bins * samples)
    places = low[:, None] + length[:, None] * parts
    inside = (places >= -1) & (places <= size)
    return places.clamp(min=0).minimum(size - 1), inside


def _taps(
    low: Tensor, high: Tensor, bins: int, size: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """Which pixels along one axis count in each bin of a box, and how much; ``size`` is (n,).

    Each place counts between two pixels. Pixels, int64, and weights, float32, both
    (n, bins, 2 * samples).
    """
    places, inside = sampled(low, high, bins, size[:, None], samples)
    before = places.long()
    along = places - before
    pixels = torch.stack([before, (before + 1).minimum(size[:, None] - 1)], 2)
    weights = torch.stack([1 - along, along], 2) * (inside / samples)[:, :, None]
    shape = len(low), bins, 2 * samples
    return pixels.view(shape), weights.view(shape)
