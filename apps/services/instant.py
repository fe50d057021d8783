"""Detection without storing: a picture comes, boxes go, nothing is kept."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session, scoped_session

from apps.errors import AppError, ConfigError, NotFound, Unavailable, WeightsError
from apps.services.models import ModelService
from apps.vision.decode import decode
from apps.vision.engine import AUTO
from apps.vision.prepare import DETAIL_SIDE
from apps.vision.types import Detections, Engine
from apps.vision.upright import UPRIGHT, lay_down, sideways
from apps.vision.zoo.registry import BEST_ON_CPU

FAST = "fast"  # what clients with little patience ask for
AT_ONCE = 4  # pictures of one request that are read and looked at side by side


@dataclass(frozen=True)
class Found:
    """What was found in one picture that is not kept."""

    detections: Detections
    width: int  # pixels, of the picture in which the corners are
    height: int
    exif_applied: bool  # the file lies turned, and the corners are those of the upright picture
    read_ms: int
    detect_ms: int  # waiting for the engine included


@dataclass(frozen=True)
class InstantService:
    session: scoped_session[Session]
    engine: Engine
    models: ModelService
    max_pixels: int  # width x height of one picture

    def model_called(self, name: str | None) -> str:
        """The detector that ``name`` means: one of the registry, "fast", or the default one.

        A name without its part after the dot is enough where only one model has it. Ends the
        transaction.

        Raises:
            NotFound: no such model.
            InvalidInput: its weights are not here.
        """
        if not name or name in (AUTO, "default"):
            found = self.models.default()
        elif name == FAST:
            ready = self.models.weights_ready(BEST_ON_CPU.name)
            found = BEST_ON_CPU.name if ready else AUTO
        else:
            found = self.models.require_ready(self.spelled(name)).name
        self.session.commit()
        return found

    def detect(self, data: bytes, model: str, *, raw: bool = False) -> Found:
        """Boxes in the file ``data``; needs no transaction, so call it from any thread.

        Args:
            model: as ``model_called`` gave it.
            raw: corners in the pixels as the file has them, whatever its EXIF orientation says.

        Raises:
            InvalidImage: as UploadService.upload, for what concerns the file alone.
            Unavailable: the weights, or the chosen device, cannot be used.
            Busy: too many pictures wait already, or there is no memory left for this one.
            DeviceLost: the GPU stopped working.
        """
        started = time.perf_counter()
        decoded = decode(data, self.max_pixels, DETAIL_SIDE)
        turn = decoded.turn
        read = time.perf_counter()
        try:
            found = self.engine.detect(decoded.picture, model, decoded.size)
        except (WeightsError, ConfigError) as error:
            raise Unavailable(error.message, **error.params) from error
        ended = time.perf_counter()
        size, applied = decoded.size, turn != UPRIGHT
        if raw and applied:
            boxes = tuple(lay_down(box, turn, size) for box in found.boxes)
            found, applied = replace(found, boxes=boxes), False
            size = (size[1], size[0]) if sideways(turn) else size
        return Found(
            found, *size, applied, round(1000 * (read - started)), round(1000 * (ended - read))
        )

    def detect_many(self, files: Sequence[bytes], model: str) -> list[Found | AppError]:
        """``detect`` for each of ``files``: a bad one is an error in its place."""

        def one(data: bytes) -> Found | AppError:
            try:
                return self.detect(data, model)
            except AppError as error:
                return error

        if len(files) < 2:
            return [one(data) for data in files]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, files))

    def spelled(self, name: str) -> str:
        """The registry's name for ``name``, or ``name`` itself."""
        if self.models.registry.is_known(name):
            return name
        folded = name.casefold()
        names = [spec.name for spec in self.models.registry.detectors()]
        meant = [known for known in names if folded in (known, known.partition(".")[0])]
        return meant[0] if len(meant) == 1 else name

    def is_model(self, name: str) -> bool:
        """Whether ``model_called`` knows ``name``, whether or not its weights are here."""
        try:
            self.models.registry.get(self.spelled(name))
        except NotFound:
            return name in (FAST, AUTO, "default")
        return True
