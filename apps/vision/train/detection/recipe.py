"""Recipes of detectors."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from apps.vision.train.recipes import Mode, Optimizer, Recipe, Schedule, between, whole, wrong
from apps.vision.zoo.architectures import LIGHT, SMALL, TINY

COCO, VOC = "coco", "voc"
STRIDE = 32  # the coarsest of the networks; sides of a batch are multiples of it
KEPT = 640  # pixels, longest side: room to zoom in where the network itself sees less


class Sides(NamedTuple):
    """Pixels of :class:`DetectorRecipe`."""

    width: int
    height: int
    keep: int


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe(Recipe):
    """A recipe with what only detectors have.

    Sizes are in pixels. Pictures are scaled to fit into ``width`` x ``height`` and then zoomed;
    what sticks out is cut off, and what is not covered is grey. Where they are not set, they are
    what the network scales to in use, so that objects are as large in training as then.
    """

    builder: str = SMALL  # a key of architectures.BUILDERS
    seen: tuple[int, ...] = ()  # width and height that the network scales to in use; its own
    test: int | None = None  # pictures held out, where the data has no parts; None: a tenth
    val: int | None = None
    split_seed: int = 20  # of what is held out: another training seed measures the same pictures
    width: int | None = None  # of a training batch; None: see above
    height: int | None = None
    keep: int | None = None  # longest side of the pictures that are kept in memory
    sizes: tuple[float, ...] = (1.0,)  # a batch is as large as one of these times width, height
    growing: bool = False  # sizes one after the other, not drawn (Tan and Le 2021)
    zoom: tuple[float, ...] = (0.8, 1.4)  # smallest and largest
    stretch: float = 0.1  # largest change of the aspect ratio: the log of a factor
    mirror: float = 0.5  # part of the pictures that left and right are swapped in
    upside_down: float = 0.0  # part of the pictures that top and bottom are swapped in
    brightness: float = 0.15  # largest shift, of 0..1
    contrast: float = 0.3  # largest change of the factor 1; saturation as well
    saturation: float = 0.4
    grey: float = 0.05  # part of the pictures without colour
    mosaic: float = 0.0  # part of a batch that is four pictures in one (Bochkovskiy et al. 2020)
    calm: float = 0.15  # last part of the training, which has no mosaics
    visible: float = 0.35  # a box of which less is left by cutting is dropped
    positives: float = 0.25  # of the boxes that the head learns from, at most
    regions: int | None = None  # of a picture, that the head learns from; the network's own
    half_backbone: bool = True  # bfloat16 for the backbone where there is a GPU
    half_on_cpu: bool = False  # on a CPU as well: faster where it has instructions for it
    crops: int = 0  # epochs before all others, of the backbone alone, on cut-out objects
    crops_side: int = 64  # pixels of one
    crops_batch: int = 64
    crops_lr: float = 1.5e-3
    rule: str = COCO  # how accuracy is counted: coco or voc, see measure.Accuracy

    monitor: str = "val_ap"
    mode: Mode = Mode.MAX
    optimizer: Optimizer = Optimizer.ADAMW
    schedule: Schedule = Schedule.COSINE
    weight_decay: float = 0.05
    clip: float | None = 5.0
    # RoIAlign's gradient on a GPU adds in any order; torchvision's other way is many times slower.
    deterministic: bool = False

    @property
    def sides(self) -> Sides:
        """Those of :meth:`sized`; raises ValueError before it."""
        if self.width is None or self.height is None or self.keep is None:
            raise ValueError("the recipe has no sizes yet")
        return Sides(self.width, self.height, self.keep)

    def sized(self, short: int, long: int) -> Self:
        """With the sizes that are not set, for a network that scales pictures to ``short`` pixels
        on the short side, at most ``long`` on the long one."""
        own = Sides(whole_strides(long), whole_strides(short), max(KEPT, long))
        missing = {k: v for k, v in own._asdict().items() if getattr(self, k) is None}
        return replace(self, **missing)

    def half(self, device: str) -> bool:
        """Whether the backbone computes in bfloat16 on a device of this type."""
        return {"cuda": self.half_backbone, "cpu": self.half_on_cpu}.get(device, False)

    def _check(self) -> None:
        super()._check()
        for name in ("width", "height", "keep", "crops_side"):
            if getattr(self, name) is not None and getattr(self, name) < STRIDE:
                raise wrong(name, getattr(self, name), f"a whole number from {STRIDE}")
        for name in ("mirror", "upside_down", "grey", "mosaic", "calm", "visible", "positives"):
            if not 0 <= getattr(self, name) <= 1:
                raise wrong(name, getattr(self, name), "a number from 0 to 1")
        for name in ("brightness", "contrast", "saturation", "stretch"):
            if not 0 <= getattr(self, name) < 1:
                raise wrong(name, getattr(self, name), "a number from 0 to below 1")
        if len(self.zoom) != 2 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise wrong("zoom", self.zoom, "two numbers above 0, the smaller first")
        if self.seen and (len(self.seen) != 2 or min(self.seen) < 32):
            raise wrong("seen", self.seen, "a width and a height from 32")
        whole(self, "test", "val", "crops", least=0)
        whole(self, "regions", "crops_batch")
        between(self, 0, math.inf, "crops_lr")
        if not self.sizes or min(self.sizes) <= 0:
            raise wrong("sizes", self.sizes, "numbers above 0")
        if self.rule not in (COCO, VOC):
            raise wrong("rule", self.rule, "coco or voc")


def whole_strides(side: float) -> int:
    """``side`` rounded to strides, and at least one."""
    return max(STRIDE, round(side / STRIDE) * STRIDE)


BLOOD_CELLS = DetectorRecipe(
    name="blood-cells",
    width=320,
    height=256,
    keep=640,
    epochs=32,
    batch=4,
    lr=1e-3,
    warmup=100,
    ema=0.997,
    zoom=(0.85, 1.5),
    stretch=0.12,
    upside_down=0.5,
    positives=0.5,
    validate_every=2,
)

# One device and its memory are all that it needs: 3.5 GB for the pictures as uint8.
EVERYDAY = DetectorRecipe(
    name="everyday",
    builder=LIGHT,
    rule=VOC,
    test=1000,
    val=400,
    monitor="val_ap50",
    epochs=None,
    minutes=60,
    batch=64,
    lr=1.5e-3,
    warmup=300,
    ema=0.9995,
    keep=320,
    width=320,
    height=320,
    sizes=(0.8, 0.9, 1.0, 1.1, 1.2),
    zoom=(0.45, 2.0),
    stretch=0.36,
    saturation=0.5,
    contrast=0.35,
    grey=0.07,
    mosaic=0.35,
    visible=0.3,
    clip=10.0,
    validate_every=5,
)

# What two cores of a CPU can do in two hours: small pictures, the cheapest ones first, and a
# backbone that has met the objects before it has to find them.
EVERYDAY_CPU = replace(
    EVERYDAY,
    builder=TINY,
    minutes=80,
    batch=16,
    lr=7e-4,
    warmup=200,
    ema=0.998,
    keep=256,
    width=160,
    height=160,
    sizes=(0.8, 1.0, 1.2),
    growing=True,
    zoom=(0.8, 1.6),
    stretch=0.2,
    mosaic=0.0,
    regions=48,
    positives=0.33,
    half_on_cpu=True,
    crops=8,
    validate_every=3,
)

RECIPES = {"blood_cells": BLOOD_CELLS, "everyday": EVERYDAY, "everyday_cpu": EVERYDAY_CPU}
