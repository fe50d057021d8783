"""Networks made faster without other boxes: what eager PyTorch leaves on the table.

Measured in docs/performance.md; tests hold every step to the boxes of plain torchvision (IoU at
least 0.99, scores within 0.005).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from apps.vision.recorded import record
from apps.vision.roi_align import SameRoIAlign

SPARSE = 8  # input pixels for each output pixel from which on most of them do not count
POOLERS = 4  # threads of one RoIAlign; more gain little, and each brings threads of its own
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def optimize(network: nn.Module, device: torch.device, precision: str = "float32") -> nn.Module:
    """``network``, changed in place and moved to ``device``, for inference alone.

    Args:
        network: a torchvision detector in evaluation mode, float32. Afterwards it expects
            pictures that ``resample`` has brought to ``seen_size``.
        device: where it will run.
        precision: of the backbone on a GPU: a key of ``PRECISIONS``. Heads stay float32, because
            a box corner needs more than the 8 bits that bfloat16 has.
    """
    _expect_presized(network)
    network = fold_batch_norm(network).requires_grad_(False).to(device)
    if device.type in ("cpu", "cuda"):  # MPS has no kernels for this layout
        network = network.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        _multiply_pointwise(network)
        record(network)
    if device.type == "cpu" and torch.get_num_threads() > 1:
        _pool_in_parallel(network, min(torch.get_num_threads(), POOLERS))
    dtype = PRECISIONS[precision]
    if dtype is not None and device.type != "cpu":
        backbone = network.get_submodule("backbone")
        network.backbone = ReducedPrecision(backbone, device.type, dtype)
    return network


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Every convolution takes over the batch norm behind it: exact, and one pass less over memory.

    Only where the order of execution is known: neighbours in a ``Sequential``, and ``convN`` with
    ``bnN`` in torchvision's ResNets.
    """
    for module in list(network.modules()):
        names = list(module._modules)
        if isinstance(module, nn.Sequential):
            pairs = list(pairwise(names))
        elif isinstance(module, BasicBlock | Bottleneck | IntermediateLayerGetter):
            pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)]
        else:
            continue
        for conv_name, norm_name in pairs:
            _fold(module, conv_name, norm_name)
    return network


