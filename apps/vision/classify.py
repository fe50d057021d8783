"""Classifiers behind one small door. torch is imported when the first picture comes."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from apps.errors import N_, Busy, NotFound
from apps.vision import devices
from apps.vision.cache import Networks
from apps.vision.conversion import convert
from apps.vision.placement import Placement
from apps.vision.types import Classification, Explanation, Guess, Layer, LoadedModel
from apps.vision.zoo.classifiers import ClassifierSpec, get_classifier
from apps.vision.zoo.store import WeightsStore

if TYPE_CHECKING:
    import torch
    from torch import nn

    from apps.vision.conversion import Array
    from apps.vision.explain import Explained

logger = logging.getLogger(__name__)

T = TypeVar("T")


class TorchClassifier:
    """The classifiers of one process on one device, shared by every thread.

    Args:
        store: where weights are.
        device: auto | cpu | cuda | cuda:1 | mps
        keep: networks in memory at most.
        lookup: from a name to its model.
        idle_seconds: after which a network that nobody used goes; 0 is never.
        fall_back: to the CPU, when the device is not there or stops working.
    """

    def __init__(
        self,
        store: WeightsStore,
        device: str = "auto",
        keep: int = 3,
        lookup: Callable[[str], ClassifierSpec] = get_classifier,
        *,
        idle_seconds: float = 0.0,
        fall_back: bool = False,
    ) -> None:
        self.store = store
        self.lookup = lookup
        self._placement = Placement(device, fall_back=fall_back)
        self._networks: Networks[ClassifierSpec] = Networks(
            self._load,
            free=lambda: devices.memory(self._placement.device())[1],
            dropped=lambda: devices.give_back(self._placement.device()),
            keep=keep,
            idle=idle_seconds,
        )
        self._tables: dict[ClassifierSpec, tuple[Layer, ...]] = {}

    def classify(
        self, picture: Image.Image, model: str, *, top: int = 5, invert: bool | None = None
    ) -> Classification:
        """The ``top`` most probable classes of an upright ``picture``.

        Raises:
            NotFound: no such model.
            WeightsError: the weights are missing or changed.
            ConfigError: the chosen device does not exist here, and falling back is not wanted.
            Busy: the device has no memory left for it.
            DeviceLost: the GPU stopped working, and falling back is not wanted.
        """
        import torch

        spec = self.lookup(model)
        converted = convert(picture, spec.input, invert)

        def work() -> tuple[list[int], list[float]]:
            network = self._networks.get(spec)
            with torch.inference_mode():
                logits = network(self._batch(converted.values))[0]
                found = logits.float().softmax(0).topk(min(max(top, 1), len(spec.labels)))
            return found.indices.tolist(), found.values.tolist()

        rows = zip(*self._guarded(work), strict=True)
        guesses = tuple(Guess(spec.labels[number], min(share, 1.0)) for number, share in rows)
        return Classification(guesses, converted.steps, spec.name)

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
            AppError: as ``classify``.
        """
        from apps.vision.explain import explained

        spec = self.lookup(model)
        if label is not None and label not in spec.labels:
            raise NotFound(
                N_("The model “%(model)s” has no class “%(label)s”."), model=model, label=label
            )
        converted = convert(picture, spec.input, invert)
        number = None if label is None else spec.labels.index(label)

        def work() -> "Explained":
            network = self._networks.get(spec)
            return explained(network, self._batch(converted.values), converted.seen, number)

        found = self._guarded(work)
        return Explanation(spec.labels[found.number], found.heat, found.maps)

    def status(self) -> tuple[LoadedModel, ...]:
        """The networks in memory, most recently used first."""
        return self._networks.status()

    def layers(self, model: str) -> tuple[Layer, ...]:
        """The network layer by layer, in the order of its work, without needing its weights.

        Raises:
            NotFound: no such model.
        """
        spec = self.lookup(model)
        if spec not in self._tables:
            from apps.vision.explain import table

            given = spec.input
            self._tables[spec] = table(spec.build, (given.channels, given.size, given.size))
        return self._tables[spec]

    def _batch(self, values: "Array") -> "torch.Tensor":
        """float32, (1, C, H, W), on the device."""
        import torch

        return torch.from_numpy(values)[None].to(self._placement.device())

    def _load(self, spec: ClassifierSpec) -> "nn.Module":
        from apps.vision.zoo.weights import load_classifier

        self._placement.refuse_lost()
        return load_classifier(spec, self.store).to(self._placement.device())

    def _guarded(self, work: Callable[[], T]) -> T:
        """The result of ``work``; what the device says becomes what people can read.

        Raises:
            Busy, DeviceLost: as ``classify``.
            Exception: what ``work`` raised.
        """
        self._placement.refuse_lost()
        try:
            return work()
        except Exception as error:
            if not devices.is_lost(error):
                self._refuse_full(error)
                raise
        self._placement.lose(self._networks.clear)
        try:
            return work()
        except Exception as error:
            self._refuse_full(error)
            raise

    def _refuse_full(self, error: Exception) -> None:
        """Raises Busy after running out of memory, for which every network goes."""
        if devices.is_out_of_memory(error):
            logger.warning("out of memory")
            self._networks.clear()
            raise Busy(N_("There is no memory left for this network. Try again soon.")) from error
