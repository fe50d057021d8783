"""Which classifiers exist, where their weights are and what people should know about them.

Importing this module does not import torch. What is measured of a network that was trained here
(checksum, size, accuracy) is in the card that training writes beside its weights.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.errors import N_, NotFound
from apps.vision.zoo import imagenet
from apps.vision.zoo.registry import EMBEDDED
from apps.vision.zoo.store import WeightsFile

if TYPE_CHECKING:
    from torch import nn

NO_DIGEST = "-"  # of weights without a card; no file has it, so none is taken for the right one

FASHION = (
    N_("T-shirt/top"),
    N_("Trouser"),
    N_("Pullover"),
    N_("Dress"),
    N_("Coat"),
    N_("Sandal"),
    N_("Shirt"),
    N_("Sneaker"),
    N_("Bag"),
    N_("Ankle boot"),
)
DIGITS = tuple("0123456789")
CATS_DOGS = (N_("cat"), N_("dog"))


class Fit(StrEnum):
    """How a picture of any shape gets the square shape of a network's input."""

    CROP = "crop"  # the middle square
    TRIM = "trim"  # the thing alone, its longest side as long as the square: as Fashion-MNIST
    DIGIT = "digit"  # the thing in 20 x 20 of 28 x 28, its centre of mass in the middle: as MNIST


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network wants to see."""

    channels: int  # 1: grey, 3: RGB
    size: int  # pixels of both sides
    mean: tuple[float, ...]  # of each channel, taken from values in 0..1 …
    std: tuple[float, ...]  # … which are then divided by this
    light_on_dark: bool = False  # it learned light things on black ground
    fit: Fit = Fit.CROP
    resize: int | None = None  # for CROP: pixels of the shorter side of which ``size`` are kept


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Share of the test pictures of one class that were recognized, 0..1."""

    label: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class ClassifierCard:
    """What the application says about a classifier, in English message ids."""

    title: str
    summary: str
    use: str
    limits: tuple[str, ...]
    data: str
    split: str
    accuracy: float | None  # share of all test pictures, 0..1; None: not measured
    per_class: tuple[ClassAccuracy, ...]
    parameters: int | None  # None: not known before it is trained
    licence: str
    source: str = ""  # where the weights and their recipe are described


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """Everything needed to build a classifier, load it and explain it."""

    name: str  # "architecture.data"
    architecture: str
    builder: str  # "module:function"
    labels: tuple[str, ...]  # in the order of its outputs
    weights: WeightsFile
    input: InputSpec
    card: ClassifierCard
    torchvision: str | None = None  # name of torchvision's weights, if they are its own
    drawing: bool = False  # people may draw what it is to recognize

    def function(self) -> "Callable[..., nn.Module]":
        """The builder itself; imports torch."""
        module, _, name = self.builder.partition(":")
        function: Callable[..., nn.Module] = getattr(import_module(module), name)
        return function

    def build(self) -> "nn.Module":
        """The network with random weights."""
        if self.torchvision is None:
            return self.function()(len(self.labels), in_channels=self.input.channels)
        options: dict[str, Any] = {"weights": None, "num_classes": len(self.labels)}
        if self.architecture == "googlenet":  # its side heads are for training only
            options |= {"aux_logits": False, "init_weights": False}
        return self.function()(**options)


MNIST_INPUT = InputSpec(1, 28, (0.1307,), (0.3081,), light_on_dark=True, fit=Fit.DIGIT)
FASHION_INPUT = InputSpec(1, 28, (0.2860,), (0.3530,), light_on_dark=True, fit=Fit.TRIM)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OWN_LICENCE = N_("Weights: Apache-2.0, as this application.")


