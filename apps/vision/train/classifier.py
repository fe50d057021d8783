"""Training of classifiers: recipe, pictures as batches, loss and measures."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision.transforms import v2

from apps.errors import N_, InvalidInput
from apps.vision.train import augment, data, transfer
from apps.vision.train.loaders import evaluation_loader, training_loader
from apps.vision.train.module import RecipeModule
from apps.vision.train.recipes import Mode, Recipe, between, whole, wrong
from apps.vision.train.transfer import Strategy

logger = logging.getLogger(__name__)

NETWORKS = {
    "fashion_cnn": "fashion_cnn",
    "lenet5": "lenet",
    "convnet": "cats_dogs",
    "alexnet": "alexnet",
    "vgg16": "vgg",
    "googlenet": "googlenet",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
}  # name: module of apps.vision.zoo
SIDES = {"fashion_cnn": 28, "lenet5": 28, "convnet": 150, "alexnet": 227}  # the others take any …
LEAST = {"vgg16": 32, "googlenet": 31}  # … from here, as far as their poolings leave something
MEMORY = 2 << 30  # bytes of decoded pictures that are kept


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(Recipe):
    """What a classifier is trained with, apart from its pictures."""

    network: str = "resnet18"
    channels: int = 3  # 1: grey
    size: int = 128  # pixels of both sides
    resize: int | None = None  # pixels of the shorter side before ``size`` of it is cut out
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    train_size: int | None = None  # pixels in training, if fewer (Touvron et al. 2019, FixRes)
    augment: tuple[str, ...] = ()  # names of augment.MAKERS, in this order
    alike: int = 1  # pictures of a batch that get the same draw: faster for very small ones
    mixup: float = 0.0  # alpha of Zhang et al. 2018; 0 is off
    label_smoothing: float = 0.0
    dropout: float | None = None  # None: as the network has it
    batch_norm: bool = True  # False takes it out of the network
    held_out: float = 0.1  # part of each class of train that validates, where there is no val
    split_seed: int = 0  # of what is held out: another training seed measures the same pictures
    pretrained: str = ""  # safetensors file of the same network to begin with
    strategy: Strategy = Strategy.ALL
    similar: bool | None = None  # for auto: whether pictures look like those of the pretraining
    monitor: str = "val_accuracy"
    mode: Mode = Mode.MAX

    def _check(self) -> None:
        super()._check()
        if self.network not in NETWORKS:
            raise wrong("network", self.network, f"one of {', '.join(NETWORKS)}")
        if self.channels not in (1, 3):
            raise wrong("channels", self.channels, "1 or 3")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise wrong(name, getattr(self, name), "one number for each channel")
        side = SIDES.get(self.network)
        for name in ("size", "train_size"):
            if side is not None and getattr(self, name) not in (side, None):
                raise wrong(name, getattr(self, name), f"{side} for {self.network}")
            least = LEAST.get(self.network, 1)
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise wrong(name, getattr(self, name), f"{least} or more for {self.network}")
        whole(self, "size", "resize", "train_size", "alike")
        whole(self, "split_seed", least=0)
        between(self, 0, 1, "label_smoothing", "dropout", closed=True)
        between(self, 0, 0.9, "held_out")
        between(self, 0, 100, "mixup", closed=True)
        augment.training(self.augment, self.size, self.resize)
        if self.strategy is not Strategy.ALL and not self.pretrained:
            raise wrong("strategy", self.strategy, "all, because pretrained names no file")
        if self.strategy is Strategy.AUTO and self.similar is None:
            raise wrong("similar", None, "true or false, because strategy is auto")


def build(recipe: ClassifierRecipe, classes: int) -> nn.Module:
    """The network of ``recipe``, random or pretrained, with what does not learn frozen.

    Raises:
        InvalidInput: the pretrained file is of another network.
    """
    module = import_module(f"apps.vision.zoo.{NETWORKS[recipe.network]}")
    network: nn.Module = getattr(module, recipe.network)(classes, in_channels=recipe.channels)
    if recipe.dropout is not None:
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
    if not recipe.batch_norm:
        _without_batch_norm(network)
    if recipe.pretrained:
        transfer.load(network, recipe.pretrained)
    return network


def _without_batch_norm(network: nn.Module) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, nn.Identity())
        else:
            _without_batch_norm(child)


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Some pictures of a part: whole batches of uint8 pictures, decoded once where they fit.

    ``__getitems__`` gives (N, C, size, size) float32 pictures and (N,) int64 labels.
    """

    def __init__(
        self, part: data.Part, indices: Sequence[int], recipe: ClassifierRecipe, *, train: bool
    ) -> None:
        self.part = part
        self.indices = list(indices)
        self.recipe = recipe
        self.transform = augment.evaluation(recipe.size, recipe.resize)
        self.erase: augment.Transform | None = None
        self.alike = recipe.alike if train and recipe.augment else 256
        if train:
            names = [name for name in recipe.augment if name != "erase"]
            self.transform = augment.training(
                names, recipe.train_size or recipe.size, recipe.resize
            )
            self.erase = augment.MAKERS["erase"](0) if "erase" in recipe.augment else None
        self.kept: dict[int, Tensor] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        pictures, labels = self.__getitems__([place])
        return pictures[0], labels[0]

    def __getitems__(self, places: list[int]) -> tuple[Tensor, Tensor]:
        chosen = [self.indices[place] for place in places]
        pictures = torch.cat([self.transform(group) for group in self._groups(chosen)])
        values = augment.normalized(pictures, self.recipe.mean, self.recipe.std)
        if self.erase is not None:
            values = torch.stack([self.erase(value) for value in values])
        return values, torch.tensor([self.part.labels[index] for index in chosen])

    def _groups(self, indices: list[int]) -> Iterator[Tensor]:
        """Neighbours of one shape, ``alike`` of them at most, as (n, C, H, W)."""
        pictures = [self._picture(index) for index in indices]
        start = 0
        for end in range(1, len(pictures) + 1):
            full = end - start == self.alike
            if end == len(pictures) or full or pictures[end].shape != pictures[start].shape:
                yield torch.stack(pictures[start:end])
                start = end

    def _picture(self, index: int) -> Tensor:
        """(C, H, W) uint8 with a shorter side of ``resize`` pixels at most."""
        if index in self.kept:
            return self.kept[index]
        try:
            picture = self.part.read(index)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                N_("%(file)s is no picture that can be read: %(reason)s"),
                file=self.part.names[index],
                reason=error,
            ) from error
        side, shorter = self.recipe.resize or self.recipe.size, min(picture.size)
        value = data.tensor(picture, self.recipe.channels)
        if shorter > side:
            value = v2.functional.resize(value, [side], antialias=True)
        if self.bytes < MEMORY:
            self.kept[index] = value
            self.bytes += value.numel()
        return value


