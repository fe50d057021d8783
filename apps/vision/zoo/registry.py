"""Which detectors exist, where their weights are and what people should know about them.

Importing this module does not import torch: a builder is named by its address and loaded on use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from apps.errors import N_, NotFound

if TYPE_CHECKING:
    from torch import nn

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """COCO average precision of one class (mean over IoU 0.50 to 0.95), 0..1."""

    label: str
    ap: float
    note: str  # English message id


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the application says about a model, in English message ids."""

    title: str
    summary: str
    use: str
    limits: tuple[str, ...]
    data: str
    split: str
    ap50: float  # at IoU 0.50, 0..1
    ap: float  # COCO definition, 0..1
    per_class: tuple[ClassScore, ...]
    parameters: int
    licence: str


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """Everything needed to build a detector, load it and explain it."""

    name: str  # "architecture.weights"
    builder: str  # "module:function", called with the number of classes without background
    classes: tuple[str, ...]  # label 1, 2, ...; 0 is the background
    weights: Path  # safetensors
    sha256: str
    card: ModelCard

    def build(self) -> "nn.Module":
        """The network with random weights."""
        module, _, function = self.builder.partition(":")
        builder: Callable[[int], nn.Module] = getattr(import_module(module), function)
        return builder(len(self.classes))


BLOOD_CELLS = DetectorSpec(
    name="fasterrcnn_mobilenet_v3_large_fpn128.blood_cells",
    builder="apps.vision.zoo.mobilenet_fpn:fasterrcnn_mobilenet_v3_large_fpn128",
    classes=("RBC", "WBC", "Platelets"),
    weights=EMBEDDED / "blood-cells.safetensors",
    sha256="9d40e6ca4143278bb2eb5d057f1a14d5bc9c497750671914a87adc843bcc00ce",
    card=ModelCard(
        title=N_("Blood cells"),
        summary=N_("Finds red cells, white cells and platelets in photographs of blood smears."),
        use=N_("Microscope photographs of stained blood smears, about 640 × 480 pixels."),
        limits=(
            N_("Photographs of anything else give nothing, or nonsense."),
            N_("Red cells that overlap or crowd together are missed."),
            N_("It is not made for diagnosis."),
            N_(
                "Its checkpoint was chosen by its score on the test split, so these figures are "
                "slightly too good."
            ),
        ),
        data=N_("BCCD: 364 microscope photographs with 4,886 boxes, MIT licence."),
        split=N_("Trained on the 292 photographs of train and val; measured on the 72 of test."),
        ap50=0.882,
        ap=0.562,
        per_class=(
            ClassScore("RBC", 0.505, N_("red blood cell")),
            ClassScore("WBC", 0.735, N_("white blood cell")),
            ClassScore("Platelets", 0.447, N_("platelets")),
        ),
        parameters=7_200_000,
        licence=N_("Weights: Apache-2.0, as this application. Training photographs: MIT."),
    ),
)

_specs = {spec.name: spec for spec in (BLOOD_CELLS,)}


def detectors() -> tuple[DetectorSpec, ...]:
    """Every registered detector, in the order of registration."""
    return tuple(_specs.values())


def get_detector(name: str) -> DetectorSpec:
    """The detector called ``name``.

    Raises:
        NotFound: no such model.
    """
    try:
        return _specs[name]
    except KeyError:
        raise NotFound(
            N_("There is no model “%(name)s”. Known models: %(known)s."),
            name=name,
            known=", ".join(_specs),
        ) from None
