"""The course's networks: as large as published, and of the shapes that their docstrings give."""

from importlib import import_module

import pytest
import torch
from torchvision import models

from apps.vision.zoo import layers
from apps.vision.zoo.transfer import STAGES, transferred_resnet18

COLOUR, GREY = 3, 1
# Parameters with all biases: sums over the tables of the papers. Those of VGG16 and of the
# ResNets are also torchvision's own figures, LeNet-5's is that of its usual form with every map
# of C3 connected, GoogLeNet's those of the model that its authors' group published with Caffe.
PUBLISHED = [
    ("fashion_cnn", "fashion_cnn", 10, (GREY, 28, 28), 1_475_338),
    ("lenet", "lenet5", 10, (GREY, 28, 28), 61_706),
    ("alexnet", "alexnet", 1000, (COLOUR, 227, 227), 62_378_344),
    ("vgg", "vgg16", 1000, (COLOUR, 224, 224), 138_357_544),
    ("googlenet", "googlenet", 1000, (COLOUR, 224, 224), 6_998_552),
    ("resnet", "resnet18", 1000, (COLOUR, 224, 224), 11_689_512),
    ("resnet", "resnet34", 1000, (COLOUR, 224, 224), 21_797_672),
    ("resnet", "resnet50", 1000, (COLOUR, 224, 224), 25_557_032),
    ("resnet", "resnet101", 1000, (COLOUR, 224, 224), 44_549_160),
    ("resnet", "resnet152", 1000, (COLOUR, 224, 224), 60_192_808),
    ("cats_dogs", "convnet", 2, (COLOUR, 150, 150), 3_453_634),
]


def build(module: str, function: str, *args: object, **kwargs: object) -> torch.nn.Module:
    return getattr(import_module(f"apps.vision.zoo.{module}"), function)(*args, **kwargs)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("module", "function", "classes", "shape", "parameters"), PUBLISHED)
def test_a_network_is_as_large_as_published_and_answers_with_a_number_for_each_class(
    module, function, classes, shape, parameters
):
    with torch.device("meta"):  # shapes without values: VGG16 takes half a gigabyte
        network = build(module, function, classes)
        assert count(network) == parameters
        assert network(torch.empty(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(("module", "function", "_classes", "shape", "_parameters"), PUBLISHED)
def test_grey_or_coloured_and_any_number_of_classes(module, function, _classes, shape, _parameters):
    other = {GREY: COLOUR, COLOUR: GREY}[shape[0]]
    with torch.device("meta"):
        network = build(module, function, 7, in_channels=other)
        assert network(torch.empty(2, other, *shape[1:])).shape == (2, 7)


def test_the_shapes_inside_are_those_of_the_papers():
    with torch.device("meta"):
        fashion = build("fashion_cnn", "fashion_cnn", 10)
        assert fashion[:2](torch.empty(1, 1, 28, 28)).shape == (1, 64, 6, 6)
        lenet = build("lenet", "lenet5", 10)
        assert lenet[0](torch.empty(1, 1, 28, 28)).shape == (1, 16, 5, 5)
        alexnet = build("alexnet", "alexnet", 1000)
        assert alexnet[0][0](torch.empty(1, 3, 227, 227)).shape == (1, 96, 55, 55)
        assert alexnet[0](torch.empty(1, 3, 227, 227)).shape == (1, 256, 6, 6)
        google = build("googlenet", "googlenet", 1000)
        assert google.stem(torch.empty(1, 3, 224, 224)).shape == (1, 192, 28, 28)
        assert google.inception3b(torch.empty(1, 256, 28, 28)).shape == (1, 480, 28, 28)
        convnet = build("cats_dogs", "convnet")
        assert convnet[0](torch.empty(1, 3, 150, 150)).shape == (1, 128, 7, 7)


def test_the_side_heads_of_googlenet_answer_in_training_only():
    with torch.device("meta"):
        network = build("googlenet", "googlenet", 10, aux_logits=True)
        pictures = torch.empty(2, 3, 224, 224)
        assert [tuple(out.shape) for out in network(pictures)] == [(2, 10)] * 3
        assert network.eval()(pictures).shape == (2, 10)
        assert count(build("googlenet", "googlenet", 1000, aux_logits=True)) == 13_378_280


@pytest.mark.parametrize("function", ["resnet18", "resnet34", "resnet50"])
def test_a_resnet_answers_as_torchvisions_with_the_same_weights(function):
    torch.manual_seed(0)
    theirs = getattr(models, function)(weights=None, num_classes=5).eval()
    ours = build("resnet", function, 5).eval()
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), theirs(pictures))


