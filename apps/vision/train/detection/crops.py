"""A backbone's first lesson: to tell the objects apart that are cut out of the pictures.

A detector that starts from random weights learns slowly, because hardly any of the places it looks
at are objects. Here every view is one, and small: the network sees each object many times in the
time of a few passes over whole pictures (as in R-CNN's supervised pretraining, Girshick et al.
2014, with the data's own boxes instead of ImageNet).
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from apps.errors import N_, InvalidInput
from apps.vision.train.detection.augment import Maps, colours, drawn
from apps.vision.train.detection.data import Places
from apps.vision.train.detection.parts import Parts
from apps.vision.train.detection.pictures import PictureStore
from apps.vision.train.detection.recipe import DetectorRecipe
from apps.vision.train.fit import Run, fit
from apps.vision.train.loaders import evaluation_loader, training_loader
from apps.vision.train.module import RecipeModule
from apps.vision.train.recipes import Mode, Recipe, Schedule

FOLDER = "crops"  # below the detector's run
SHORTEST = 6.0  # kept pixels; objects whose longest side is shorter show nothing
MARGIN = 1.15  # side of an undisturbed view, times the object's longest side
ROOM = (0.75, 1.6)  # smallest and largest factor of that, in training
SHIFT = 0.15  # largest shift in training, of the view's side
SMOOTHING = 0.1  # of labels (Szegedy et al. 2016)


def crop_recipe(recipe: DetectorRecipe) -> Recipe:
    """How the backbone of ``recipe`` learns from cut-out objects: what is not said is the same."""
    same = {field.name: getattr(recipe, field.name) for field in fields(Recipe)}
    own = {
        "name": f"{recipe.name}-{FOLDER}",
        "epochs": recipe.crops,
        "minutes": None,
        "batch": recipe.crops_batch,
        "lr": recipe.crops_lr,
        "schedule": Schedule.COSINE,
        "monitor": "val_accuracy",
        "mode": Mode.MAX,
        "ema": None,
        "patience": None,
        "validate_every": 1,
    }
    return Recipe(**same | own)


class Crops:
    """Square views of the objects of a store.

    Attributes:
        places: (n,) number of the picture of each object.
        boxes: (n, 4) float32 xyxy, in the store's pixels.
        labels: (n,) int64, from 0.
    """

    def __init__(self, store: PictureStore, recipe: DetectorRecipe) -> None:
        self.store = store
        self.recipe = recipe
        places, boxes, labels = [], [], []
        for place, truth in enumerate(store.truths):
            sides = (truth.boxes[:, 2:] - truth.boxes[:, :2]).amax(1)
            shown = ~truth.difficult & (sides >= SHORTEST)
            places += [place] * int(shown.sum())
            boxes.append(truth.boxes[shown])
            labels.append(truth.labels[shown] - 1)
        self.places = torch.tensor(places, dtype=torch.int64)
        self.boxes, self.labels = torch.cat(boxes), torch.cat(labels)

    def __len__(self) -> int:
        return len(self.places)

    def __call__(self, numbers: Tensor, *, disturbed: bool) -> tuple[Tensor, Tensor]:
        """The objects ``numbers`` (n,) as (n, 3, side, side) float32, 0..1, and labels (n,).

        Args:
            disturbed: moved, scaled, stretched, mirrored and in other colours, at random.
        """
        numbers = numbers.cpu()
        maps = self._maps(self.boxes[numbers], disturbed)
        pixels = self.store.pixels[self.places[numbers].to(self.store.pixels.device)]
        views = maps.pixels(pixels, self.recipe.crops_side, self.recipe.crops_side)
        views = colours(views, self.recipe) if disturbed else views
        return views, self.labels[numbers].to(views.device)

    def _maps(self, boxes: Tensor, disturbed: bool) -> Maps:
        recipe, count = self.recipe, len(boxes)
        longest = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True)
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2
        factors = (recipe.crops_side / (longest * MARGIN)).expand(-1, 2)
        centre = torch.full((count, 2), recipe.crops_side / 2)
        if disturbed:
            room = drawn(count, *ROOM)[:, None]
            stretch = torch.exp(drawn(count, -recipe.stretch, recipe.stretch) / 2)
            factors = factors / room * torch.stack([stretch, 1 / stretch], 1)
            centre = centre + (torch.rand(count, 2) * 2 - 1) * SHIFT * recipe.crops_side
            mirrored = torch.rand(count, 2) < torch.tensor([recipe.mirror, recipe.upside_down])
            factors = torch.where(mirrored, -factors, factors)
        return Maps(factors, centre - middle * factors)


class CropData(LightningDataModule):
    """Both parts of a detector's data as cut-out objects."""

    def __init__(self, parts: Parts, recipe: DetectorRecipe) -> None:
        super().__init__()
        self.parts = parts
        self.recipe = recipe
        self.train: Crops
        self.val: Crops

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device if self.trainer else "cpu"
        self.train, self.val = (
            Crops(PictureStore.of(part, self.recipe.sides.keep, device), self.recipe)
            for part in (self.parts.train, self.parts.val)
        )
        if not self.train or not self.val:
            raise InvalidInput(
                N_("There is no object to cut out of the pictures to train on, or to choose by.")
            )

    def teardown(self, stage: str) -> None:
        del self.train, self.val  # a detector's own copy of the pictures comes next

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(Places(len(self.train)), crop_recipe(self.recipe), self.trainer)

    def val_dataloader(self) -> DataLoader[Any]:
        batch = self.recipe.crops_batch  # each with its whole picture as float
        return evaluation_loader(Places(len(self.val)), self.recipe, batch=batch)

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Numbers of objects to views and labels."""
        training = self.trainer is not None and self.trainer.training
        return (self.train if training else self.val)(batch, disturbed=training)


class CropClassifier(nn.Module):
    """A detector's backbone and one layer on the mean of its coarsest feature map.

    Args:
        body: of ``network.backbone``: feature maps by name, the coarsest one last.
        classes: how many.
    """

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        with torch.no_grad():
            last = list(body.eval()(torch.zeros(1, 3, 64, 64)).values())[-1]
        self.body = body.train()
        self.head = nn.Linear(last.shape[1], classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), normalized, to logits (n, classes)."""
        last: Tensor = list(self.body(pictures).values())[-1]
        logits: Tensor = self.head(last.mean((2, 3)))
        return logits


