"""Classifiers behind one small door. torch is imported when the first picture comes."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image

from apps.errors import N_, Busy, DeviceLost, NotFound
from apps.vision import devices
from apps.vision.cache import Networks
from apps.vision.conversion import convert
from apps.vision.types import Classification, Explanation, Guess, Layer
from apps.vision.zoo.classifiers import ClassifierSpec, get_classifier
from apps.vision.zoo.store import WeightsStore

if TYPE_CHECKING:
    import torch
    from torch import nn

    from apps.vision.conversion import Array

logger = logging.getLogger(__name__)


class TorchClassifier:
    """The classifiers of one process on one device, shared by every thread.

    Args:
        store: where weights are.
        device: auto | cpu | cuda | cuda:1 | mps
        keep: networks in memory at most.
        lookup: from a name to its model.
    """

    def __init__(
        self,
        store: WeightsStore,
        device: str = "auto",
        keep: int = 3,
        lookup: Callable[[str], ClassifierSpec] = get_classifier,
    ) -> None:
        self.store = store
        self.lookup = lookup
        self._choice = device
        self._choosing = threading.Lock()
        self._device: torch.device | None = None
        self._networks: Networks[ClassifierSpec] = Networks(
            self._load,
            free=lambda: devices.memory(self._ready_device())[1],
            dropped=lambda: devices.give_back(self._ready_device()),
            keep=keep,
        )
        self._tables: dict[ClassifierSpec, tuple[Layer, ...]] = {}

    def classify(
        self, picture: Image.Image, model: str, *, top: int = 5, invert: bool | None = None
    ) -> Classification:
        """The ``top`` most probable classes of an upright ``picture``.

        Raises:
            NotFound: no such model.
            WeightsError: the weights are missing or changed.
            ConfigError: the chosen device does not exist here.
            Busy: the device has no memory left for it.
            DeviceLost: the GPU stopped working.
        """
        import torch

        spec = self.lookup(model)
        with self._guarded():
            network = self._networks.get(spec)
            converted = convert(picture, spec.input, invert)
            with torch.inference_mode():
                logits = network(self._batch(converted.values))[0]
                found = logits.float().softmax(0).topk(min(max(top, 1), len(spec.labels)))
            rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
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
        with self._guarded():
            network = self._networks.get(spec)
            converted = convert(picture, spec.input, invert)
            number = None if label is None else spec.labels.index(label)
            found = explained(network, self._batch(converted.values), converted.seen, number)
        return Explanation(spec.labels[found.number], found.heat, found.maps)

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

        return torch.from_numpy(values)[None].to(self._ready_device())

    def _load(self, spec: ClassifierSpec) -> "nn.Module":
        from apps.vision.zoo.weights import load_classifier

        return load_classifier(spec, self.store).to(self._ready_device())

    def _ready_device(self) -> "torch.device":
        with self._choosing:
            if self._device is None:
                self._device = devices.pick_device(self._choice)
            return self._device

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What the device says becomes what people can read."""
        try:
            yield
        except Exception as error:
            if devices.is_lost(error):
                logger.critical("device lost device=%s", self._device)
                raise DeviceLost(
                    N_(
                        "The device %(device)s stopped working, so no picture can be looked at. "
                        "Restart Sightbox; if it happens again, look at the driver's messages."
                    ),
                    device=str(self._device),
                ) from error
            if not devices.is_out_of_memory(error):
                raise
            logger.warning("out of memory device=%s", self._device)
            self._networks.clear()
            raise Busy(N_("There is no memory left for this network. Try again soon.")) from error
