"""Which detectors there are, which one is in use, and where their weights are."""

from dataclasses import dataclass

from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput
from apps.models import DETECTOR, Setting
from apps.vision.devices import has_gpu
from apps.vision.engine import AUTO, choose
from apps.vision.zoo.downloads import Download, Downloads
from apps.vision.zoo.registry import (
    BEST_ON_CPU,
    BEST_ON_GPU,
    DetectorSpec,
    detectors,
    get_detector,
    is_known,
)
from apps.vision.zoo.store import WeightsState, WeightsStore


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
    session: scoped_session[Session]
    store: WeightsStore
    downloads: Downloads
    configured: str  # a name in the registry, or "auto": what holds until somebody chooses
    may_download: bool  # by itself, what "auto" would prefer

    def default(self) -> str:
        """Name of the model for pictures that ask for none, or "auto"."""
        chosen = self.session.get(Setting, DETECTOR)
        if chosen is None or not (chosen.value == AUTO or is_known(chosen.value)):
            return self.configured
        return chosen.value

    def set_default(self, name: str) -> None:
        """Choose the model for pictures that ask for none.

        Raises:
            NotFound: no such model.
            InvalidInput: its weights are not there.
        """
        if name != AUTO:
            self.require_ready(name)
        self.session.merge(Setting(name=DETECTOR, value=name))
        self.session.commit()

    def current(self) -> DetectorSpec:
        """The detector for pictures that ask for none."""
        return choose(self.default(), self.store, gpu=has_gpu())

    def weights_ready(self, name: str) -> bool:
        """Whether pictures can be looked at with ``name`` or "auto"; asks no database."""
        spec = choose(name, self.store, gpu=has_gpu())
        return self.store.state(spec.weights) is WeightsState.READY

    def all(self) -> list[ModelState]:
        """Every detector, in the order of the registry."""
        current = self.current()
        return [self._state(spec, current) for spec in detectors()]

    def get(self, name: str) -> ModelState:
        """Raises NotFound if there is no such model."""
        return self._state(get_detector(name), self.current())

    def remove(self, name: str) -> bool:
        """Delete downloaded weights; whether there were any.

        Raises:
            Conflict: they come with the application, or every new picture needs them.
        """
        spec = get_detector(name)
        if self.default() == name:
            raise Conflict(N_("This model is in use. Choose another one first."))
        return self.store.remove(spec.weights)

    def ready(self) -> list[DetectorSpec]:
        """The detectors whose weights are there."""
        return [model.spec for model in self.all() if model.ready]

    def title(self, name: str) -> str:
        """What people call the model: an English message id, or ``name`` if it is not known."""
        return get_detector(name).card.title if is_known(name) else name

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
        asked = self.downloads.state(best.weights) is not None
        if not self.may_download or asked or self.store.state(best.weights) is WeightsState.READY:
            return
        if self.default() == AUTO:
            self.downloads.start(best.weights)

    def _state(self, spec: DetectorSpec, current: DetectorSpec) -> ModelState:
        return ModelState(
            spec,
            self.store.state(spec.weights),
            spec.name == current.name,
            self.downloads.state(spec.weights),
        )