def together(batch: Any) -> Any:
    """``Examples`` gives whole batches already."""
    return batch


def hold_out_test(source: data.Source, recipe: ClassifierRecipe) -> tuple[list[int], list[int]]:
    """Indices of train that may be learned from, and those that are the test part.

    The latter are none where ``source`` has a test part.
    """
    if source.test is not None:
        return list(range(len(source.train))), []
    return data.split(source.train.labels, recipe.held_out, recipe.split_seed + 1)


class Pictures(LightningDataModule):
    """Training, validation and test pictures of one source; a part that it lacks is held out.

    Args:
        folds: indices of train for training and for validation, none of the test part; None takes
            the source's val, or holds a part out.
    """

    def __init__(
        self,
        source: data.Source,
        recipe: ClassifierRecipe,
        folds: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.source = source
        kept, held = hold_out_test(source, recipe)
        test = (source.train, held) if source.test is None else _all(source.test)
        if folds is not None:
            kept, val = list(folds[0]), (source.train, folds[1])
        elif source.val is not None:
            val = _all(source.val)
        else:
            labels = [source.train.labels[index] for index in kept]
            stay, out = data.split(labels, recipe.held_out, recipe.split_seed)
            val = source.train, [kept[place] for place in out]
            kept = [kept[place] for place in stay]
        self.train = Examples(source.train, kept, recipe, train=True)
        self.val = Examples(*val, recipe, train=False)
        self.test = Examples(*test, recipe, train=False)

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(self.train, self.recipe, self.trainer, collate=together)

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.val, self.recipe, collate=together)

    def test_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.test, self.recipe, collate=together)