def test_the_parameters_of_vgg16_are_called_and_shaped_as_torchvisions():
    with torch.device("meta"):
        theirs = models.vgg16(weights=None, num_classes=5).state_dict()
        ours = build("vgg", "vgg16", 5).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert list(ours) == list(theirs)


def test_torchvisions_googlenet_is_the_other_one_with_batch_norm():
    with torch.device("meta"):
        assert count(models.googlenet(aux_logits=False, init_weights=False)) == 6_624_904


# -- deterministic gradients -----------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_the_response_norm_is_torchs_and_so_is_its_gradient(size, form):
    torch.manual_seed(0)
    maps = (3 * torch.randn(2, 9, 5, 4)).contiguous(memory_format=form).requires_grad_()
    results = []
    for kind in (layers.LocalResponseNorm, torch.nn.LocalResponseNorm):
        out = kind(size, alpha=0.5, beta=0.75, k=2.0)(maps)
        (gradient,) = torch.autograd.grad(out.sin().sum(), maps)
        results.append((out.detach(), gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 9), (1, 3)])
def test_the_pooling_to_a_grid_is_torchs(shape):
    maps = torch.rand(2, 3, *shape)
    theirs = torch.nn.AdaptiveAvgPool2d(7)(maps)
    torch.testing.assert_close(layers.AdaptiveAvgPool2d(7)(maps), theirs, rtol=1e-5, atol=1e-6)


# PyTorch has no deterministic gradient of these on a GPU and refuses a training that asks for it.
REFUSED = {
    "AvgPool3DBackward0", "AdaptiveAvgPool2DBackward0", "MkldnnAdaptiveAvgPool2DBackward0",
    "AdaptiveMaxPool2DBackward0", "MaxPool3DWithIndicesBackward0", "UpsampleBilinear2DBackward0",
}  # fmt: skip


@pytest.mark.parametrize(("module", "function", "_classes", "shape", "_parameters"), PUBLISHED)
def test_every_gradient_has_a_deterministic_form_on_a_gpu(
    module, function, _classes, shape, _parameters
):
    with torch.device("meta"):
        logits = build(module, function, 2)(torch.empty(2, *shape))
    seen, todo = set(), [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    assert not {node.name() for node in seen} & REFUSED


# -- transfer --------------------------------------------------------------------------------


def learns(network: torch.nn.Module) -> set[str]:
    """The top modules with parameters that learn."""
    return {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}


def test_a_transferred_network_keeps_the_backbone_and_gets_a_new_head():
    torch.manual_seed(0)
    old = build("resnet", "resnet18", 1000).state_dict()
    new = transferred_resnet18(3, old).state_dict()
    assert new["fc.weight"].shape == (3, 512)
    assert all(value.equal(new[name]) for name, value in old.items() if "fc." not in name)


def test_only_the_stages_asked_for_learn():
    assert learns(transferred_resnet18(2)) == {"fc"}
    assert learns(transferred_resnet18(2, trainable=2)) == {"fc", "layer4", "layer3"}
    whole = transferred_resnet18(2, trainable=len(STAGES))
    assert all(parameter.requires_grad for parameter in whole.parameters())
    with pytest.raises(ValueError, match="trainable"):
        transferred_resnet18(2, trainable=6)


def test_training_the_head_moves_nothing_else_not_even_the_batch_norms():
    torch.manual_seed(0)
    network = transferred_resnet18(2).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_weights_of_another_network_are_refused():
    with pytest.raises(RuntimeError, match="Missing key"):
        transferred_resnet18(2, build("lenet", "lenet5", 10).state_dict())
