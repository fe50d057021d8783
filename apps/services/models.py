"""Which detectors there are, which one is in use, and where their weights are."""

from dataclasses import dataclass
from pathlib import Path

from apps.errors import N_, InvalidInput
from apps.vision.engine import AUTO, choose
from apps.vision.zoo.downloads import Download, Downloads
from apps.vision.zoo.registry import (
    BEST_ON_CPU,
    BEST_ON_GPU,
    DetectorSpec,
    detectors,
    get_detector,
)
from apps.vision.zoo.store import WeightsState, WeightsStore

# What the NVIDIA driver puts there: asking torch would import it into the web process.
NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class ModelState:
    """One detector and its weights at this moment."""

    spec: DetectorSpec
    state: WeightsState
    in_use: bool
    download: Download | None

    @property
    def ready(self) -> bool:
        return self.state is WeightsState.READY


@dataclass(frozen=True)
class ModelService:
    store: WeightsStore
    downloads: Downloads
    default: str  # a name in the registry, or "auto"
    may_download: bool  # by itself, what "auto" would prefer

    def current(self) -> DetectorSpec:
        """The detector for pictures that ask for none."""
        return choose(self.default, self.store, gpu=has_gpu())

    def all(self) -> list[ModelState]:
        """Every detector, in the order of the registry."""
        current = self.current()
        return [self._state(spec, current) for spec in detectors()]

    def get(self, name: str) -> ModelState:
        """Raises NotFound if there is no such model."""
        return self._state(get_detector(name), self.current())

    def ready(self) -> list[DetectorSpec]:
        """The detectors whose weights are there."""
        return [model.spec for model in self.all() if model.ready]

    def require_ready(self, name: str) -> DetectorSpec:
        """The detector called ``name``.

        Raises:
            NotFound: no such model.
            InvalidInput: its weights are not there.
        """
        model = self.get(name)
        if not model.ready:
            raise InvalidInput(
                N_("The weights of “%(name)s” are not here yet. An administrator can fetch them."),
                name=name,
            )
        return model.spec

    def fetch(self, name: str) -> None:
        """Begin to download the weights of ``name`` in the background."""
        self.downloads.start(get_detector(name).weights)

    def fetch_preferred(self) -> None:
        """Begin to download what "auto" would rather use, once in the life of this process."""
        best = BEST_ON_GPU if has_gpu() else BEST_ON_CPU
        missing = self.store.state(best.weights) is not WeightsState.READY
        asked = self.downloads.state(best.weights) is not None
        if self.default == AUTO and self.may_download and missing and not asked:
            self.downloads.start(best.weights)

    def _state(self, spec: DetectorSpec, current: DetectorSpec) -> ModelState:
        return ModelState(
            spec,
            self.store.state(spec.weights),
            spec.name == current.name,
            self.downloads.state(spec.weights),
        )


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver, as far as one can tell without torch."""
    return NVIDIA.exists()
