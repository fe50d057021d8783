"""The LightningModule of torchvision's detectors."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList

from apps.vision.train.detection.augment import Target
from apps.vision.train.detection.measure import Accuracy, Found
from apps.vision.train.detection.pictures import Truth
from apps.vision.train.detection.pool import MatrixRoIAlign
from apps.vision.train.detection.recipe import DetectorRecipe
from apps.vision.train.module import RecipeModule

Batch = tuple[Tensor, list[Target]]


class DetectorModule(RecipeModule):
    """Trains a torchvision detector; logs its losses, ``val_ap`` and ``val_ap50``.

    Args:
        network: of torchvision's ``models.detection``; its input size at inference is its own.
        classes: labels 1, 2, …
    """

    def __init__(
        self, network: nn.Module, recipe: DetectorRecipe, classes: tuple[str, ...]
    ) -> None:
        super().__init__(network.to(memory_format=torch.channels_last), recipe)
        self.detection = recipe
        self.classes = classes
        self._accuracy = Accuracy(classes, recipe.rule)
        if isinstance(network, GeneralizedRCNN):
            _set_up_heads(network.roi_heads, recipe)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """The sum of the losses of one batch of views."""
        pictures, targets = batch
        half = self.detection.half(pictures.device.type)
        parts = losses(self.network, pictures, targets, half=half)
        loss = torch.stack(list(parts.values())).sum()
        size = len(pictures)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        for name, part in parts.items():
            name = name.removeprefix("loss_")
            self.log(f"train_{name}", part, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._accuracy = Accuracy(self.classes, self.detection.rule)

    def validation_step(self, batch: tuple[list[Tensor], list[Truth]], number: int) -> None:
        """Boxes of some pictures as they are, beside what is marked on them."""
        pictures, truths = batch
        for found, truth in zip(self.network(pictures), truths, strict=True):
            self._accuracy.add(found_of(found), truth)

    def on_validation_epoch_end(self) -> None:
        score = self._accuracy.compute()
        self.log("val_ap", score.ap)
        self.log("val_ap50", score.ap50)


def _set_up_heads(heads: Any, recipe: DetectorRecipe) -> None:
    """How many boxes the head of a Faster R-CNN learns from, and how they are pooled."""
    heads.fg_bg_sampler.positive_fraction = recipe.positives
    if recipe.regions is not None:
        heads.fg_bg_sampler.batch_size_per_image = recipe.regions
    heads.box_roi_pool = MatrixRoIAlign(heads.box_roi_pool)


def found_of(output: dict[str, Tensor]) -> Found:
    """What torchvision's detectors answer, on the CPU."""
    return Found(*(output[name].detach().cpu() for name in ("boxes", "labels", "scores")))


def losses(
    network: nn.Module, pictures: Tensor, targets: list[Target], *, half: bool = False
) -> dict[str, Tensor]:
    """The losses of a torchvision detector.

    A Faster R-CNN is called in its parts: the pictures have the right size already, and its heads
    stay float32 whatever its backbone computes in. Others are called as they are.

    Args:
        pictures: (n, 3, h, w), 0..1; sides are multiples of the network's coarsest stride.
        half: bfloat16 for the backbone.
    """
    if not isinstance(network, GeneralizedRCNN):
        parts: dict[str, Tensor] = network(list(pictures), targets)
        return parts
    transform: Any = network.transform
    mean, deviation = (
        torch.tensor(values, device=pictures.device)[:, None, None]
        for values in (transform.image_mean, transform.image_std)
    )
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=half):
        inputs = ((pictures - mean) / deviation).contiguous(memory_format=torch.channels_last)
        features = network.backbone(inputs)
    features = {name: level.float() for name, level in features.items()}
    sizes = [(pictures.shape[2], pictures.shape[3])] * len(pictures)
    proposals, first = network.rpn(ImageList(pictures, sizes), features, targets)
    _, second = network.roi_heads(features, proposals, sizes, targets)
    return {**first, **second}
