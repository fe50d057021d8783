"""What every network in training has in common: its optimizer, its learning rate, its clock."""

from collections.abc import Iterable
from typing import Any

from lightning import LightningModule
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from apps.vision.train.callbacks import Clock, validations_of
from apps.vision.train.recipes import Optimizer, Recipe, Schedule
from apps.vision.train.schedules import factor


class RecipeModule(LightningModule):
    """A LightningModule whose optimizer and schedule come from its recipe.

    Subclasses keep the network in ``self.network``, whose weights are what is saved in the end.

    Args:
        network: what is trained.
        recipe: how.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, and its schedule at every step (plateau: at every epoch)."""
        optimizer = make_optimizer(self.groups(), self.recipe)
        if self.recipe.schedule is Schedule.PLATEAU:
            return {"optimizer": optimizer, "lr_scheduler": self._plateau(optimizer)}
        scheduler = {"scheduler": LambdaLR(optimizer, self._factor), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups: those with weight decay and those without.

        A subclass may return more of them, with an ``lr`` of their own.
        """
        return decay_groups(self.network.parameters(), self.recipe)

    @property
    def progress(self) -> float:
        """Part of the training that is done, 0..1: of its steps or of its minutes, the greater."""
        trainer = self.trainer
        steps = trainer.estimated_stepping_batches
        done = trainer.global_step / steps if steps else 1.0
        for clock in Clock.of(trainer):
            done = max(done, clock.part)
            if trainer.world_size > 1:  # clocks differ, and learning rates must not
                done = trainer.strategy.broadcast(done)
        return min(done, 1.0)

    def _factor(self, step: int) -> float:
        # Before the first step Lightning would have to start the loader, and a resumed training
        # does not know its epoch yet.
        return factor(self.recipe, self.progress if step else 0.0, step)

    def _plateau(self, optimizer: TorchOptimizer) -> dict[str, Any]:
        recipe = self.recipe
        scheduler = ReduceLROnPlateau(
            optimizer,
            mode=recipe.mode.value,
            factor=recipe.drop,
            patience=validations_of(recipe.plateau, recipe),
        )
        return {
            "scheduler": scheduler,
            "interval": "epoch",
            "frequency": recipe.validate_every,  # there is no monitor in other epochs
            "monitor": recipe.monitor,
        }


def decay_groups(parameters: Iterable[nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable ``parameters`` in two groups: tensors with two or more dimensions decay, biases
    and the scales of norms do not."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> TorchOptimizer:
    """The optimizer that ``recipe`` names, over ``groups``."""
    match recipe.optimizer:
        case Optimizer.SGD:
            return SGD(groups, recipe.lr)
        case Optimizer.MOMENTUM:
            return SGD(groups, recipe.lr, momentum=recipe.momentum)
        case Optimizer.NESTEROV:
            return SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=True)
        case Optimizer.ADAM:
            return Adam(groups, recipe.lr)
        case Optimizer.ADAMW:
            return AdamW(groups, recipe.lr)
