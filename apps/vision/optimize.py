"""Networks made faster without other boxes: what eager PyTorch leaves on the table.

Measured in docs/performance.md; tests hold every step to the boxes of plain torchvision (IoU at
least 0.99, scores within 0.005).
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from apps.vision.packed import pack
from apps.vision.recorded import record
from apps.vision.roi_align import GatheredRoIAlign

SPARSE = 8  # input pixels for each output pixel from which on most of them do not count
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
        _gather_pools(network)
        pack(network)
        record(network)
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


class Pointwise(nn.Module):
    """A 1 × 1 convolution as the matrix product that it is.

    For single pictures PyTorch does not give it to oneDNN (``ConvParams::use_mkldnn`` in ATen)
    but unfolds its input first; half of the layers of a MobileNet are such ones.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.product = _linear(conv.weight.flatten(1), conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        rows: Tensor = self.product(x.permute(0, 2, 3, 1))
        return rows.permute(0, 3, 1, 2)


def _multiply_pointwise(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if type(child) is nn.Conv2d and _is_pointwise(child):
                module._modules[name] = Pointwise(child).train(child.training)


def _is_pointwise(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
    return shape == ((1, 1), (1, 1), (0, 0), 1)


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


def _gather_pools(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if isinstance(child, MultiScaleRoIAlign):
                module._modules[name] = GatheredRoIAlign(child)
        if isinstance(module, RoIHeads) and type(module.box_head) is TwoMLPHead:
            module.box_head = ChannelsLastHead(module.box_head, module.box_roi_pool.output_size)


class ChannelsLastHead(TwoMLPHead):
    """A box head that takes what ``GatheredRoIAlign`` gives as it lies in memory.

    Args:
        head: whose layers are taken over, the columns of the first in another order.
        size: height and width of a pooled box.
    """

    def __init__(self, head: TwoMLPHead, size: tuple[int, int]) -> None:
        nn.Module.__init__(self)
        columns = head.fc6.weight.unflatten(1, (-1, *size)).permute(0, 2, 3, 1)
        self.fc6, self.fc7 = _linear(columns.flatten(1), head.fc6.bias), head.fc7

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, height, width) to (N, features)."""
        features: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return features


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """(out, in) and (out,) as a layer that is not trained."""
    with torch.device("meta"):  # its own weights would only be thrown away
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = bias  # type: ignore[assignment]
    return layer.eval()


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
