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


class Engine(Protocol):
    """What the services need of a detector."""

    def detect(self, picture: Image.Image, model: str | None = None) -> Detections:
        """Boxes with a score of at least ``SCORE_FLOOR`` in an upright RGB ``picture``.

        Args:
            model: name in the registry, or "auto"; None for the default.

        Raises:
            DetectionError: this picture or these weights can never work.
        """
        ...


SCORE_FLOOR = 0.05  # boxes below it are noise; all others are kept, for the confidence slider
