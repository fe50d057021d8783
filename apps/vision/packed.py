"""Layers whose weights lie in memory as the kernels of oneDNN read them.

PyTorch keeps weights in its own layout, which oneDNN sorts anew in every call: a quarter of a
ResNet's time for one small picture. The operators that take sorted weights are those that PyTorch's
own compiler emits (``torch._inductor.fx_passes.mkldnn_fusion``). They are not public, so every
layer is compared with the one that it replaces, which stays where they differ.
"""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

LARGE = 2**18  # weights of a linear layer; for smaller ones oneDNN's threads cost more than they do


class PackedConv(nn.Module):
    """A convolution of a CPU; its weights cannot be read any more.

    Args:
        conv: float32, with zeros as padding.
    """

    weight: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        sizes = (conv.padding, conv.stride, conv.dilation)
        self.padding, self.stride, self.dilation = (list(size) for size in sizes)
        self.groups = conv.groups
        self.bias = conv.bias
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
            conv.weight.detach().to_mkldnn(), self.padding, self.stride, self.dilation, self.groups
        )
        self.register_buffer("weight", packed)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, h, w), channels last."""
        shape = (self.padding, self.stride, self.dilation, self.groups)
        product: Tensor = _operators()[0](x, self.weight, self.bias, *shape)
        return product


class PackedLinear(nn.Module):
    """A linear layer of a CPU; its weights cannot be read any more.

    Args:
        linear: float32.
    """

    weight: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        weight = linear.weight.detach()
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        product: Tensor = _operators()[1](x, self.weight, self.bias)
        return product


@cache
def _operators() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The operators of both layers; scripted, because a recording cannot spell their arguments."""

    def convolve(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: list[int],
        stride: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        nothing: list[complex | float | int | None] = []
        product: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, padding, stride, dilation, groups, "none", nothing, ""
        )
        return product

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        nothing: list[complex | float | int | None] = []
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", nothing, "")
        return product

    with warnings.catch_warnings():  # deprecated since 2.12, as torch.jit.trace is
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return torch.jit.script(convolve), torch.jit.script(multiply)


@torch.no_grad()
def pack(network: nn.Module) -> None:
    """Replace what gains by it: convolutions of more than one pixel, and large linear layers."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return
    try:
        _operators()
    except Exception as error:  # a PyTorch that has them no more, or no source text to script
        logger.warning("no layers packed, reason: %s", _reason(error))
        return
    left: list[str] = []
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None and (found := _kind(child)):
                module._modules[name] = _packed(child, *found, left)
    if left:
        logger.warning("layers not packed: %d, the first: %s", len(left), left[0])


def _kind(layer: nn.Module) -> tuple[Callable[[Any], nn.Module], Tensor] | None:
    """What ``layer`` should become, if that pays, and something that it may be given."""
    if type(layer) is nn.Linear and layer.weight.numel() >= LARGE and _multiplies_fast():
        return PackedLinear, torch.rand(3, layer.in_features)
    if type(layer) is nn.Conv2d and _is_full(layer):
        side = max(d * (k - 1) + 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        example = torch.rand(1, layer.in_channels, side, side)
        return PackedConv, example.contiguous(memory_format=torch.channels_last)
    return None


def _is_full(conv: nn.Conv2d) -> bool:
    area = conv.kernel_size[0] * conv.kernel_size[1]
    padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return conv.groups == 1 and area > 1 and padded


def _multiplies_fast() -> bool:
    """Where PyTorch's compiler leaves matrix products to oneDNN too."""
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return True
    with_acl = getattr(torch.ops.mkldnn, "_is_mkldnn_acl_supported", None)
    return with_acl is not None and bool(with_acl())


def _packed(
    layer: nn.Module, kind: Callable[[Any], nn.Module], example: Tensor, left: list[str]
) -> nn.Module:
    """``layer`` packed, if that says the same of ``example``; else as it is, and in ``left``."""
    try:
        candidate = kind(layer)
        if torch.allclose(candidate(example), layer(example), rtol=1e-4, atol=1e-4):
            return candidate.train(layer.training)
        reason = "other values"
    except Exception as error:  # of a kind that differs between versions
        reason = _reason(error)
    left.append(f"{layer}: {reason}")
    return layer


def _reason(error: Exception) -> str:
    """The last line: the first ones of an error in a script only say that there was one."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
