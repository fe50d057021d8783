"""Small made data and networks for the tests of training."""

from typing import Any

import torch
from lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from apps.vision.train.loaders import evaluation_loader, training_loader
from apps.vision.train.module import RecipeModule
from apps.vision.train.recipes import Recipe


class Line(RecipeModule):
    """Least squares: the loss is half of the mean square of the error."""

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        return self._loss(batch, "train_loss")

    def validation_step(self, batch: Any, _index: int) -> None:
        self._loss(batch, "val_loss")

    def _loss(self, batch: Any, name: str) -> torch.Tensor:
        pictures, targets = batch
        loss = (self.network(pictures) - targets).square().mean() / 2
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss


class Points(LightningDataModule):
    """(n, d) inputs and (n, 1) targets, the same for validation."""

    def __init__(self, recipe: Recipe, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        super().__init__()
        self.recipe = recipe
        self.points = TensorDataset(inputs, targets)

    def train_dataloader(self) -> DataLoader:
        return training_loader(self.points, self.recipe, self.trainer)

    def val_dataloader(self) -> DataLoader:
        return evaluation_loader(self.points, self.recipe)


def line(recipe: Recipe, features: int = 4, *, dropout: float = 0.0) -> Line:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(features, 8), nn.Dropout(dropout), nn.Linear(8, 1))
    return Line(layers, recipe)


def points(recipe: Recipe, n: int = 40, features: int = 4) -> Points:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, features, generator=generator)
    targets = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=generator)
    return Points(recipe, inputs, targets)