def _trained(
    name: str,
    builder: str,
    labels: tuple[str, ...],
    given: InputSpec,
    *,
    folder: Path = EMBEDDED,
    **texts: Any,
) -> ClassifierSpec:
    """A classifier that was trained here: with what its card says, or without where it has none.

    Args:
        folder: of weights and card.
        texts: fields of the card that training does not know.
    """
    measured = read_card(name, folder)
    architecture = name.partition(".")[0]
    return ClassifierSpec(
        name=name,
        architecture=architecture,
        builder=f"apps.vision.zoo.{builder}:{architecture}",
        labels=labels,
        weights=WeightsFile(
            f"{name}.safetensors",
            measured.get("sha256", NO_DIGEST),
            measured.get("size", 0),
            folder=folder,
        ),
        input=given,
        drawing=texts.pop("drawing", False),
        card=ClassifierCard(
            accuracy=measured.get("accuracy"),
            per_class=tuple(ClassAccuracy(*row) for row in measured.get("per_class", {}).items()),
            parameters=measured.get("parameters"),
            licence=OWN_LICENCE,
            **texts,
        ),
    )


def read_card(name: str, folder: Path = EMBEDDED) -> dict[str, Any]:
    """The card that training wrote for ``name``; empty where the network was not trained yet.

    Keys: name, architecture, file, sha256, size (bytes), parameters, labels, accuracy (0..1 on
    the test split), per_class ({label: 0..1}), data, split, recipe, trained.
    """
    try:
        card: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return card


_FASHION_TEXTS: dict[str, Any] = {
    "summary": N_("Tells ten kinds of clothes, shoes and bags apart."),
    "use": N_("One piece of clothing, photographed from the front on a plain ground."),
    "limits": (
        N_("Anything else is called one of the ten kinds too, often with a high probability."),
        N_("It sees 28 × 28 grey pixels: colours, patterns and small parts are lost."),
        N_("Shirts, T-shirts, pullovers and coats are taken for each other most often."),
    ),
    "data": N_("Fashion-MNIST: 70,000 pictures of Zalando's articles, 28 × 28, MIT licence."),
    "split": N_("Trained on 60,000 pictures; measured on the 10,000 of the test split."),
    "source": "https://github.com/zalandoresearch/fashion-mnist",
}
_CATS_DOGS_TEXTS: dict[str, Any] = {
    "summary": N_("Tells photographs of cats and of dogs apart."),
    "use": N_("Photographs of one cat or one dog that fills most of the picture."),
    "limits": (
        N_("Anything else is called a cat or a dog too."),
        N_("It learned from 2,000 photographs alone, beginning with random weights."),
    ),
    "data": N_("2,000 photographs of cats and dogs for training (Kaggle, Asirra)."),
    "split": N_("Measured on 2,000 other photographs, half of them cats."),
    "source": "https://www.kaggle.com/c/dogs-vs-cats",
}

_OWN = (
    _trained(
        "fashion_cnn.fashion_mnist",
        "fashion_cnn",
        FASHION,
        FASHION_INPUT,
        title="FashionCNN",
        **_FASHION_TEXTS,
    ),
    _trained(
        "lenet5.mnist",
        "lenet",
        DIGITS,
        MNIST_INPUT,
        title="LeNet-5",
        summary=N_("Reads one digit that was written by hand."),
        use=N_("One digit from 0 to 9, dark on light paper, or drawn here."),
        limits=(
            N_("Letters, or several digits at once, are called one digit too."),
            N_("Digits that touch the edge of the picture, or lie on lined paper, mislead it."),
        ),
        data=N_("MNIST: 70,000 digits written by hand, 28 × 28, CC BY-SA 3.0."),
        split=N_("Trained on 60,000 pictures; measured on the 10,000 of the test split."),
        source="http://yann.lecun.com/exdb/mnist/",
        drawing=True,
    ),
    _trained(
        "lenet5.fashion_mnist",
        "lenet",
        FASHION,
        FASHION_INPUT,
        title="LeNet-5",
        **_FASHION_TEXTS,
    ),
    _trained(
        "resnet18.cats_dogs",
        "resnet",
        CATS_DOGS,
        InputSpec(3, 96, IMAGENET_MEAN, IMAGENET_STD, resize=104),
        title="ResNet-18",
        **_CATS_DOGS_TEXTS,
    ),
    _trained(
        "convnet.cats_dogs",
        "cats_dogs",
        CATS_DOGS,
        InputSpec(3, 150, IMAGENET_MEAN, IMAGENET_STD, resize=150),
        title=N_("Small convnet"),
        **_CATS_DOGS_TEXTS,
    ),
)

