"""What happens inside a classifier, as tables and pictures. Imports torch."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from apps.vision.conversion import Array
from apps.vision.types import Layer, Step

MAPS = 3  # convolutions whose feature maps are shown
TILES = 64  # feature maps of one mosaic
MOSAIC_SIDE = 512  # pixels of a mosaic at least, as far as whole factors go
MOSAIC_MOST = 1024  # and at most; larger maps are averaged
HEAT_SIDE = 224  # pixels, likewise
HEAT = 0.5  # part of the heat map's colour in what is seen

# From cold to hot; the brightness grows all the way, so that it can be read without colours.
COLOURS = np.array(
    [(0, 0, 40), (90, 0, 130), (200, 40, 80), (250, 140, 20), (255, 250, 160)], np.float32
)


@dataclass(frozen=True, slots=True)
class Explained:
    number: int  # of the class that is explained
    heat: Image.Image
    maps: tuple[Step, ...]


def table(build: Callable[[], nn.Module], shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """The layers that ``build`` makes, in the order of their work.

    A layer that works several times is told once, as it works first.

    Args:
        shape: of one input, (C, H, W).
    """
    rows: dict[str, Layer] = {}

    def note(name: str, module: nn.Module, output: torch.Tensor) -> None:
        own = sum(parameter.numel() for parameter in module.parameters())
        rows.setdefault(name, Layer(name, type(module).__name__, tuple(output.shape[1:]), own))

    with torch.device("meta"):  # shapes without values: no memory, no time
        network = build().eval()
        with torch.no_grad(), _watched(network, note):
            network(torch.empty(1, *shape))
    return tuple(rows.values())


def explained(
    network: nn.Module, batch: torch.Tensor, seen: Image.Image, number: int | None
) -> Explained:
    """Feature maps of the first convolutions, and Grad-CAM of one class.

    Grad-CAM (Selvaraju et al. 2017): the maps of the last convolution, or of the block that it
    ends, each weighted by the mean of the class's gradient over it; what is below 0 counts as 0.

    Works on a copy that shares the tensors of ``network``, so that threads neither wait for nor
    see each other, and nothing stays behind.

    Args:
        batch: one normalized picture, (1, C, H, W).
        seen: the same as a picture.
        number: of the class; None for the most probable one.
    """
    twin = _twin(network)
    first: dict[str, torch.Tensor] = {}
    last: list[torch.Tensor] = []

    def note(name: str, module: nn.Module, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and len(first) < MAPS:
            first[name] = output[0].detach().clone()  # what follows may work in place

    def begin(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Gradients are taken back to here and no further."""
        last[:] = [output.detach().requires_grad_()]
        return last[0].clone()

    with torch.enable_grad(), _watched(twin, note):
        twin.get_submodule(heat_layer(network)).register_forward_hook(begin)
        logits = twin(batch)[0]
        number = int(logits.argmax()) if number is None else number
        [gradient] = torch.autograd.grad(logits[number], last[0])
    maps = tuple(Step(name, mosaic(_numbers(values))) for name, values in first.items())
    weights = gradient[0].mean((1, 2), keepdim=True)
    warm = (weights * last[0][0].detach()).sum(0).clamp(min=0)
    return Explained(number, heated(seen, _numbers(warm)), maps)


def heat_layer(network: nn.Module) -> str:
    """Address of the last layer that still knows where things are: the last convolution, or the
    whole block (residual, inception) that it is a part of."""
    *_, name = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    parts = name.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts)))
    blocks = (way for way in above if not isinstance(network.get_submodule(way), nn.Sequential))
    return next(blocks, name)


def mosaic(maps: Array) -> Image.Image:
    """Feature maps (C, H, W) side by side in a square, each from black (its least) to white."""
    maps = maps[:TILES]
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    pixels = ((maps - low) * (255 / np.maximum(high - low, 1e-12))).round().astype(np.uint8)
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    side = columns * max(pixels.shape[1:])
    larger, smaller = max(1, MOSAIC_SIDE // side), math.ceil(side / MOSAIC_MOST)
    tall, wide = (max(1, length * larger // smaller) for length in pixels.shape[1:])
    filtered = Image.Resampling.NEAREST if smaller == 1 else Image.Resampling.BOX
    whole = Image.new("L", (columns * (wide + 1) - 1, rows * (tall + 1) - 1), 128)
    for place, tile in enumerate(pixels):
        y, x = divmod(place, columns)
        picture = Image.fromarray(tile).resize((wide, tall), filtered)
        whole.paste(picture, (x * (wide + 1), y * (tall + 1)))
    return whole


def heated(seen: Image.Image, warm: Array) -> Image.Image:
    """``seen`` under the colours of ``warm``, (H, W) from 0; hottest where that is highest."""
    factor = max(1, math.ceil(HEAT_SIDE / max(seen.size)))
    size = seen.width * factor, seen.height * factor
    below = seen.convert("RGB").resize(size, Image.Resampling.NEAREST)
    relative = Image.fromarray(warm / max(float(warm.max()), 1e-12))
    place = np.asarray(relative.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(place, stops, COLOURS[:, channel]) for channel in range(3)]
    above = Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))
    return Image.blend(below, above, HEAT)


def _twin(network: nn.Module) -> nn.Module:
    """A copy with hooks of its own and the same tensors."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


@contextmanager
def _watched(
    network: nn.Module, note: Callable[[str, nn.Module, torch.Tensor], None]
) -> Iterator[None]:
    """Tell ``note`` of every layer's output while a ``network`` of one's own works."""

    def hook(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda module, _inputs, output: note(name, module, output)

    leaves = [(name, part) for name, part in network.named_modules() if not any(part.children())]
    handles = [part.register_forward_hook(hook(name)) for name, part in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _numbers(values: torch.Tensor) -> Array:
    numbers: Array = values.float().cpu().numpy()
    return numbers
