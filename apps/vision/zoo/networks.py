"""Detectors as torchvision built them before somebody trained them, and what fits into them."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection._utils import overwrite_eps
from torchvision.ops import FrozenBatchNorm2d

from apps.errors import N_, InvalidInput
from apps.vision.types import SCORE_FLOOR
from apps.vision.zoo.architectures import (
    BUILDERS,
    FROZEN,
    NO_EPSILON,
    OWN,
    SIGMOID,
    SSDLITE,
    Origin,
)

Shapes = Mapping[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"  # of BatchNorm2d; FrozenBatchNorm2d has none, and nobody needs it
SHOWN = 3  # differences named in a message

_substitution = threading.RLock()


def build(architecture: str, outputs: int, origin: Origin) -> nn.Module:
    """The network with random weights, its batch norms as torchvision makes them.

    Args:
        architecture: a key of ``BUILDERS``.
        outputs: classes and the background, as torchvision's ``num_classes``.
    """
    module, _, name = BUILDERS[architecture].partition(":")
    function = getattr(import_module(module), name)
    model: nn.Module
    if architecture in OWN:
        return function(outputs - 1)  # type: ignore[no-any-return]
    floor = "box_score_thresh" if "rcnn" in architecture else "score_thresh"
    options: dict[str, Any] = {"weights": None, "num_classes": outputs, floor: SCORE_FLOOR}
    if architecture == SSDLITE and origin is Origin.BACKBONE:  # its last layers are wider then
        weights = MobileNet_V3_Large_Weights.DEFAULT
        with substituted(weights, mobilenet_v3_large().state_dict()):
            model = function(weights_backbone=weights, **options)
    else:
        model = function(weights_backbone=None, **options)
    if architecture in FROZEN and origin is not Origin.SCRATCH:
        _freeze(model.get_submodule("backbone"))
    if architecture in NO_EPSILON and origin is Origin.COCO:
        overwrite_eps(model, 0.0)
    return model


def see(network: nn.Module, size: tuple[int, ...] | None) -> nn.Module:
    """Let ``network`` scale pictures to fit into ``size`` (width, height); None or (): as built."""
    if size:
        transform: Any = network.get_submodule("transform")
        transform.min_size, transform.max_size = (min(size),), max(size)
    return network


@contextmanager
def substituted(weights: Any, state: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let torchvision find ``state`` where it would download ``weights``.

    The door is an attribute of a class, so one thread at a time goes through.
    """

    def stored(*_args: Any, **_kwargs: Any) -> Mapping[str, torch.Tensor]:
        return state

    kind: Any = type(weights)
    with _substitution:
        kind.get_state_dict = stored
        try:
            yield
        finally:
            del kind.get_state_dict  # the inherited one is back


def origin_of(architecture: str, asked: Origin, shapes: Shapes) -> Origin:
    """What ``shapes`` (of a whole state dict) tells of its origin, else what was ``asked``."""
    if architecture in FROZEN:
        if any(name.startswith("backbone.") and name.endswith(COUNTER) for name in shapes):
            return Origin.SCRATCH  # only a BatchNorm2d counts
        return Origin.COCO if asked is Origin.COCO else Origin.BACKBONE
    if architecture == SSDLITE:
        tail = "backbone.features.1.0.3.1.weight"
        wide = _shapes(architecture, 2, Origin.BACKBONE).get(tail)
        return Origin.BACKBONE if shapes.get(tail) == wide else Origin.COCO
    return asked


def require_fit(
    architecture: str, classes: int, origin: Origin, shapes: Shapes, *, background: bool = True
) -> None:
    """Compare ``shapes`` with those of the network for ``classes``.

    Args:
        background: whether the network has an output for it, as number 0.

    Raises:
        InvalidInput: they differ; the text says how, in the simplest words that are true.
    """
    expected = _shapes(architecture, classes + background, origin)
    got = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
    if got == expected:
        return
    found = _outputs_of(architecture, origin, got)
    if found is not None:
        raise _wrong_classes(architecture, found, classes, background)
    for other in BUILDERS:
        if _outputs_of(other, origin_of(other, Origin.COCO, got), got) is not None:
            raise InvalidInput(
                N_("These weights belong to %(other)s, not to %(chosen)s. Choose that network."),
                other=other,
                chosen=architecture,
            )
    raise InvalidInput(
        N_(
            "These weights do not fit %(chosen)s. Missing: %(missing)s. Unknown: %(unknown)s. "
            "Of another shape: %(shapes)s."
        ),
        chosen=architecture,
        missing=_some([name for name in expected if name not in got]),
        unknown=_some([_shown(name) for name in got if name not in expected]),
        shapes=_some(
            [
                f"{name} {list(shape)} ≠ {list(expected[name])}"
                for name, shape in got.items()
                if shape != expected.get(name, shape)
            ]
        ),
    )


def _shapes(architecture: str, outputs: int, origin: Origin) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's tensors by name, counters left out; takes no memory for them."""
    with torch.device("meta"):
        state = build(architecture, outputs, origin).state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if not name.endswith(COUNTER)}


def _outputs_of(architecture: str, origin: Origin, got: Shapes) -> int | None:
    """The number of outputs with which ``got`` would fit the network; None: with none."""
    two = _shapes(architecture, 2, origin)
    if got.keys() != two.keys():
        return None
    three = _shapes(architecture, 3, origin)
    counts = set()
    for name, shape in got.items():
        each = three[name][0] - two[name][0] if two[name] != three[name] else 0
        if not each:  # the same for any number of classes
            if shape != two[name]:
                return None
            continue
        rows, rest = divmod(shape[0] - two[name][0], each) if shape else (0, 1)
        if rest or shape[1:] != two[name][1:]:
            return None
        counts.add(2 + rows)
    found = counts.pop()
    return found if found > 0 and not counts else None


def _wrong_classes(architecture: str, found: int, classes: int, background: bool) -> InvalidInput:
    """Args: ``found`` counts the outputs of the file."""
    if architecture in SIGMOID and background and found == classes:
        text = N_(
            "The file was trained for %(found)s classes and the background, the list has "
            "%(wanted)s. If it was trained without a background, its label numbers beginning "
            "at 0, say so."
        )
    else:
        text = N_("The file was trained for %(found)s classes, the list has %(wanted)s.")
    return InvalidInput(text, found=found - background, wanted=classes)


def _some(rows: list[str]) -> str:
    """The first few, and how many more there are."""
    more = [f"+{len(rows) - SHOWN}"] if len(rows) > SHOWN else []
    return ", ".join(rows[:SHOWN] + more) or "–"


def _shown(name: str) -> str:
    """A stranger's text, short and printable."""
    return "".join(c if c.isprintable() else "?" for c in name[:80])


def _freeze(module: nn.Module) -> None:
    """Replace every BatchNorm2d below ``module`` by the frozen one of torchvision."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, child.eps))
        else:
            _freeze(child)
