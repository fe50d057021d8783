"""Transfer learning: which layers of a pretrained network learn, by size and likeness of the data.

After the table of CS231n (Karpathy, "Transfer learning") and of Yosinski et al. 2014:

=============  ==============================  ======================================
data           like that of the pretraining    different
=============  ==============================  ======================================
few pictures   HEAD: the last layer alone      UPPER: the upper half and the head
many pictures  TUNE: all, lower ones slower    ALL: all, at full speed
=============  ==============================  ======================================
"""

from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import nn

from apps.errors import N_, InvalidInput, WeightsError
from apps.vision.train.module import decay_groups
from apps.vision.train.recipes import Recipe
from apps.vision.zoo.weights import read_state

FEW = 1000  # pictures a class; below, fine tuning of everything learns them by heart
SLOWER = 0.1  # learning rate of pretrained layers in TUNE, of the recipe's


class Strategy(StrEnum):
    HEAD = "head"  # feature extraction: a new linear layer on frozen features
    UPPER = "upper"  # frozen lower half
    TUNE = "tune"  # fine tuning
    ALL = "all"  # from the pretrained weights, or from random ones
    AUTO = "auto"  # one of the others, which choose() says


def choose(pictures_per_class: float, *, similar: bool) -> Strategy:
    """The strategy for so many pictures of each class.

    Args:
        similar: whether they look like those of the pretraining.
    """
    if pictures_per_class < FEW:
        return Strategy.HEAD if similar else Strategy.UPPER
    return Strategy.TUNE if similar else Strategy.ALL


def load(network: nn.Module, path: str) -> None:
    """Load all weights but those of the last layer, which has other classes.

    Raises:
        InvalidInput: no such file, or of another network.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise InvalidInput(N_("There is no file %(file)s of weights."), file=path)
        found = read_state(file)
    except WeightsError as error:
        raise InvalidInput(error.message, **error.params) from error
    last = _last(network)
    own = network.state_dict()
    kept = {name: value for name, value in own.items() if name.rpartition(".")[0] == last}
    begun = {name: value for name, value in found.items() if name not in kept and name in own}
    wrong = [name for name in own if name not in kept and name not in begun]
    wrong += [name for name, value in begun.items() if value.shape != own[name].shape]
    if wrong:
        raise InvalidInput(
            N_("%(file)s holds the weights of another network: %(name)s does not fit."),
            file=path,
            name=wrong[0],
        )
    network.load_state_dict(begun | kept)


def freeze(network: nn.Module, strategy: Strategy) -> None:
    """Stop the layers from learning that ``strategy`` leaves as they are."""
    if strategy in (Strategy.TUNE, Strategy.ALL):
        return
    last = _last(network)
    layers = [name for name, layer in network.named_modules() if _own(layer) and name != last]
    count = len(layers) if strategy is Strategy.HEAD else len(layers) // 2
    for name in layers[:count]:
        network.get_submodule(name).requires_grad_(False)


def frozen(network: nn.Module) -> list[nn.Module]:
    """Layers with parameters of which none learns."""
    return [
        layer
        for layer in network.modules()
        if _own(layer) and not any(p.requires_grad for p in layer.parameters(recurse=False))
    ]


def groups(network: nn.Module, recipe: Recipe, strategy: Strategy) -> list[dict[str, Any]]:
    """Parameter groups; with TUNE, those below the last layer learn slower."""
    if strategy is not Strategy.TUNE:
        return decay_groups(network.parameters(), recipe)
    head = list(network.get_submodule(_last(network)).parameters())
    chosen = {id(parameter) for parameter in head}
    lower = decay_groups((p for p in network.parameters() if id(p) not in chosen), recipe)
    slow = [group | {"lr": SLOWER * recipe.lr} for group in lower]
    return [*slow, *decay_groups(head, recipe)]


def _own(layer: nn.Module) -> bool:
    """Whether ``layer`` itself, not what is in it, has parameters."""
    return next(layer.parameters(recurse=False), None) is not None


def _last(network: nn.Module) -> str:
    """Name of the layer that makes the logits."""
    return str([n for n, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1])
