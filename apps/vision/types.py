"""Plain values that detectors return. Nothing here needs torch."""

from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image


@dataclass(frozen=True, slots=True)
class Box:
    """One detected object; corners in pixels of the picture given to the engine, xyxy."""

    label: str
    score: float  # 0..1
    x1: float
    y1: float
    x2: float
    y2: float
    mask: str | None = field(default=None, repr=False)  # COCO RLE at the picture's size; see masks
    by_person: bool = False  # somebody drew, changed or accepted it: its score means nothing

    def __post_init__(self) -> None:
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(f"box corners out of order: {self}")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score must be in 0..1, got {self.score}")


@dataclass(frozen=True, slots=True)
class Detections:
    """Everything one run of one model said about one picture, best box first."""

    boxes: tuple[Box, ...]
    model: str  # name in the registry: "architecture.weights"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network in memory."""

    name: str
    bytes: int  # of parameters and buffers
    idle_seconds: float  # since it was last used


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine is doing at one moment."""

    device: str | None  # "cpu", "cuda:0 (NVIDIA H200)"; None: nothing was loaded yet
    memory_used: int | None  # bytes, of this process, where networks live
    memory_free: int | None  # bytes
    models: tuple[LoadedModel, ...]
    waiting: int  # pictures that no batch has taken yet
    capacity: int
    trouble: str | None  # in English, with its values: why it cannot work at present
    lost: bool = False  # its device is gone, and only a new process can help
    # Names of models, as far as is known without reading a file: what "auto" uses there, and what
    # it would use if all weights were there. None: it does not say.
    auto: str | None = None
    prefers: str | None = None


class Engine(Protocol):
    """What the services need of a detector."""

    def detect(
        self,
        picture: Image.Image,
        model: str | None = None,
        size: tuple[int, int] | None = None,
        *,
        patient: bool = False,
    ) -> Detections:
        """Boxes with a score of at least ``SCORE_FLOOR`` in an upright RGB ``picture``.

        Args:
            model: name in the registry, or "auto"; None for the default.
            size: (width, height) in whose pixels the boxes shall be, when ``picture`` is a
                smaller copy; by default its own.
            patient: wait when too many pictures wait already.

        Raises:
            Busy: too many pictures wait, and ``patient`` is false.
            OutOfMemory: there is no memory left for this picture.
            DetectionError: this picture or these weights can never work.
        """
        ...

    def warm(self, model: str | None = None) -> str:
        """Load a model and run it once; its name. Raises as ``detect`` does."""
        ...

    @property
    def trouble(self) -> str | None:
        """In English, why it cannot work at present; asks nothing of the device."""
        ...

    def try_device(self) -> bool:
        """Look for the device if that was not done, or in vain; whether it can work."""
        ...

    def status(self) -> EngineStatus:
        """What it is doing; quick, and imports nothing."""
        ...


SCORE_FLOOR = 0.05  # boxes below it are noise; all others are kept, for the confidence slider


@dataclass(frozen=True, slots=True)
class Guess:
    """One class that a picture may belong to."""

    label: str
    probability: float  # 0..1; all classes of a network together make 1


@dataclass(frozen=True, slots=True)
class Step:
    """One conversion on a picture's way into a classifier, to be shown to people."""

    text: str  # English message id
    picture: Image.Image = field(repr=False)  # after the conversion


@dataclass(frozen=True, slots=True)
class Classification:
    """What one network says about one picture."""

    guesses: tuple[Guess, ...]  # the most probable first
    steps: tuple[Step, ...]  # from the picture as it came to what the network saw
    model: str  # name in the registry of classifiers


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a network's table."""

    name: str  # address in the network, "features.0"
    kind: str  # "Conv2d"
    shape: tuple[int, ...]  # of its output for one picture: (C, H, W) or (features,)
    parameters: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a network may have said what it said, as pictures."""

    label: str  # the class that is explained
    heat: Image.Image = field(repr=False)  # Grad-CAM (Selvaraju et al. 2017) over what it saw
    maps: tuple[Step, ...] = field(repr=False)  # feature maps of the first layers, as mosaics


class Classifier(Protocol):
    """What the services need of the classifiers."""

    def classify(
        self, picture: Image.Image, model: str, *, top: int = 5, invert: bool | None = None
    ) -> Classification:
        """The ``top`` most probable classes of an upright RGB ``picture``.

        Args:
            model: name in the registry of classifiers.
            invert: whether light and dark are swapped for networks that learned light things on
                dark ground; None lets the border of the picture decide.

        Raises:
            NotFound: no such model.
            WeightsError: the weights are missing or changed.
        """
        ...

    def explain(
        self,
        picture: Image.Image,
        model: str,
        *,
        label: str | None = None,
        invert: bool | None = None,
    ) -> Explanation:
        """Feature maps and the heat map of ``label``, by default of the most probable class.

        Raises:
            NotFound: no such model, or it has no such class.
            WeightsError: as ``classify``.
        """
        ...

    def status(self) -> tuple[LoadedModel, ...]:
        """The networks in memory; quick, and imports nothing."""
        ...

    def layers(self, model: str) -> tuple[Layer, ...]:
        """The network layer by layer, without needing its weights.

        Raises:
            NotFound: no such model.
        """
        ...
