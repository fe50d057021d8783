"""Which detectors there are, which one is in use, and where their weights are."""

import statistics
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput, WeightsError
from apps.models import DETECTOR, Image, ImageStatus, Result, Setting, Video, VideoStatus
from apps.vision import devices
from apps.vision.engine import AUTO, choose, preferred
from apps.vision.types import EngineStatus
from apps.vision.zoo.downloads import Attempts, Downloads
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import DetectorSpec, Registry
from apps.vision.zoo.store import OWN_MISSING, WeightsState, WeightsStore

SPEED_SAMPLES = 1000  # newest detections that tell how fast a model is here

# The administrator's choice, to be read with something else.
DEFAULT = select(Setting.value).where(Setting.name == DETECTOR)


@dataclass(frozen=True)
class ModelState:
    """One detector and its weights at this moment."""

    spec: DetectorSpec
    state: WeightsState
    in_use: bool

    @property
    def ready(self) -> bool:
        return self.state is WeightsState.READY


@dataclass(frozen=True)
class ModelUse:
    """Pictures that a model has looked at, or will."""

    pictures: int  # that keep a result of it
    waiting: int  # for this model, or looked at by it now; clips too


@dataclass(frozen=True)
class ModelService:
    session: scoped_session[Session]
    store: WeightsStore
    own: OwnWeights
    registry: Registry
    downloads: Downloads
    configured: str  # a name in the registry, or "auto": what holds until somebody chooses
    device: str  # as the engine's: "auto", "cpu", "cuda:1" …
    may_download: bool  # by itself, what "auto" would prefer
    attempts: Attempts = field(default_factory=Attempts)  # to do so
    # How the engines are that look at stored pictures, where this process does not.
    elsewhere: Callable[[], list[EngineStatus]] = list

    def default(self) -> str:
        """Name of the model for pictures that ask for none, or "auto"."""
        return self.usable(self.session.scalar(DEFAULT))

    def usable(self, chosen: str | None) -> str:
        """The model that is used where an administrator has chosen ``chosen``, or nothing yet."""
        names = [self.configured] if chosen is None else [chosen, self.configured]
        # An own model may have gone meanwhile.
        return next((n for n in names if n == AUTO or self.registry.is_known(n)), AUTO)

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
        """The detector with which this process looks at pictures that ask for none."""
        return self._chosen(self.default())

    def in_use(self) -> list[DetectorSpec]:
        """What looks at stored pictures that ask for none: several where workers differ."""
        default = self.default()
        told = {engine.auto for engine in self.elsewhere()} if default == AUTO else set()
        found = [spec for spec in self.registry.detectors() if spec.name in told]
        return found or [self._chosen(default)]

    def weights_ready(self, name: str) -> bool:
        """Whether pictures can be looked at with ``name`` or "auto"; asks no database."""
        return self.store.state(self._chosen(name).weights) is WeightsState.READY

    def fault(self) -> WeightsError | None:
        """Why the default cannot be used; of "auto", why it does not use weights that are here."""
        default = self.default()
        if default == AUTO:
            names = self._preferred()
            wanted = [spec for spec in self.registry.detectors() if spec.name in names]
            faults = (self.store.fault(spec.weights) for spec in wanted)
            return next((fault for fault in faults if fault is not None), None)
        try:
            self.store.require_sound(self.registry.get(default).weights)
        except WeightsError as error:
            return error
        return None

    def all(self) -> list[ModelState]:
        """Every detector, in the order of the registry."""
        used = self.in_use()
        return [self._state(spec, used) for spec in self.registry.detectors()]

    def get(self, name: str) -> ModelState:
        """Raises NotFound if there is no such model."""
        return self._state(self.registry.get(name), self.in_use())

    def verify(self, name: str) -> None:
        """Read the weights of ``name`` as a whole; no transaction stays open meanwhile.

        Raises:
            NotFound: no such model.
            WeightsError: missing, unreadable, or not the expected file.
        """
        file = self.registry.get(name).weights
        self.session.commit()
        self.store.verify(file)

    def remove(self, name: str) -> bool:
        """Delete downloaded weights, or take an own model away; whether there were any.

        Raises:
            Conflict: they come with the application, or pictures or the settings need them.
            WeightsError: the folder cannot be written.
        """
        spec = self.registry.get(name)
        if not spec.weights.embedded:  # the store says so of the others
            self._refuse_needed(spec)
        self.session.commit()
        if spec.added is None:
            return self.store.remove(spec.weights)
        self.own.remove(name)
        return True

    def _refuse_needed(self, spec: DetectorSpec) -> None:
        """Raises Conflict as :meth:`remove`."""
        default = self.default()
        if default == spec.name:
            raise Conflict(N_("This model is in use. Choose another one first."))
        if default == AUTO and self._auto_needs(spec):
            raise Conflict(
                N_("“auto” uses this model at present. Choose another one first, by its name.")
            )
        if spec.added is not None and spec.name == self.configured:
            raise Conflict(
                N_("SIGHTBOX_DETECTOR names this model. Change the setting first, everywhere.")
            )
        if self.use(spec.name).waiting:
            raise Conflict(N_("Pictures wait for this model. Remove it when they are done."))

    def _auto_needs(self, spec: DetectorSpec) -> bool:
        """Whether "auto" uses these weights somewhere, or would as soon as it looks for them.

        That may be this process, which looks at the pictures of programs itself. What is damaged is
        of no use to anybody, and may go.
        """
        used = (*self.in_use(), self._chosen(AUTO))
        wanted = {*self._preferred(), *(spec.name for spec in used)}
        return spec.name in wanted and self.store.is_sound(spec.weights)

    def use(self, name: str) -> ModelUse:
        """How many pictures of all accounts have to do with a model."""
        made = select(func.count()).where(Result.model == name)
        unsettled = Image.status.in_([ImageStatus.QUEUED, ImageStatus.RUNNING])
        waiting = select(func.count()).where(Image.wanted_model == name, unsettled)
        clips = select(func.count()).where(
            Video.wanted_model == name,
            Video.status.in_([VideoStatus.QUEUED, VideoStatus.RUNNING]),
        )
        return ModelUse(
            self.session.scalar(made) or 0,
            (self.session.scalar(waiting) or 0) + (self.session.scalar(clips) or 0),
        )

    def ready(self) -> list[DetectorSpec]:
        """The detectors whose weights are there."""
        return [model.spec for model in self.all() if model.ready]

    def title(self, name: str) -> str:
        """What people call the model: an English message id, or ``name`` if it is not known."""
        return self.registry.get(name).card.title if self.registry.is_known(name) else name

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
        """Begin to download the weights of ``name`` in the background.

        Raises:
            Conflict: they were added by hand.
        """
        weights = self.registry.get(name).weights
        if weights.own:
            raise Conflict(OWN_MISSING, file=weights.name)
        self.downloads.start(weights)

    def speeds(self) -> dict[str, float]:
        """Median milliseconds a picture of the newest detections, by the models that made them."""
        rows = self.session.execute(
            select(Image.model, Image.duration_ms)
            .where(Image.detected_at.is_not(None), Image.duration_ms.is_not(None))
            .order_by(Image.detected_at.desc())
            .limit(SPEED_SAMPLES)
        )
        times: dict[str, list[int]] = {}
        for name, duration in rows:  # imported results took no time here and are not among them
            if name is not None and duration is not None:
                times.setdefault(name, []).append(duration)
        return {name: statistics.median(some) for name, some in times.items()}

    def fetch_preferred(self) -> None:
        """Begin to download what "auto" would rather use; for processes that detect.

        Call it at every occasion: nearly always it asks a clock and nothing else. What failed is
        tried again after ten minutes, then after longer and longer pauses.
        """
        if not self.may_download or not self.attempts.due():
            return
        auto = self.default() == AUTO
        self.session.commit()
        if auto:
            threading.Thread(target=self._prefer, name="preferred-weights", daemon=True).start()

    def _prefer(self) -> None:
        devices.ask_torch(self.device)
        file = self._preferred_here().weights
        if self.store.state(file) is WeightsState.READY:
            return
        went_well = self.downloads.run(file)
        if went_well:
            self.attempts.worked()
        elif went_well is False:
            self.attempts.failed()

    def _preferred(self) -> set[str]:
        """Names of what "auto" would use, in this process and in workers."""
        told = {engine.prefers for engine in self.elsewhere() if engine.prefers is not None}
        return told | {self._preferred_here().name}

    def _preferred_here(self) -> DetectorSpec:
        return preferred(gpu=devices.uses_cuda(self.device))

    def _chosen(self, name: str) -> DetectorSpec:
        """The detector that ``name`` or "auto" stands for."""
        if name != AUTO:
            return self.registry.get(name)
        return choose(AUTO, self.store, gpu=devices.uses_cuda(self.device))

    def _state(self, spec: DetectorSpec, used: Collection[DetectorSpec]) -> ModelState:
        in_use = spec.name in {one.name for one in used}
        return ModelState(spec, self.store.state(spec.weights), in_use)
