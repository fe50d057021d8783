"""Parts of networks that run without Python in between."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torchvision.models.detection.rpn import RegionProposalNetwork

logger = logging.getLogger(__name__)


class Recorded(nn.Module):
    """A part of a network as one recorded graph.

    Python gives up and takes back its global lock at each of some hundred operations; beside
    threads that answer requests, most of a picture's time was waiting for it.

    Args:
        part: what takes tensors and gives a tensor, or a dict, list or tuple of them.
        examples: what it may be given.
    """

    def __init__(self, part: nn.Module, *examples: Any) -> None:
        super().__init__()
        self.part = part  # whose tensors the graph shares
        _, self.shape = tree_flatten(part(*examples))
        with warnings.catch_warnings():  # deprecated since 2.12, and nothing else does it on a CPU
            warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            values = _Values(part, tree_flatten(examples)[1]).eval()
            flat = tuple(tree_flatten(examples)[0])
            graph = torch.jit.trace(values, flat, check_trace=False)  # type: ignore[no-untyped-call]
            self.graph = torch.jit.freeze(graph)

    def forward(self, *inputs: Any) -> Any:
        """What ``part`` gives."""
        return tree_unflatten(list(self.graph(*tree_flatten(inputs)[0])), self.shape)


class _Values(nn.Module):
    """Tensors in, tensors out: more a graph cannot have."""

    def __init__(self, part: nn.Module, shape: TreeSpec) -> None:
        super().__init__()
        self.part = part
        self.shape = shape

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tree_flatten(self.part(*tree_unflatten(list(tensors), self.shape)))[0])


@torch.no_grad()
def record(network: nn.Module) -> None:
    """Record the backbone of a detector, and the head of an RPN where there is one, in place."""
    transform: Any = network.get_submodule("transform")
    width, height = transform.fixed_size or (320, 256)
    other = transform.fixed_size or (192, 320)  # multiples of every stride
    example = torch.zeros(1, 3, height, width).to(memory_format=torch.channels_last)
    noise = torch.rand(2, 3, other[1], other[0]).to(memory_format=torch.channels_last)
    backbone = network.get_submodule("backbone")
    levels, others = list(backbone(example).values()), list(backbone(noise).values())
    network.backbone = _recorded(backbone, example, noise)
    if isinstance(getattr(network, "rpn", None), RegionProposalNetwork):
        rpn: Any = network.get_submodule("rpn")
        rpn.head = _recorded(rpn.head, levels, others)
        rpn.anchor_generator = CachedAnchors(rpn.anchor_generator)


def _recorded(part: nn.Module, example: Any, other: Any) -> nn.Module:
    """``part`` recorded, if the graph says the same of ``other``; else as it is."""
    try:
        graph = Recorded(part, example)
        found, wanted = (tree_flatten(call(other))[0] for call in (graph, part))
        if all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True)):
            return graph
    except (RuntimeError, AttributeError) as error:  # a PyTorch that has it no more
        logger.warning("not recorded part=%s reason=%s", type(part).__name__, error)
    return part


class CachedAnchors(nn.Module):
    """Anchors of each input size, made once: they depend on sizes alone."""

    KEPT = 64  # sizes

    def __init__(self, generator: Callable[[Any, list[Tensor]], list[Tensor]]) -> None:
        super().__init__()
        self.generator = generator
        self._known: dict[Any, list[Tensor]] = {}

    def forward(self, images: Any, levels: list[Tensor]) -> list[Tensor]:
        """Of each picture: (anchors, 4), xyxy in pixels of the input."""
        key = (images.tensors.shape, *(level.shape[-2:] for level in levels))
        found = self._known.get(key)
        if found is None:
            found = self.generator(images, levels)
            if len(self._known) < self.KEPT:
                self._known[key] = found
        return list(found)