def _fold(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
        return
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:  # made to use the statistics of each batch
        return
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    module._modules[norm_name] = nn.Identity()


class Pointwise(nn.Conv2d):
    """A 1 × 1 convolution as the matrix product that it is.

    For single pictures PyTorch does not give it to oneDNN (``ConvParams::use_mkldnn`` in ATen)
    but unfolds its input first; half of the layers of a MobileNet are such ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        product = nn.functional.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)


def _multiply_pointwise(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if type(child) is nn.Conv2d and _is_pointwise(child):
                module._modules[name] = _as_pointwise(child)


def _is_pointwise(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
    return shape == ((1, 1), (1, 1), (0, 0), 1)


def _as_pointwise(conv: nn.Conv2d) -> Pointwise:
    with torch.device("meta"):  # its own weights would only be thrown away
        product = Pointwise(conv.in_channels, conv.out_channels, 1)
    product.weight, product.bias = conv.weight, conv.bias
    return product.train(conv.training)


class ReducedPrecision(nn.Module):
    """A backbone under autocast whose features come out as float32."""

    def __init__(self, backbone: nn.Module, device_type: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone = backbone
        self.device_type = device_type
        self.dtype = dtype

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to {level: (N, C, h, w)}."""
        with torch.autocast(self.device_type, self.dtype):
            features = self.backbone(pictures)
        return {name: level.float() for name, level in features.items()}


class ParallelRoIAlign(SameRoIAlign):
    """RoIAlign (He et al. 2017) with the boxes shared out among threads.

    torchvision's CPU kernel runs on one core, which made it a fifth of a small detector's time.
    """

    def __init__(self, pool: MultiScaleRoIAlign, threads: int) -> None:
        super().__init__(pool)
        self.threads = threads
        # Its threads begin with the first work: they would not survive a fork.
        self._helpers = ThreadPoolExecutor(threads - 1, "roi-align")

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """(levels, boxes of each picture) to (boxes of all pictures, C, height, width)."""
        threads = min(self.threads, torch.get_num_threads())  # of this caller
        if self.scales is None or threads == 1:  # the first call sets them up: alone
            alone: Tensor = super().forward(x, boxes, image_shapes)
            return alone
        x = {name: x[name].contiguous() for name in self.featmap_names if name in x}
        mine, *others = share_out(boxes, threads)
        running = [self._helpers.submit(self._part, x, part, image_shapes) for part in others]
        pooled = [self._part(x, mine, image_shapes), *(part.result() for part in running)]
        return torch.cat(pooled)

    def _part(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        with torch.inference_mode():  # this is a setting of each thread
            pooled: Tensor = super().forward(x, boxes, image_shapes)
            return pooled


def share_out(boxes: Sequence[Tensor], parts: int) -> list[list[Tensor]]:
    """Cut the boxes of several pictures into ``parts`` of equal size, in order.

    Each part has one tensor for each picture, (n, 4), most of them empty; one after the other the
    parts are all the boxes in their old order.
    """
    total = sum(len(some) for some in boxes)
    cuts = [round(total * part / parts) for part in range(parts + 1)]
    shared = []
    for start, stop in pairwise(cuts):
        part, before = [], 0
        for some in boxes:
            part.append(some[max(start - before, 0) : max(stop - before, 0)])
            before += len(some)
        shared.append(part)
    return shared


def _pool_in_parallel(network: nn.Module, threads: int) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if isinstance(child, MultiScaleRoIAlign):
                module._modules[name] = ParallelRoIAlign(child, threads)


@torch.inference_mode()
def prime(network: nn.Module, device: torch.device) -> None:
    """Run a network once on an input without padding, before anybody sees it.

    torchvision's pooling infers the scale of each feature level from the first picture that it
    meets and keeps it; a padded one, very wide or very high, would spoil all later results.
    """
    transform: Any = network.get_submodule("transform")
    width, height = transform.fixed_size or (256, 256)  # multiples of every stride
    network([torch.zeros(3, height, width, device=device)])


# -- pictures in the size that the network sees ---------------------------------------------


def _expect_presized(network: nn.Module) -> None:
    """Take torchvision's resizing out of a detector: ``resample`` has done it before."""
    transform: Any = network.get_submodule("transform")
    transform.resize = lambda image, target=None: (image, target)


def seen_size(transform: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) to which torchvision's transform brings a picture of this size."""
    if transform.fixed_size is not None:
        return transform.fixed_size[1], transform.fixed_size[0]
    shortest, longest = min(height, width), max(height, width)
    scale = min(transform.min_size[-1] / shortest, transform.max_size / longest)
    return int(height * scale), int(width * scale)


def canvas(transform: Any, height: int, width: int) -> tuple[int, int]:
    """Size (height, width) of the padded input that is made of a picture that the network sees so.

    Pictures with the same canvas can share a batch without changing each other's result:
    torchvision pads a batch to its largest picture, and padding is not invisible to convolutions.
    """
    step = transform.size_divisible
    return -(-height // step) * step, -(-width // step) * step


def resample(picture: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation as torchvision's transform does it: without an anti-aliasing filter.

    Of a large picture only the pixels that count are read, two for each output row and column.
    torchvision makes a float tensor of the whole picture first and normalizes all of it: half a
    second and 300 MB for a photograph of 12 megapixels of which 320 pixels a side are wanted.

    Args:
        picture: uint8, (3, H, W); fastest with the memory layout of Pillow, (H, W, 3).

    Returns:
        float32, (3, height, width), 0..1.
    """
    pixels = picture.permute(1, 2, 0)
    if picture[0].numel() <= SPARSE * height * width:
        whole = pixels.float().permute(2, 0, 1)[None]
        return nn.functional.interpolate(whole, (height, width), mode="bilinear")[0].div_(255)
    upper, lower, down = _taps(picture.shape[1], height)
    left, right, along = _taps(picture.shape[2], width)
    rows = pixels.index_select(0, torch.cat([upper, lower]))
    some = rows.index_select(1, torch.cat([left, right])).float()
    across = torch.lerp(some[:, :width], some[:, width:], along[:, None])
    merged = torch.lerp(across[:height], across[height:], down[:, None, None])
    return merged.div_(255).permute(2, 0, 1)


def _taps(old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``new`` positions: the pixels of ``old`` on its two sides, and where between."""
    centre = ((torch.arange(new) + 0.5) * (old / new) - 0.5).clamp_(min=0)
    before = centre.long().clamp_(max=old - 1)
    return before, (before + 1).clamp_(max=old - 1), centre - before