def _all(part: data.Part) -> tuple[data.Part, Sequence[int]]:
    return part, range(len(part))


class ClassifierModule(RecipeModule):
    """Cross entropy over the logits of a network; accuracy as the measure."""

    recipe: ClassifierRecipe

    def __init__(self, network: nn.Module, recipe: ClassifierRecipe, classes: int) -> None:
        super().__init__(network, recipe)
        network.to(memory_format=torch.channels_last)
        self.classes = classes
        self.still: list[nn.Module] = []
        self.use(recipe.strategy)
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.mix = v2.MixUp(alpha=recipe.mixup, num_classes=classes) if recipe.mixup else None

    def use(self, strategy: Strategy) -> None:
        """Freeze what ``strategy`` leaves as it is; auto is chosen when the pictures are known."""
        self.strategy = strategy
        if strategy is not Strategy.AUTO:
            transfer.freeze(self.network, strategy)
            self.still = transfer.frozen(self.network)

    def setup(self, stage: str) -> None:
        """Choose the strategy, if it is auto, by how many pictures of each class train."""
        if self.strategy is Strategy.AUTO:
            each = len(self.trainer.datamodule.train) / self.classes  # type: ignore[attr-defined]
            self.use(transfer.choose(each, similar=bool(self.recipe.similar)))
            logger.info("%.0f pictures of each class: the strategy is %s", each, self.strategy)

    def groups(self) -> list[dict[str, Any]]:
        return transfer.groups(self.network, self.recipe, self.strategy)

    def on_train_epoch_start(self) -> None:
        """Frozen layers keep the statistics of their batch norms."""
        for layer in self.still:
            layer.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        pictures, labels = batch
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self.mix is not None:
            pictures, labels = self.mix(pictures, labels)
        logits = self.network(pictures)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        right = (logits.argmax(1) == hard).float().mean()
        self.log("train_accuracy", right, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        pictures, labels = batch
        logits = self.network(pictures)
        self.accuracy(logits, labels)
        self.log("val_loss", F.cross_entropy(logits, labels), sync_dist=True)
        self.log("val_accuracy", self.accuracy, on_epoch=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a classifier gets right on pictures that it was not trained on."""

    accuracy: float  # of all pictures, 0..1
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted]


@torch.inference_mode()
def measure(network: nn.Module, examples: Examples, classes: int) -> Measured:
    """Accuracy, accuracy of each class and confusion matrix on ``examples``."""
    device = next(network.parameters()).device
    network.eval()
    alone: dict[str, Any] = {"sync_on_compute": False}  # other processes may be gone already
    total = MulticlassAccuracy(classes, average="micro", **alone).to(device)
    each = MulticlassAccuracy(classes, average="none", **alone).to(device)
    confusion = MulticlassConfusionMatrix(classes, **alone).to(device)
    for pictures, labels in evaluation_loader(examples, examples.recipe, collate=together):
        logits = network(pictures.to(device))
        for metric in (total, each, confusion):
            metric.update(logits, labels.to(device))
    return Measured(
        accuracy=float(total.compute()),
        per_class=tuple(float(value) for value in each.compute()),
        confusion=tuple(tuple(row) for row in confusion.compute().int().tolist()),
    )