class CropModule(RecipeModule):
    """Trains a detector's backbone as a classifier; logs ``val_accuracy``.

    Args:
        normal: mean and deviation that the detector's pictures are normalized with.
        recipe: of the detector.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: CropClassifier,
        normal: tuple[list[float], list[float]],
        recipe: DetectorRecipe,
        classes: int,
    ) -> None:
        super().__init__(network.to(memory_format=torch.channels_last), crop_recipe(recipe))
        self.detection = recipe
        mean, deviation = (torch.tensor(values)[:, None, None] for values in normal)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self._accuracy = MulticlassAccuracy(classes, average="micro")

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), 0..1, to logits (n, classes)."""
        inputs = (pictures - self.mean) / self.deviation
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        kind = pictures.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.detection.half(kind)):
            logits: Tensor = self.network(inputs)
        return logits.float()

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        pictures, labels = batch
        loss = cross_entropy(self(pictures), labels, label_smoothing=SMOOTHING)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        pictures, labels = batch
        self._accuracy.update(self(pictures), labels)
        self.log("val_accuracy", self._accuracy, on_step=False, on_epoch=True)


def learn_crops(
    network: nn.Module,
    recipe: DetectorRecipe,
    parts: Parts,
    out: Path,
    *,
    resume: bool,
    pause_after: float | None,
) -> Run:
    """Train the backbone of ``network`` in place, in the folder ``crops`` of ``out``.

    Raises:
        InvalidInput: a network whose backbone cannot be taken by itself, or nothing to tell apart.
        Conflict: as :func:`apps.vision.train.fit.fit`.
    """
    backbone: Any = getattr(network, "backbone", None)
    transform: Any = getattr(network, "transform", None)
    if not isinstance(getattr(backbone, "body", None), nn.Module):
        raise InvalidInput(
            N_("%(network)s has no backbone that could learn from cut-out objects; set crops=0."),
            network=recipe.builder,
        )
    classes = len(parts.train.classes)
    if classes < 2:
        raise InvalidInput(
            N_("There is only one class, and so nothing to tell apart before; set crops=0.")
        )
    normal = transform.image_mean, transform.image_std
    module = CropModule(CropClassifier(backbone.body, classes), normal, recipe, classes)
    run = fit(
        module,
        CropData(parts, recipe),
        module.recipe,
        out / FOLDER,
        resume=resume,
        pause_after=pause_after,
    )
    network.train()  # fit left what it trained as it is in use
    return run
