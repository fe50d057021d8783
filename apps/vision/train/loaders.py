"""Batches: shuffled by seed and epoch, the same after a resume and with any number of workers."""

from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from apps.vision.train.callbacks import epoch_seed
from apps.vision.train.recipes import FULL, Recipe

Collate = Callable[[list[Any]], Any]


class SeededLoader(DataLoader[Any]):
    """Draws the order of an epoch, and the seeds of its workers, from the epoch's number."""

    def __init__(self, *args: Any, seed: int, epoch: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Any:
        epoch = self.epoch()
        if self.generator is not None:
            self.generator.manual_seed(epoch_seed(self.seed, epoch))
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)
        return super().__iter__()


def training_loader(
    dataset: Dataset[Any],
    recipe: Recipe,
    trainer: Trainer | None,
    *,
    collate: Collate | None = None,
) -> DataLoader[Any]:
    """Every example of ``dataset`` once an epoch, in a new order; several devices share them.

    Args:
        trainer: of the data module; None counts every pass as the first epoch.
    """
    size = len(dataset)  # type: ignore[arg-type]
    batch = size if recipe.batch == FULL else min(int(recipe.batch), size)
    generator = torch.Generator()
    sampler: Sampler[int] = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
    if trainer is not None and trainer.world_size > 1:
        sampler = DistributedSampler(
            dataset, trainer.world_size, trainer.global_rank, seed=recipe.seed
        )
    return SeededLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        generator=generator,
        num_workers=recipe.workers,
        collate_fn=collate,
        # batch norm cannot learn from a rest of one example
        drop_last=batch > 1 and size > batch and size % batch == 1,
        pin_memory=torch.cuda.is_available(),
        seed=recipe.seed,
        epoch=lambda: _epoch(trainer),
    )


def evaluation_loader(
    dataset: Dataset[Any], recipe: Recipe, *, batch: int = 256, collate: Collate | None = None
) -> DataLoader[Any]:
    """Every example of ``dataset`` once, in order."""
    return DataLoader(
        dataset,
        batch_size=batch,
        num_workers=recipe.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def _epoch(trainer: Trainer | None) -> int:
    """Lightning counts an epoch as processed before it counts it as completed, and checkpoints
    are written in between: ``current_epoch`` is one too low when a training is resumed."""
    if trainer is None:
        return 0
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
