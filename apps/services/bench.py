"""Measuring how fast a detector is here: at once for a command, in the background for a page."""

import logging
import statistics
import threading
import time
from typing import IO

from PIL import Image
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, Conflict, Unavailable
from apps.models import utcnow
from apps.services.models import ModelService
from apps.vision.types import Engine
from apps.vision.zoo.registry import DetectorSpec
from apps.vision.zoo.speeds import Speed, SpeedFile

logger = logging.getLogger(__name__)

SIZE = (640, 480)  # pixels of the picture that is measured with
ROUNDS = 10
ELSEWHERE = N_("Other processes detect. Measure where they run: flask models bench %(name)s")
BROKEN = N_("The measurement failed; the server's log has the details.")


class BenchService:
    """One measurement at a time, beside the pictures that wait for the same engine.

    Args:
        engine_here: whether this process detects.
    """

    def __init__(
        self,
        session: scoped_session[Session],
        models: ModelService,
        engine: Engine,
        *,
        engine_here: bool,
    ) -> None:
        self.session = session
        self.models = models
        self.engine = engine
        self.engine_here = engine_here
        self.kept = SpeedFile(models.store.folder)
        self.running: str | None = None  # name of the model that is measured in the background
        self._errors: dict[str, AppError] = {}

    def of(self, spec: DetectorSpec) -> list[Speed]:
        """The latest measurement on each device, the latest of all first."""
        return self.kept.of(spec)

    def error(self, name: str) -> AppError | None:
        """Why the last measurement in the background came to nothing."""
        return self._errors.get(name)

    def start(self, name: str) -> None:
        """Begin to measure in the background.

        Raises:
            NotFound: no such model.
            InvalidInput: its weights are not here.
            Conflict: another one is being measured, or this process does not detect.
            WeightsError: the folder of weights cannot be written.
        """
        spec = self.models.require_ready(name)
        self.session.commit()
        if not self.engine_here:
            raise Conflict(ELSEWHERE, name=name)
        lock = self.kept.lock()
        self.running = name
        self._errors.pop(name, None)
        run = threading.Thread(target=self._run, args=(spec, lock), name="bench", daemon=True)
        run.start()

    def measure(self, spec: DetectorSpec, rounds: int = ROUNDS) -> Speed:
        """Measure now, and keep the result.

        Args:
            rounds: pictures, after one that loads the network.

        Raises:
            Conflict: another one is being measured.
            AppError: as Engine.detect, or the folder of weights cannot be written.
        """
        with self.kept.lock():
            return self._measure(spec, rounds)

    def _run(self, spec: DetectorSpec, lock: IO[str]) -> None:
        with lock:  # whoever has it next names another model as the one that runs
            try:
                self._measure(spec, ROUNDS)
            except AppError as error:
                logger.warning("not measured model=%s reason=%s", spec.name, error)
                self._errors[spec.name] = error
            except Exception:
                logger.exception("not measured model=%s", spec.name)
                self._errors[spec.name] = Unavailable(BROKEN)
            finally:
                self.running = None

    def _measure(self, spec: DetectorSpec, rounds: int) -> Speed:
        picture = Image.effect_noise(SIZE, 80).convert("RGB")
        self.engine.detect(picture, spec.name, patient=True)  # loads it
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            self.engine.detect(picture, spec.name, patient=True)
            times.append((time.perf_counter() - started) * 1000)
        worst = sorted(times)[min(rounds - 1, round(rounds * 0.95))]
        device = self.engine.status().device or ""
        speed = Speed(statistics.median(times), worst, device, utcnow())
        self.kept.keep(spec, speed)
        return speed
