"""Augmentations by name, of torchvision.transforms.v2, on uint8 pictures (C, H, W)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from apps.vision.train.recipes import wrong

MAKERS: dict[str, Callable[[int], Any]] = {
    "shift": lambda size: v2.RandomCrop(size, padding=max(1, size // 14)),
    "affine": lambda size: v2.RandomAffine(
        10, (0.08, 0.08), (0.9, 1.1), 5, v2.InterpolationMode.BILINEAR
    ),
    "resized_crop": lambda size: v2.RandomResizedCrop(size, (0.4, 1.0), (0.8, 1.25)),
    "flip": lambda size: v2.RandomHorizontalFlip(),
    "rotate": lambda size: v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
    "colour": lambda size: v2.ColorJitter(0.3, 0.3, 0.3, 0.03),
    "grey": lambda size: v2.RandomGrayscale(0.1),
    "trivial": lambda size: v2.TrivialAugmentWide(),  # Müller and Hutter 2021
    "erase": lambda size: v2.RandomErasing(0.25, (0.02, 0.2)),  # Zhong et al. 2020
}
Transform = Callable[[Tensor], Tensor]


def evaluation(size: int, resize: int | None) -> Transform:
    """The shorter side becomes ``resize`` pixels, of which the middle square is kept."""
    steps = [v2.Resize(resize or size, antialias=True), v2.CenterCrop(size)]
    chain: Transform = v2.Compose(steps)
    return chain


def training(names: Sequence[str], size: int, resize: int | None) -> Transform:
    """The augmentations called ``names``, in this order; pictures come out ``size`` x ``size``.

    Raises:
        InvalidInput: an unknown name.
    """
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        raise wrong("augment", unknown[0], f"names out of {', '.join(MAKERS)}")
    steps: list[Any] = [MAKERS[name](size) for name in names]
    if "resized_crop" not in names:
        steps.insert(0, evaluation(size, resize))
    chain: Transform = v2.Compose(steps)
    return chain


def normalized(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, C, H, W) uint8 to float32: values 0..1, minus ``mean``, over ``std``, by channel."""
    shape = (1, -1, 1, 1)
    values = pictures.float() / 255
    return (values - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
