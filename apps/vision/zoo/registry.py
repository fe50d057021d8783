"""Which detectors exist, where their weights are and what people should know about them.

Importing this module does not import torch: a builder is named by its address and loaded on use.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.errors import N_, NotFound
from apps.vision.zoo import catalogue
from apps.vision.zoo.architectures import BUILDERS, SMALL, Origin
from apps.vision.zoo.store import WeightsFile

if TYPE_CHECKING:
    from torch import nn

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Average precision of one class, 0..1."""

    label: str
    ap: float  # mean over IoU 0.50 to 0.95
    ap50: float  # at IoU 0.50
    note: str  # English message id


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the application says about a model, in English message ids or an administrator's words.

    Show these texts with ``stored_text``: they may come from a person. An empty one is not known.
    """

    title: str
    summary: str
    use: str
    limits: tuple[str, ...]
    data: str
    split: str
    ap: float | None  # box AP, mean over IoU 0.50 to 0.95, 0..1; None: not measured
    parameters: int
    licence: str
    ap50: float | None = None  # at IoU 0.50, 0..1; None: not published
    per_class: tuple[ClassScore, ...] = ()
    source: str = ""  # where the weights and their recipe are described
    # Pictures a second / those of fasterrcnn_mobilenet_v3_large_320_fpn on the same CPU.
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """How a model of somebody's own came here."""

    architecture: str  # a key of architectures.BUILDERS
    origin: Origin
    at: datetime  # with its time zone
    by: str  # user name, or empty for the command line
    file: str  # name of the file that was given


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """Everything needed to build a detector, load it and explain it."""

    name: str  # "architecture.weights"
    builder: str  # "module:function"; see build() and weights.load_detector()
    classes: tuple[str | None, ...]  # label 1, 2, ...; 0 is the background, None is never shown
    weights: WeightsFile
    card: ModelCard
    torchvision: str | None = None  # name of torchvision's weights, "COCO_V1", if they are its own
    added: Added | None = None  # its weights are an administrator's own
    seen: tuple[int, int] | None = None  # width and height that it scales to, if not the builder's

    @property
    def labels(self) -> tuple[str, ...]:
        """What this detector can find."""
        return tuple(label for label in self.classes if label is not None)

    def function(self) -> "Callable[..., nn.Module]":
        """The builder itself; imports torch."""
        module, _, name = self.builder.partition(":")
        function: Callable[..., nn.Module] = getattr(import_module(module), name)
        return function

    def build(self) -> "nn.Module":
        """The network with random weights."""
        if self.added is not None:
            from apps.vision.zoo.networks import build

            return build(self.added.architecture, len(self.classes) + 1, self.added.origin)
        if self.torchvision is None:
            from apps.vision.zoo.networks import see

            return see(self.function()(len(self.classes)), self.seen)
        return self.function()(
            weights=None, weights_backbone=None, num_classes=len(self.classes) + 1
        )


BLOOD_CELLS_NOTES = {
    "RBC": N_("red blood cell"),
    "WBC": N_("white blood cell"),
    "Platelets": N_("platelets"),
}


EVERYDAY_NOTES = {
    "aeroplane": N_("aeroplane"),
    "bicycle": N_("bicycle"),
    "bird": N_("bird"),
    "boat": N_("boat"),
    "bottle": N_("bottle"),
    "bus": N_("bus"),
    "car": N_("car"),
    "cat": N_("cat"),
    "chair": N_("chair"),
    "cow": N_("cow"),
    "diningtable": N_("dining table"),
    "dog": N_("dog"),
    "horse": N_("horse"),
    "motorbike": N_("motorbike"),
    "person": N_("person"),
    "pottedplant": N_("potted plant"),
    "sheep": N_("sheep"),
    "sofa": N_("sofa"),
    "train": N_("train"),
    "tvmonitor": N_("television or monitor"),
}


def read_card(name: str, folder: Path = EMBEDDED) -> dict[str, Any]:
    """The card that training wrote beside the embedded weights ``name``; empty if it has none.

    Keys: architecture, file, sha256, size (bytes), parameters, labels, seen (width and height, or
    nothing), ap and ap50 (0..1, on the test part), per_class ({label: {ap, ap50, boxes}}), split
    ({part: pictures}), recipe, trained; speed, which benchmarks.speed measures.
    """
    try:
        card: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return card


def _trained(
    name: str, card: dict[str, Any], notes: Mapping[str, str], **texts: Any
) -> DetectorSpec:
    """A detector that was trained here; ``card`` has what was measured, ``texts`` the rest.

    Args:
        notes: what to say of a class, by label.
    """
    return DetectorSpec(
        name=name,
        builder=BUILDERS[card["architecture"]],
        classes=tuple(card["labels"]),
        weights=WeightsFile(card["file"], card["sha256"], card["size"], folder=EMBEDDED),
        seen=(card["seen"][0], card["seen"][1]) if card["seen"] else None,
        card=ModelCard(
            ap=card["ap"],
            ap50=card["ap50"],
            per_class=tuple(
                ClassScore(label, score["ap"], score["ap50"], notes.get(label, ""))
                for label, score in card["per_class"].items()
            ),
            parameters=card["parameters"],
            speed=card.get("speed"),
            **texts,
        ),
    )


