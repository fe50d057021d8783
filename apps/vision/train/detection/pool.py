"""RoIAlign as matrix products, for training on a CPU.

torchvision's gradient of RoIAlign there runs on one core, and was 40 % of a training step of a
small detector. Bilinear sampling is separable: a pooled box is ``rows @ map @ columns``, where each
of the two matrices holds the weights of the sampled places along one axis. Products run on all
cores; their work grows with the map, so large maps are left to torchvision.
"""

import torch
from torch import Tensor
from torchvision.ops.poolers import LevelMapper

from apps.vision.roi_align import SameRoIAlign, sampled

LARGEST = 2048  # pixels of a map


class MatrixRoIAlign(SameRoIAlign):
    """RoIAlign (He et al. 2017) with the values and gradients of torchvision's, to rounding.

    It is torchvision's own out of training, anywhere but on a CPU, for maps of more than
    ``LARGEST`` pixels, and with a ``sampling_ratio`` that depends on the box.
    """

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """(levels, boxes of each picture) to (boxes of all pictures, C, height, width)."""
        maps = [x[name] for name in self.featmap_names if name in x]
        if not self._pays(maps):
            pooled: Tensor = super().forward(x, boxes, image_shapes)
            return pooled
        with torch.autocast("cpu", enabled=False):
            return self._products(maps, boxes, image_shapes)

    def _pays(self, maps: list[Tensor]) -> bool:
        on_cpu = maps[0].device.type == "cpu"
        small = all(level.shape[-2] * level.shape[-1] <= LARGEST for level in maps)
        return self.training and on_cpu and small and self.sampling_ratio > 0

    def _products(
        self, maps: list[Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        scales = [_scale(level, image_shapes) for level in maps]
        numbers = self._levels(scales, boxes)
        parts, places, before = [], [], 0
        for picture, some in enumerate(boxes):
            for number, (level, scale) in enumerate(zip(maps, scales, strict=True)):
                (here,) = torch.where(numbers[before : before + len(some)] == number)
                if len(here):
                    parts.append(self._pooled(level[picture], some[here] * scale))
                    places.append(here + before)
            before += len(some)
        if not parts:
            return maps[0].new_zeros(0, maps[0].shape[1], *self.output_size)
        return torch.cat(parts)[torch.argsort(torch.cat(places))]

    def _levels(self, scales: list[float], boxes: list[Tensor]) -> Tensor:
        """Number of the level that each box is pooled from (Lin et al. 2017, eq. 1)."""
        lowest, highest = (round(-torch.tensor(s).log2().item()) for s in (scales[0], scales[-1]))
        mapper = LevelMapper(lowest, highest, self.canonical_scale, self.canonical_level)
        numbers: Tensor = mapper(boxes)
        return numbers

    def _pooled(self, level: Tensor, boxes: Tensor) -> Tensor:
        """One map (C, H, W) and boxes (n, 4) in its pixels to (n, C, height, width)."""
        channels, rows, columns = level.shape
        height, width = self.output_size
        down = _weights(boxes[:, 1], boxes[:, 3], height, rows, self.sampling_ratio)
        across = _weights(boxes[:, 0], boxes[:, 2], width, columns, self.sampling_ratio)
        flat = level.permute(1, 0, 2).reshape(rows, channels * columns)
        strips = (down.reshape(-1, rows) @ flat).reshape(len(boxes), -1, columns)
        pooled = strips @ across.transpose(1, 2)
        return pooled.reshape(len(boxes), height, channels, width).transpose(1, 2)


def _weights(low: Tensor, high: Tensor, bins: int, size: int, samples: int) -> Tensor:
    """(n, bins, size): how much each pixel counts in each bin of a box from low to high (n,)."""
    pixels = torch.arange(size, device=low.device)
    places, inside = sampled(low, high, bins, pixels.new_tensor(size), samples)
    weights = (1 - (places[:, :, None] - pixels).abs()).clamp(min=0) * inside[:, :, None]
    return weights.reshape(len(low), bins, samples, size).mean(2)


def _scale(level: Tensor, image_shapes: list[tuple[int, int]]) -> float:
    """Pixels of a map for each of the padded pictures: a power of two, as torchvision infers it."""
    height = max(shape[0] for shape in image_shapes)
    return float(2 ** torch.tensor(level.shape[-2] / height).log2().round())
