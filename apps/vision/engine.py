"""Torchvision detectors behind one small door. torch is imported when the first picture comes."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from apps.errors import N_, OutOfMemory, WeightsError
from apps.vision import devices
from apps.vision.batcher import Batcher
from apps.vision.cache import Networks
from apps.vision.cores import CoreShares
from apps.vision.limits import BatchLimits
from apps.vision.placement import Placement
from apps.vision.prepare import boxes_of, framed, off_device, on_device
from apps.vision.types import Detections, EngineStatus
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

T = TypeVar("T")

AUTO = "auto"  # the default model: see choose()

# On a CPU a batch spares overheads and nothing else; this bounds what all of those that run take
# of main memory.
CPU_PIXELS = 2_000_000  # of all inputs together


@dataclass(frozen=True)
class EngineOptions:
    """How an engine uses its machine; docs/settings.md explains each."""

    device: str = "auto"  # auto | cpu | cuda | cuda:1 | mps
    keep: int = 2  # models in memory
    idle_seconds: float = 0.0  # unload after; 0: never
    batch: int = 8  # pictures at once
    capacity: int = 64  # pictures that may wait
    cpu_threads: int = 0  # 0: as many as torch thinks best
    precision: str = "float32"  # of backbones on a GPU: float32 | bfloat16 | float16
    fall_back: bool = False  # to the CPU when the device is missing or lost


@dataclass(frozen=True)
class _Request:
    """One picture on its way to a network."""

    spec: DetectorSpec
    tensor: "torch.Tensor"  # float32, (3, h, w), 0..1, in the size that the network sees
    canvas: tuple[int, int]  # (height, width) with its padding

    @property
    def kind(self) -> tuple[str, tuple[int, int]]:
        """What takes as much memory."""
        return self.spec.name, self.canvas


class TorchEngine:
    """The detectors of one process on one device, shared by every thread.

    Args:
        store: where weights are.
        default: name of the model for pictures that ask for none, or "auto".
        options: how the machine is used.
        lookup: from a name to its model.
    """

    def __init__(
        self,
        store: WeightsStore,
        default: str = AUTO,
        options: EngineOptions | None = None,
        lookup: Callable[[str], DetectorSpec] = get_detector,
    ) -> None:
        self.store = store
        self.lookup = lookup
        self.default = default
        self.options = options or EngineOptions()
        self._batcher: Batcher[_Request, dict[str, Any]] = Batcher(
            self._run,
            key=lambda request: (request.spec, request.canvas),
            largest=self._largest,
            capacity=self.options.capacity,
            lanes=self._lanes,
        )
        self._networks = Networks(
            self._load,
            free=lambda: devices.memory(self._placement.device())[1],
            dropped=lambda: devices.give_back(self._placement.device()),
            keep=self.options.keep,
            idle=self.options.idle_seconds,
        )
        self._placement = Placement(self.options.device, fall_back=self.options.fall_back)
        self._limits = BatchLimits(self.options.batch)
        self._sharing = threading.Lock()
        self._shares: CoreShares | None = None  # until torch is there

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
            NotFound: no such model.
            WeightsError: the weights are missing or changed; "auto" takes embedded ones then.
            ConfigError: the chosen device does not exist here, and falling back is not wanted.
            Busy: too many pictures wait, and ``patient`` is false.
            OutOfMemory: the device has no memory left for this picture.
            DeviceLost: the GPU stopped working, and falling back is not wanted.
        """
        size = size or picture.size
        spec = self._spec(model)
        try:
            return self._detect(spec, picture, size, patient)
        except WeightsError as error:
            if (model or self.default) != AUTO or spec is EMBEDDED_DEFAULT:
                raise
            self.store.distrust(spec.weights, error)
        return self._detect(EMBEDDED_DEFAULT, picture, size, patient)

    def _detect(
        self, spec: DetectorSpec, picture: Image.Image, size: tuple[int, int], patient: bool
    ) -> Detections:
        request, scale = self._request(spec, picture)
        output = self._batcher.submit(request, patient=patient)
        scale = scale[0] * size[0] / picture.width, scale[1] * size[1] / picture.height
        return Detections(boxes_of(spec, output, scale, size), spec.name)

    def warm(self, model: str | None = None) -> str:
        """Load a model and run it once, so that the first picture need not wait; its name.

        Raises:
            AppError: as ``detect``.
        """
        return self.detect(Image.new("RGB", (640, 480), "grey"), model, patient=True).model

    def unload(self) -> int:
        """Let every network go; how many there were."""
        return self._networks.clear()

    @property
    def trouble(self) -> str | None:
        """In English, why it cannot work at present."""
        return self._placement.trouble

    def try_device(self) -> bool:
        """Look for the device if that was not done, or in vain; whether it can work."""
        return self._placement.try_device()

    def status(self) -> EngineStatus:
        """What the engine is doing; imports nothing that is not there yet, and never fails."""
        name, used, free = self._placement.described()
        gpu = devices.uses_cuda(self.options.device)
        return EngineStatus(
            device=name,
            memory_used=used,
            memory_free=free,
            models=self._networks.status(),
            waiting=self._batcher.waiting,
            capacity=self._batcher.capacity,
            trouble=self.trouble,
            lost=self._placement.is_lost,
            auto=_seemingly_chosen(self.store, gpu=gpu).name,
            prefers=preferred(gpu=gpu).name,
        )

    def _spec(self, model: str | None) -> DetectorSpec:
        name = model or self.default
        if name != AUTO:
            return self.lookup(name)
        return choose(AUTO, self.store, gpu=self._placement.device().type == "cuda")

    def _request(
        self, spec: DetectorSpec, picture: Image.Image
    ) -> tuple[_Request, tuple[float, float]]:
        """What the network gets of ``picture``, and the factors (x, y) back to its pixels."""
        import torch
        from torchvision.transforms.v2.functional import pil_to_tensor

        from apps.vision.optimize import canvas, resample, seen_size

        network = self._guarded(lambda: self._networks.get(spec), spec)
        transform = network.transform
        tall, wide = framed(picture.height, picture.width)
        height, width = seen_size(transform, tall, wide)
        # A thin picture is padded in the size that the network sees: padded before, a file of
        # some kilobytes could take gigabytes.
        inner = (
            max(1, round(height * picture.height / tall)),
            max(1, round(width * picture.width / wide)),
        )
        tensor = torch.ones(3, height, width)  # white
        tensor[:, : inner[0], : inner[1]] = resample(pil_to_tensor(picture), *inner)
        request = _Request(spec, tensor, canvas(transform, height, width))
        return request, (picture.width / inner[1], picture.height / inner[0])

    def _largest(self, request: _Request) -> int:
        """Pictures like this one in a batch at most."""
        most = self._limits.of(request.kind)
        if self._placement.device().type != "cpu":
            return most
        height, width = request.canvas
        return min(most, CPU_PIXELS // (height * width * self._lanes(request)))

    def _lanes(self, request: _Request) -> int:
        """Batches at once, this one among them: a small network cannot keep many cores busy."""
        if self._placement.device().type != "cpu":
            return 1
        height, width = request.canvas
        return max(1, min(self._core_shares().cores, CPU_PIXELS // (height * width)))

    # -- one batch at a time ---------------------------------------------------------------

    def _run(self, batch: Sequence[_Request]) -> list[dict[str, Any]]:
        """A result {"boxes", "labels", "scores"} in lists for each of ``batch``."""
        found = self._guarded(lambda: self._forward(batch), batch[0].spec, batch)
        self._limits.went_well(batch[0].kind, len(batch))
        return found

    def _guarded(
        self, work: Callable[[], T], spec: DetectorSpec, batch: Sequence[_Request] = ()
    ) -> T:
        """The result of ``work`` on the device; once more where that can help.

        After running out of memory other models go first; then such batches become smaller, and
        the batcher halves this one.

        Raises:
            DeviceLost: the device is gone, and falling back is not wanted.
            OutOfMemory: there is none left for it.
            Exception: what ``work`` raised.
        """
        self._placement.refuse_lost()
        try:
            return work()
        except Exception as error:
            lost = devices.is_lost(error)
            if not lost and not devices.is_out_of_memory(error):
                raise
        # Outside of the handler, whose traceback keeps the tensors of the failed run alive.
        if lost:
            self._placement.lose(self._networks.clear)
        elif not self._networks.clear(but=spec.name):
            raise self._no_room(batch)
        try:
            return work()
        except Exception as error:
            if not devices.is_out_of_memory(error):
                raise
        raise self._no_room(batch)

    def _no_room(self, batch: Sequence[_Request]) -> OutOfMemory:
        """What is said after running out of memory, when nothing else can go."""
        if batch:
            self._limits.too_many(batch[0].kind, len(batch))
        devices.give_back(self._placement.device())
        return OutOfMemory(
            N_("There is not enough memory for this picture at present. Try again soon.")
        )

    def _forward(self, batch: Sequence[_Request]) -> list[dict[str, Any]]:
        import torch

        device = self._placement.device()
        network = self._networks.get(batch[0].spec)
        share = self._core_shares().one() if device.type == "cpu" else nullcontext()
        with torch.inference_mode(), share:
            outputs = network([on_device(one.tensor, device) for one in batch])
            return [off_device(output) for output in outputs]

    def _load(self, spec: DetectorSpec) -> "nn.Module":
        from apps.vision.optimize import optimize, prime
        from apps.vision.zoo.weights import load_detector

        self._placement.refuse_lost()  # it may have been lost since the question was asked
        device = self._placement.device()
        network = optimize(load_detector(spec, self.store), device, self.options.precision)
        prime(network, device)
        return network

    def _core_shares(self) -> CoreShares:
        with self._sharing:
            if self._shares is None:
                import torch

                self._shares = CoreShares(self.options.cpu_threads or torch.get_num_threads())
            return self._shares


def choose(default: str, store: WeightsStore, *, gpu: bool) -> DetectorSpec:
    """The detector for pictures that ask for none.

    ``auto`` is the best one for the device if its weights are there and whole, else the embedded
    one, which always is.

    Raises:
        NotFound: ``default`` is not in the registry.
    """
    if default != AUTO:
        return get_detector(default)
    best = preferred(gpu=gpu)
    return best if store.is_sound(best.weights) else EMBEDDED_DEFAULT


def _seemingly_chosen(store: WeightsStore, *, gpu: bool) -> DetectorSpec:
    """What :func:`choose` says of ``auto``, as far as is known without reading a file."""
    best = preferred(gpu=gpu)
    ready = store.state(best.weights) is WeightsState.READY
    return best if ready and store.known_fault(best.weights) is None else EMBEDDED_DEFAULT


def preferred(*, gpu: bool) -> DetectorSpec:
    """What ``auto`` would use if all weights were there."""
    return BEST_ON_GPU if gpu else BEST_ON_CPU