BLOOD_CELLS = _trained(
    f"{SMALL}.blood_cells",
    read_card("blood-cells"),
    BLOOD_CELLS_NOTES,
    title=N_("Blood cells"),
    summary=N_("Finds red cells, white cells and platelets in photographs of blood smears."),
    use=N_("Microscope photographs of stained blood smears, about 640 × 480 pixels."),
    limits=(
        N_("Photographs of anything else give nothing, or nonsense."),
        N_("Red cells that overlap or crowd together are missed."),
        N_("It is not made for diagnosis."),
    ),
    data=N_("BCCD: 364 microscope photographs with 4,886 boxes, MIT licence."),
    split=N_(
        "Trained on the 205 photographs of train, its checkpoint chosen by the 87 of val; "
        "measured on the 72 of test."
    ),
    licence=N_("Weights: Apache-2.0, as this application. Training photographs: MIT."),
)


def everyday(card: dict[str, Any]) -> DetectorSpec | None:
    """The detector of everyday things, if it has been trained: if it has a ``card``."""
    if not card:
        return None
    return _trained(
        f"{card['architecture']}.everyday",
        card,
        EVERYDAY_NOTES,
        title=N_("Everyday things"),
        summary=N_("Finds 20 everyday things: people, animals, vehicles and furniture."),
        use=N_("Ordinary photographs, of any size."),
        limits=(
            N_("It knows the 20 classes of Pascal VOC and nothing else."),
            N_("It sees a small copy of each picture: small things and crowds are missed."),
            N_("It is often unsure, and torchvision's detectors are far better."),
        ),
        data=N_("11,432 photographs of Pascal VOC and COCO with 39,544 boxes."),
        split=N_(
            "Our own split: measured on 1,000 photographs that were held out, boxes marked as "
            "difficult ignored."
        ),
        licence=N_("Weights: Apache-2.0, as this application. Photographs: several licences."),
    )


EVERYDAY = everyday(read_card("everyday"))


def _coco(entry: dict[str, Any]) -> DetectorSpec:
    """A detector of torchvision with its COCO weights, from its entry in the catalogue."""
    return DetectorSpec(
        name=entry["name"],
        builder=f"torchvision.models.detection:{entry['architecture']}",
        classes=tuple(entry["classes"]),
        weights=WeightsFile(
            name=entry["file"], sha256=entry["sha256"], size=entry["size"], url=entry["url"]
        ),
        card=ModelCard(
            title=entry["architecture"],
            summary=N_("Finds 80 everyday things: people, animals, vehicles, food, furniture …"),
            use=N_("Ordinary photographs, of any size."),
            limits=(
                N_("It knows the 80 classes of COCO and nothing else."),
                N_("Very small things and large crowds are missed."),
            ),
            data=N_("COCO 2017: 118,287 photographs of everyday scenes."),
            split=N_("Measured by its publisher on the 5,000 photographs of COCO val2017."),
            ap=round(entry["box_map"] / 100, 3),
            parameters=entry["parameters"],
            licence=N_("Weights: BSD-3-Clause (torchvision). Annotations of COCO: CC BY 4.0."),
            source=entry["recipe"],
        ),
        torchvision=entry["weights"],
    )


_embedded = (BLOOD_CELLS,) if EVERYDAY is None else (EVERYDAY, BLOOD_CELLS)
_specs: dict[str, DetectorSpec] = {
    spec.name: spec for spec in (*_embedded, *map(_coco, catalogue.read()))
}

EMBEDDED_DEFAULT = _embedded[0]
# What "auto" prefers, when the weights are there.
BEST_ON_GPU = _specs["fasterrcnn_resnet50_fpn_v2.coco_v1"]
BEST_ON_CPU = _specs["fasterrcnn_mobilenet_v3_large_320_fpn.coco_v1"]


def detectors() -> tuple[DetectorSpec, ...]:
    """Every registered detector, in the order of registration."""
    return tuple(_specs.values())


def get_detector(name: str) -> DetectorSpec:
    """The registered detector called ``name``.

    Raises:
        NotFound: no such model.
    """
    return Registry().get(name)


class Registry:
    """The registered detectors, and others that come and go while the application runs.

    Args:
        more: the others by name, asked each time; a registered name is never replaced.
    """

    def __init__(self, more: Callable[[], Mapping[str, DetectorSpec]] = dict) -> None:
        self._more = more

    def detectors(self) -> tuple[DetectorSpec, ...]:
        """Every detector, the registered ones first."""
        return tuple(self._all().values())

    def is_known(self, name: str) -> bool:
        """Whether a detector is called ``name``."""
        return name in _specs or name in self._more()

    def get(self, name: str) -> DetectorSpec:
        """The detector called ``name``.

        Raises:
            NotFound: no such model.
        """
        found = _specs.get(name) or self._more().get(name)
        if found is None:
            raise NotFound(
                N_("There is no model “%(name)s”. Known models: %(known)s."),
                name=name,
                known=", ".join(self._all()),
            )
        return found

    def _all(self) -> dict[str, DetectorSpec]:
        return _specs | {k: spec for k, spec in self._more().items() if k not in _specs}