# Name: module, title and input. Too large to come with Sightbox, and long in training without a
# GPU: they are there once somebody has made them.
LARGER = {
    "alexnet.cats_dogs": (
        "alexnet",
        "AlexNet",
        InputSpec(3, 227, IMAGENET_MEAN, IMAGENET_STD, resize=256),
    ),
    "googlenet.cats_dogs": (
        "googlenet",
        "GoogLeNet",
        InputSpec(3, 224, IMAGENET_MEAN, IMAGENET_STD, resize=256),
    ),
    "vgg16.cats_dogs": (
        "vgg",
        "VGG16",
        InputSpec(3, 224, IMAGENET_MEAN, IMAGENET_STD, resize=256),
    ),
}


def larger(folder: Path = EMBEDDED) -> tuple[ClassifierSpec, ...]:
    """Those of :data:`LARGER` whose card and weights are in ``folder``."""
    return tuple(
        _trained(name, builder, CATS_DOGS, given, folder=folder, title=title, **_CATS_DOGS_TEXTS)
        for name, (builder, title, given) in LARGER.items()
        if read_card(name, folder) and (folder / f"{name}.safetensors").is_file()
    )


def _imagenet(entry: dict[str, Any], labels: tuple[str, ...]) -> ClassifierSpec:
    """A classifier of torchvision with its ImageNet weights, from its entry in the catalogue."""
    given = entry["input"]
    return ClassifierSpec(
        name=entry["name"],
        architecture=entry["architecture"],
        builder=f"torchvision.models:{entry['architecture']}",
        labels=labels,
        weights=WeightsFile(
            name=entry["file"], sha256=entry["sha256"], size=entry["size"], url=entry["url"]
        ),
        input=InputSpec(
            3, given["size"], tuple(given["mean"]), tuple(given["std"]), resize=given["resize"]
        ),
        card=ClassifierCard(
            title=entry["architecture"],
            summary=N_("Knows 1,000 kinds of animals, plants, things and places."),
            use=N_("Ordinary photographs with one thing in the middle."),
            limits=(
                N_("It knows the 1,000 classes of ImageNet and nothing else; people are not one."),
                N_("It sees the middle square of a picture only."),
            ),
            data=N_("ImageNet (ILSVRC 2012): 1,281,167 photographs in 1,000 classes."),
            split=N_("Measured by its publisher on the 50,000 photographs for validation."),
            accuracy=round(entry["accuracy"] / 100, 5),
            per_class=(),
            parameters=entry["parameters"],
            licence=N_(
                "Weights: BSD-3-Clause (torchvision). Photographs of ImageNet: for research only."
            ),
            source=entry["recipe"],
        ),
        torchvision=entry["weights"],
    )


def _published() -> tuple[ClassifierSpec, ...]:
    found = imagenet.read()
    labels = tuple(found["labels"])
    return tuple(_imagenet(entry, labels) for entry in found["models"])


_specs = {spec.name: spec for spec in (*_OWN, *larger(), *_published())}


def classifiers() -> tuple[ClassifierSpec, ...]:
    """Every registered classifier, in the order of registration."""
    return tuple(_specs.values())


def is_classifier(name: str) -> bool:
    """Whether a classifier is called ``name``."""
    return name in _specs


def get_classifier(name: str) -> ClassifierSpec:
    """The registered classifier called ``name``.

    Raises:
        NotFound: no such model.
    """
    if name not in _specs:
        raise NotFound(
            N_("There is no model “%(name)s”. Known models: %(known)s."),
            name=name,
            known=", ".join(_specs),
        )
    return _specs[name]
