"""Augmentation on the device: one affine map for each picture, and boxes that follow it.

Everything is drawn from torch's global generator of the CPU, so a seed decides it all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from apps.vision.train.detection.pictures import FILL, PictureStore
from apps.vision.train.detection.recipe import DetectorRecipe, whole_strides

SMALLEST = 3.0  # pixels; a box with a shorter side after cutting is dropped

Target = dict[str, Tensor]  # "boxes" (n, 4) xyxy and "labels" (n,)


@dataclass(frozen=True, slots=True)
class Maps:
    """n maps from pixels of a picture to pixels of a view: ``view = factor * pixel + shift``.

    A negative factor mirrors. Coordinates are continuous: 0 is the outer edge of the first pixel.
    """

    factors: Tensor  # (n, 2) by x and y
    shifts: Tensor  # (n, 2)

    def boxes(self, place: int, boxes: Tensor) -> Tensor:
        """(k, 4) xyxy of the picture to those of the view, in order again after a mirroring."""
        ends = boxes.reshape(-1, 2, 2) * self.factors[place] + self.shifts[place]
        return torch.cat([ends.amin(1), ends.amax(1)], 1)

    def pixels(self, pictures: Tensor, height: int, width: int) -> Tensor:
        """(n, 3, H, W) uint8 to (n, 3, height, width) float32, 0..1; grey where nothing is."""
        count, _, rows, columns = pictures.shape
        inside = torch.tensor([columns, rows], dtype=torch.float32)
        outside = torch.tensor([width, height], dtype=torch.float32)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = (outside / (self.factors * inside)).unbind(1)
        theta[:, :, 2] = (outside - 2 * self.shifts) / (self.factors * inside) - 1
        size = [count, 3, height, width]
        grid = affine_grid(theta.to(pictures.device), size, align_corners=False)
        grey = FILL / 255
        centred = pictures.float() / 255 - grey
        return grid_sample(centred, grid, align_corners=False) + grey


def draw_maps(
    sizes: Tensor, height: int, width: int, recipe: DetectorRecipe, zoom: tuple[float, float]
) -> Maps:
    """A random map for each picture.

    Args:
        sizes: (n, 2), width and height of the pictures.
        height, width: of the views.
        zoom: smallest and largest, where 1 lets a picture just fit into its view.
    """
    count = len(sizes)
    view = torch.tensor([width, height], dtype=torch.float32)
    fit = (view / sizes).amin(1)
    zooms = torch.exp(drawn(count, math.log(zoom[0]), math.log(zoom[1])))
    stretch = torch.exp(drawn(count, -recipe.stretch, recipe.stretch) / 2)
    factors = torch.stack([fit * zooms * stretch, fit * zooms / stretch], 1)
    slack = view - sizes * factors  # negative: cut off; positive: grey
    shifts = slack * torch.rand(count, 2)
    mirrored = torch.rand(count, 2) < torch.tensor([recipe.mirror, recipe.upside_down])
    shifts = torch.where(mirrored, view - shifts, shifts)
    return Maps(torch.where(mirrored, -factors, factors), shifts)


class Augmenter:
    """Random views of the pictures of a store."""

    def __init__(self, store: PictureStore, recipe: DetectorRecipe) -> None:
        self.store = store
        self.recipe = recipe

    def __call__(self, places: Tensor, progress: float) -> tuple[Tensor, list[Target]]:
        """Views of the pictures ``places`` (n,), and their boxes.

        The first part of them are mosaics, with three more pictures each, drawn at random.

        Args:
            progress: part of the training that is done.

        Returns:
            (n, 3, h, w) float32, 0..1, and n targets on the same device.
        """
        recipe = self.recipe
        factor = self._size(progress)
        height, width = (
            whole_strides(side * factor) for side in (recipe.sides.height, recipe.sides.width)
        )
        places = places.cpu()
        mosaics = int(len(places) * recipe.mosaic) if progress < 1 - recipe.calm else 0
        parts = [self._mosaics(places[:mosaics], height, width)] if mosaics else []
        if mosaics < len(places):
            parts.append(self._views(places[mosaics:], height, width, self._zoom()))
        views = torch.cat([pixels for pixels, _ in parts])
        targets = [target for _, some in parts for target in some]
        return colours(views, recipe), [
            {name: value.to(views.device, non_blocking=True) for name, value in target.items()}
            for target in targets
        ]

    def _size(self, progress: float) -> float:
        sizes = self.recipe.sizes
        if self.recipe.growing:
            return sizes[min(int(progress * len(sizes)), len(sizes) - 1)]
        return sizes[int(torch.randint(len(sizes), ()))]

    def _zoom(self) -> tuple[float, float]:
        return self.recipe.zoom[0], self.recipe.zoom[1]

    def _views(
        self, places: Tensor, height: int, width: int, zoom: tuple[float, float]
    ) -> tuple[Tensor, list[Target]]:
        maps = draw_maps(self.store.sizes[places], height, width, self.recipe, zoom)
        pixels = self.store.pixels[places.to(self.store.pixels.device)]
        targets = []
        for number, place in enumerate(places.tolist()):
            truth = self.store.truths[place]
            boxes = maps.boxes(number, truth.boxes[~truth.difficult])
            kept, cut = cut_boxes(boxes, height, width, self.recipe.visible)
            targets.append({"boxes": cut[kept], "labels": truth.labels[~truth.difficult][kept]})
        return maps.pixels(pixels, height, width), targets

    def _mosaics(self, places: Tensor, height: int, width: int) -> tuple[Tensor, list[Target]]:
        """Four pictures in the quarters of each view."""
        count = len(places)
        others = torch.randint(len(self.store), (count, 3))
        four = torch.cat([places[:, None], others], 1).flatten()
        half = height // 2, width // 2
        low, high = self._zoom()
        tiles, targets = self._views(four, *half, (max(low, 0.7), max(high, 1.8)))
        tiles = tiles.reshape(count, 2, 2, 3, *half).permute(0, 3, 1, 4, 2, 5)
        joined = []
        for first in range(0, 4 * count, 4):
            moved = [
                targets[first + k]["boxes"]
                + torch.tensor([k % 2 * half[1], k // 2 * half[0]] * 2, dtype=torch.float32)
                for k in range(4)
            ]
            labels = torch.cat([targets[first + k]["labels"] for k in range(4)])
            joined.append({"boxes": torch.cat(moved), "labels": labels})
        return tiles.reshape(count, 3, height, width), joined


def colours(views: Tensor, recipe: DetectorRecipe) -> Tensor:
    """(n, 3, h, w), 0..1, each in other colours: saturation, contrast and brightness are drawn."""
    count = len(views)

    def factors(low: float, high: float) -> Tensor:
        return drawn(count, low, high).to(views.device)[:, None, None, None]

    grey = views.mean(1, keepdim=True)
    strength = factors(1 - recipe.saturation, 1 + recipe.saturation)
    strength = torch.where(factors(0, 1) < recipe.grey, 0.0, strength)
    views = grey + (views - grey) * strength
    middle = FILL / 255
    views = (views - middle) * factors(1 - recipe.contrast, 1 + recipe.contrast) + middle
    return (views + factors(-recipe.brightness, recipe.brightness)).clamp(0, 1)


def cut_boxes(boxes: Tensor, height: int, width: int, visible: float) -> tuple[Tensor, Tensor]:
    """Which of ``boxes`` (k, 4) can still be seen in a view, (k,) bool, and all of them cut."""
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    cut = torch.minimum(boxes.clamp(min=0), limit)
    old, new = boxes[:, 2:] - boxes[:, :2], cut[:, 2:] - cut[:, :2]
    kept = (new > SMALLEST).all(1) & (new.prod(1) >= visible * old.prod(1))
    return kept, cut


def drawn(count: int, low: float, high: float) -> Tensor:
    """(count,) numbers, drawn from [low, high)."""
    return torch.rand(count) * (high - low) + low
