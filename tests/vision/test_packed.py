"""Layers with packed weights: the values of the layers that they replace."""

import pytest
import torch
from torch import nn

from apps.vision import packed
from apps.vision.packed import PackedConv, PackedLinear, pack
from apps.vision.recorded import Recorded

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def conv(**options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    settings = {"kernel_size": 3, "padding": 1} | options
    return nn.Conv2d(8, 16, **settings)  # type: ignore[arg-type]


def packed_one(layer: nn.Module) -> nn.Module:
    """What ``pack`` makes of ``layer``."""
    network = nn.Sequential(layer).eval()
    pack(network)
    return network[0]


@needs_onednn
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"bias": False},
        {"kernel_size": (1, 7), "padding": (0, 3)},
    ],
)
@pytest.mark.parametrize("shape", [(1, 8, 12, 20), (3, 8, 31, 7), (1, 8, 1, 7)])
@torch.inference_mode()
def test_a_packed_convolution_says_what_the_convolution_says_at_any_size(options, shape):
    layer = conv(**options)
    found = packed_one(layer)
    assert isinstance(found, PackedConv)
    x = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found(x), layer(x), rtol=1e-4, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 512), (150, 512), (2, 3, 512)])
@torch.inference_mode()
def test_a_packed_linear_layer_says_what_the_linear_layer_says(shape):
    layer = nn.Linear(512, 512)
    found = packed_one(layer)
    assert isinstance(found, PackedLinear)
    x = torch.rand(shape)
    torch.testing.assert_close(found(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        conv(groups=8),
        conv(kernel_size=1, padding=0),
        conv(padding_mode="reflect"),
        conv(padding="same"),
        nn.Linear(64, 64),
        nn.ConvTranspose2d(8, 8, 3),
    ],
    ids=str,
)
def test_what_gains_nothing_stays(layer):
    assert packed_one(layer) is layer


@needs_onednn
@torch.inference_mode()
def test_packed_layers_can_be_recorded():
    network = nn.Sequential(conv(), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    x = torch.rand(1, 8, 16, 16).contiguous(memory_format=torch.channels_last)
    wanted = network(x)
    pack(network)
    torch.testing.assert_close(Recorded(network, x)(x), wanted, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_without_the_operators_every_layer_stays_and_the_log_says_so_once(monkeypatch, caplog):
    def gone() -> None:
        raise OSError("could not get source code")

    monkeypatch.setattr(packed, "_operators", gone)
    network = nn.Sequential(conv(), nn.Linear(512, 512))
    layers = list(network)
    pack(network)
    assert list(network) == layers
    [line] = caplog.messages
    assert line == "no layers packed, reason: could not get source code"


@needs_onednn
def test_layers_that_would_say_something_else_or_fail_stay(monkeypatch, caplog):
    def other(*_: object) -> torch.Tensor:
        return torch.zeros(1)

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("The following operation failed:\n...\nRuntimeError: no memory\n")

    monkeypatch.setattr(packed, "_operators", lambda: (other, failing))
    network = nn.Sequential(conv(), nn.Linear(512, 512))
    layers = list(network)
    pack(network)
    assert list(network) == layers
    [line] = caplog.messages
    assert "layers not packed: 2" in line
    assert "other values" in line
    caplog.clear()
    packed_one(nn.Linear(512, 512))
    assert caplog.messages[0].endswith(": RuntimeError: no memory")


@pytest.mark.parametrize(("name", "value"), [("is_available", lambda: False), ("enabled", False)])
def test_without_onednn_nothing_is_packed(name, value, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, name, value)
    layer = conv()
    assert packed_one(layer) is layer


@needs_onednn
def test_linear_layers_stay_where_pytorch_itself_would_not_use_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    layer = nn.Linear(512, 512)
    assert packed_one(layer) is layer  # on a processor that is no ARM


@needs_onednn
def test_a_wide_convolution_is_packed_too():
    assert isinstance(packed_one(conv(dilation=4, padding=0)), PackedConv)
