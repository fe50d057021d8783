"""Recipes of the classifiers that come with Sightbox, and of the larger ones that do not fit.

``flask train list`` shows them.
"""

from dataclasses import dataclass

from apps.errors import N_, NotFound
from apps.vision.train.classifier import ClassifierRecipe
from apps.vision.train.recipes import Optimizer, Schedule
from apps.vision.zoo.classifiers import (
    CATS_DOGS,
    DIGITS,
    FASHION,
    FASHION_INPUT,
    LARGER,
    MNIST_INPUT,
    InputSpec,
    get_classifier,
)


@dataclass(frozen=True, slots=True)
class Shipped:
    """How one of our models is made."""

    folder: str  # below --data
    recipe: ClassifierRecipe
    data: str  # for the card
    labels: tuple[str, ...]  # in the order of its outputs
    dataset: str | None = None  # the same data from torchvision


def _recipe(name: str, given: InputSpec, **values: object) -> ClassifierRecipe:
    return ClassifierRecipe(
        name=name,
        network=name.partition(".")[0],
        channels=given.channels,
        size=given.size,
        resize=given.resize,
        mean=given.mean,
        std=given.std,
        **values,  # type: ignore[arg-type]
    )


_FASHION = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), MIT"
_CATS_DOGS = "Cats and dogs of Kaggle (Asirra), 2,000 photographs each for training and test"


def _larger(name: str, **values: object) -> Shipped:
    """For a GPU: cats and dogs at the size that the paper's network is made for."""
    return Shipped(
        folder="cats-vs-dogs",
        data=_CATS_DOGS,
        labels=CATS_DOGS,
        recipe=_recipe(
            name,
            LARGER[name][2],
            epochs=100,
            batch=64,
            weight_decay=0.05,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            clip=1.0,
            label_smoothing=0.1,
            augment=("resized_crop", "flip", "colour", "erase"),
            **values,
        ),
    )


_ALL = (
    Shipped(
        folder="mnist",
        dataset="MNIST",
        data="MNIST (LeCun, Cortes and Burges), CC BY-SA 3.0",
        labels=DIGITS,
        recipe=_recipe(
            "lenet5.mnist",
            MNIST_INPUT,
            epochs=10,
            batch=128,
            lr=4e-3,
            weight_decay=0.01,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            augment=("affine",),
            alike=8,
            held_out=0.05,
        ),
    ),
    Shipped(
        folder="fashion-mnist",
        dataset="FashionMNIST",
        data=_FASHION,
        labels=FASHION,
        recipe=_recipe(
            "fashion_cnn.fashion_mnist",
            FASHION_INPUT,
            epochs=8,
            batch=128,
            lr=3e-3,
            weight_decay=0.02,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            augment=("shift", "flip"),
            alike=4,
            held_out=0.05,
        ),
    ),
    Shipped(
        folder="fashion-mnist",
        dataset="FashionMNIST",
        data=_FASHION,
        labels=FASHION,
        recipe=_recipe(
            "lenet5.fashion_mnist",
            FASHION_INPUT,
            epochs=12,
            batch=128,
            lr=4e-3,
            weight_decay=0.01,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            augment=("flip",),
            alike=4,
            held_out=0.05,
        ),
    ),
    Shipped(
        folder="cats-vs-dogs",
        data=_CATS_DOGS,
        labels=CATS_DOGS,
        recipe=_recipe(
            "convnet.cats_dogs",
            get_classifier("convnet.cats_dogs").input,
            epochs=24,
            batch=32,
            lr=1e-3,
            weight_decay=0.02,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            clip=1.0,
            augment=("resized_crop", "flip"),
        ),
    ),
    Shipped(
        folder="cats-vs-dogs",
        data=_CATS_DOGS,
        labels=CATS_DOGS,
        recipe=_recipe(
            "resnet18.cats_dogs",
            get_classifier("resnet18.cats_dogs").input,
            epochs=40,
            batch=32,
            lr=2e-3,
            weight_decay=0.05,
            optimizer=Optimizer.ADAMW,
            schedule=Schedule.ONE_CYCLE,
            ema=0.99,
            clip=1.0,
            train_size=72,
            label_smoothing=0.1,
            augment=("resized_crop", "flip", "colour", "erase"),
        ),
    ),
    _larger("alexnet.cats_dogs", lr=3e-4),
    _larger("googlenet.cats_dogs", lr=3e-4),
    _larger("vgg16.cats_dogs", lr=1e-4),
)
SHIPPED = {each.recipe.name: each for each in _ALL}


def get_shipped(name: str) -> Shipped:
    """How the model ``name`` is made.

    Raises:
        NotFound: it does not come with Sightbox.
    """
    if name not in SHIPPED:
        raise NotFound(
            N_("There is no recipe “%(name)s”. Known recipes: %(known)s."),
            name=name,
            known=", ".join(SHIPPED),
        )
    return SHIPPED[name]
