"""The LightningDataModule of detectors: pictures on the device, random views of them, truths."""

from typing import Any

from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.vision.formats.dataset import DetectionData
from apps.vision.train.detection.augment import Augmenter, Target
from apps.vision.train.detection.pictures import PictureStore, Truth
from apps.vision.train.detection.recipe import DetectorRecipe
from apps.vision.train.loaders import evaluation_loader, training_loader

EVALUATED = 8  # pictures at once


class Places(Dataset[int]):
    """The numbers of pictures; their pixels are where the network is."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> int:
        return place


class DetectionDataModule(LightningDataModule):
    """Keeps both parts of the data as uint8 on the device, and augments there.

    Args:
        train: what is learned from.
        val: what the best checkpoint is chosen by.
    """

    def __init__(self, train: DetectionData, val: DetectionData, recipe: DetectorRecipe) -> None:
        super().__init__()
        self.parts = train, val
        self.recipe = recipe
        self.augmenter: Augmenter
        self.val_store: PictureStore

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device if self.trainer else "cpu"
        train, val = (PictureStore.of(part, self.recipe.sides.keep, device) for part in self.parts)
        self.augmenter = Augmenter(train, self.recipe)
        self.val_store = val

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(Places(len(self.augmenter.store)), self.recipe, self.trainer)

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(Places(len(self.val_store)), self.recipe, batch=EVALUATED)

    def on_after_batch_transfer(
        self, batch: Tensor, dataloader_idx: int
    ) -> tuple[Tensor, list[Target]] | tuple[list[Tensor], list[Truth]]:
        """Numbers of pictures to what the module takes."""
        trainer = self.trainer
        if trainer is not None and trainer.training:
            module: Any = trainer.lightning_module
            return self.augmenter(batch, module.progress)
        places = batch.tolist()
        store = self.val_store
        return [store.picture(k) for k in places], [store.truths[k] for k in places]
