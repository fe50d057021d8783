"""A torchvision detector behind one small door. torch is imported when the first picture comes."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from PIL import Image

from apps.errors import N_, ConfigError
from apps.vision.types import SCORE_FLOOR, Box, Detections
from apps.vision.zoo.registry import DetectorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

# Detectors shrink their input to at most 320 to 1,333 pixels themselves. Halving a much larger
# picture first, by whole steps, saves hundreds of megabytes of float tensor and moves no box by
# more than a fraction of the shrunken pixel.
REDUCE_ABOVE = 4096  # pixels, longest side

# A side shorter than this part of the longer one would be shrunk to no pixel at all.
THINNEST = 100


class TorchEngine:
    """One model on one device, loaded once, shared by every thread of the process."""

    def __init__(self, spec: DetectorSpec, device: str = "auto") -> None:
        self.spec = spec
        self.device_choice = device
        self._lock = threading.Lock()
        self._model: nn.Module | None = None
        self._device: torch.device | None = None

    def detect(self, picture: Image.Image) -> Detections:
        """Boxes with a score of at least ``SCORE_FLOOR`` in an upright RGB ``picture``.

        Raises:
            WeightsError: the weights are missing or changed.
            ConfigError: the chosen device does not exist here.
        """
        small, scale = _shrunk(picture)
        small = _thick_enough(small)
        with self._lock:  # a module may be used by one thread at a time
            output = self._forward(small)
        return Detections(self._boxes(output, scale, picture.size), self.spec.name)

    def _forward(self, picture: Image.Image) -> dict[str, Any]:
        import torch
        from torchvision.transforms.v2.functional import pil_to_tensor

        model, device = self._loaded()
        with torch.inference_mode():
            tensor = pil_to_tensor(picture).to(device).float().div_(255)  # (3, H, W) in 0..1
            [output] = model([tensor])
        return {name: value.cpu().tolist() for name, value in output.items()}

    def _loaded(self) -> "tuple[nn.Module, torch.device]":
        """The model, ready on its device; the caller holds the lock."""
        if self._model is None or self._device is None:
            from apps.vision.zoo.weights import load_weights

            started = time.perf_counter()
            device = pick_device(self.device_choice)
            model = self.spec.build()
            load_weights(model, self.spec.weights, self.spec.sha256)
            self._model, self._device = model.to(device).eval(), device
            seconds = time.perf_counter() - started
            logger.info("loaded model=%s device=%s seconds=%.1f", self.spec.name, device, seconds)
        return self._model, self._device

    def _boxes(
        self, output: dict[str, Any], scale: tuple[float, float], size: tuple[int, int]
    ) -> tuple[Box, ...]:
        """{"boxes": (N, 4) xyxy, "labels": (N,) from 1, "scores": (N,)} to boxes, best first."""
        boxes = []
        for corners, label, score in zip(
            output["boxes"], output["labels"], output["scores"], strict=True
        ):
            x1, x2 = (min(max(x * scale[0], 0.0), size[0]) for x in corners[::2])
            y1, y2 = (min(max(y * scale[1], 0.0), size[1]) for y in corners[1::2])
            if score >= SCORE_FLOOR and x1 < x2 and y1 < y2:
                boxes.append(Box(self.spec.classes[label - 1], min(score, 1.0), x1, y1, x2, y2))
        return tuple(sorted(boxes, key=lambda box: -box.score))


def pick_device(choice: str) -> "torch.device":
    """``auto`` is CUDA when there is one, else the CPU; anything else must exist.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
        torch.empty(1, device=device).cpu()  # "meta" makes tensors that hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            N_("SIGHTBOX_DEVICE is %(choice)s, which this machine does not have."), choice=choice
        ) from error
    return device


def _shrunk(picture: Image.Image) -> tuple[Image.Image, tuple[float, float]]:
    """``picture``, smaller if it is very large, and the factors (x, y) back to its own pixels."""
    factor = -(-max(picture.size) // REDUCE_ABOVE)
    if factor < 2:
        return picture, (1.0, 1.0)
    small = picture.reduce(factor)
    return small, (picture.width / small.width, picture.height / small.height)


def _thick_enough(picture: Image.Image) -> Image.Image:
    """``picture``, with white to its right or below if one of its sides is very short.

    Its pixels stay where they are, so boxes need no change but to end where it ends.
    """
    least = -(-max(picture.size) // THINNEST)
    if min(picture.size) >= least:
        return picture
    thick = Image.new("RGB", (max(picture.width, least), max(picture.height, least)), "white")
    thick.paste(picture)
    return thick
