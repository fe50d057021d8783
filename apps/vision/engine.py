"""A torchvision detector behind one small door. torch is imported when the first picture comes."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from apps.errors import N_, ConfigError
from apps.vision import masks
from apps.vision.types import SCORE_FLOOR, Box, Detections
from apps.vision.zoo.registry import (
    BEST_ON_CPU,
    BEST_ON_GPU,
    EMBEDDED_DEFAULT,
    DetectorSpec,
    get_detector,
)
from apps.vision.zoo.store import WeightsState, WeightsStore

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

AUTO = "auto"  # the default model: see choose()

# Detectors shrink their input to at most 320 to 1,333 pixels themselves. Halving a much larger
# picture first, by whole steps, saves hundreds of megabytes of float tensor and moves no box by
# more than a fraction of the shrunken pixel.
REDUCE_ABOVE = 4096  # pixels, longest side

# A side shorter than this part of the longer one would be shrunk to no pixel at all.
THINNEST = 100


class TorchEngine:
    """The detectors of one process on one device, loaded on first use, shared by every thread.

    Args:
        store: where weights are.
        default: name of the model for pictures that ask for none, or "auto".
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        keep: models that stay loaded; the least recently used one goes.
        lookup: from a name to its model.
    """

    def __init__(
        self,
        store: WeightsStore,
        default: str = AUTO,
        device: str = "auto",
        keep: int = 2,
        lookup: Callable[[str], DetectorSpec] = get_detector,
    ) -> None:
        self.store = store
        self.lookup = lookup
        self.default = default
        self.device_choice = device
        self.keep = keep
        self._lock = threading.Lock()
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._device: torch.device | None = None

    def detect(self, picture: Image.Image, model: str | None = None) -> Detections:
        """Boxes with a score of at least ``SCORE_FLOOR`` in an upright RGB ``picture``.

        Args:
            model: name in the registry, or "auto"; None for the default.

        Raises:
            NotFound: no such model.
            WeightsError: the weights are missing or changed.
            ConfigError: the chosen device does not exist here.
        """
        small, scale = _shrunk(picture)
        small = _thick_enough(small)
        with self._lock:  # a module may be used by one thread at a time
            spec = self._spec(model)
            output = self._forward(spec, small)
        return Detections(_boxes(spec, output, scale, picture.size), spec.name)

    def _spec(self, model: str | None) -> DetectorSpec:
        name = model or self.default
        if name != AUTO:
            return self.lookup(name)
        return choose(AUTO, self.store, gpu=self._ready_device().type == "cuda")

    def _forward(self, spec: DetectorSpec, picture: Image.Image) -> dict[str, Any]:
        import torch
        from torchvision.transforms.v2.functional import pil_to_tensor

        device = self._ready_device()
        network = self._loaded(spec, device)
        with torch.inference_mode():
            tensor = pil_to_tensor(picture).to(device).float().div_(255)  # (3, H, W) in 0..1
            [output] = network([tensor])
        found = {name: output[name].cpu().tolist() for name in ("boxes", "labels", "scores")}
        if "masks" in output:
            found["masks"] = output["masks"].float().cpu().numpy()
        return found

    def _ready_device(self) -> "torch.device":
        if self._device is None:
            self._device = pick_device(self.device_choice)
        return self._device

    def _loaded(self, spec: DetectorSpec, device: "torch.device") -> "nn.Module":
        """The network of ``spec``, ready on ``device``; the caller holds the lock."""
        network = self._models.pop(spec.name, None)
        if network is None:
            from apps.vision.zoo.weights import load_detector

            started = time.perf_counter()
            while len(self._models) >= self.keep:
                name, _ = self._models.popitem(last=False)
                logger.info("unloaded model=%s", name)
            network = load_detector(spec, self.store).to(device)
            seconds = time.perf_counter() - started
            logger.info("loaded model=%s device=%s seconds=%.1f", spec.name, device, seconds)
        self._models[spec.name] = network
        return network


def choose(default: str, store: WeightsStore, *, gpu: bool) -> DetectorSpec:
    """The detector for pictures that ask for none.

    ``auto`` is the best one for the device whose weights are there, else the embedded one, which
    always is.

    Raises:
        NotFound: ``default`` is not in the registry.
    """
    if default != AUTO:
        return get_detector(default)
    best = BEST_ON_GPU if gpu else BEST_ON_CPU
    there = store.state(best.weights) is WeightsState.READY
    return best if there else EMBEDDED_DEFAULT


def _boxes(
    spec: DetectorSpec, output: dict[str, Any], scale: tuple[float, float], size: tuple[int, int]
) -> tuple[Box, ...]:
    """{"boxes": (N, 4) xyxy, "labels": (N,) from 1, "scores": (N,)} to boxes, best first.

    Of a Mask R-CNN also {"masks": (N, 1, 28, 28)}; see masks.keep_small().
    """
    boxes = []
    for place, (corners, number, score) in enumerate(
        zip(output["boxes"], output["labels"], output["scores"], strict=True)
    ):
        label = spec.classes[number - 1] if number > 0 else None  # 0: background
        x1, x2 = (min(max(x * scale[0], 0.0), size[0]) for x in corners[::2])
        y1, y2 = (min(max(y * scale[1], 0.0), size[1]) for y in corners[1::2])
        if label is not None and score >= SCORE_FLOOR and x1 < x2 and y1 < y2:
            mask = masks.of_output(output, place, scale, size)
            boxes.append(Box(label, min(score, 1.0), x1, y1, x2, y2, mask))
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
