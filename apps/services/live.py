"""What a detector sees in the frame of a camera just now; nothing of it is kept."""

import threading
import time
from dataclasses import dataclass, field
from typing import IO

from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Busy, ConfigError, InvalidImage, Unavailable, WeightsError
from apps.services.models import ModelService
from apps.vision.decode import decode
from apps.vision.types import Detections, Engine

AT_ONCE = 8  # frames in one process; other pages need its threads too
FRAME_BYTES = 2**20  # in one frame
FRAME_PIXELS = 4_000_000  # width x height
NOT_HERE = N_(
    "On this installation other processes look at the pictures, and a camera cannot wait for them. "
    "An administrator can let this server look itself: SIGHTBOX_LIVE_ON_CPU=true."
)


@dataclass(frozen=True)
class Seen:
    """What was found in one frame."""

    found: Detections
    size: tuple[int, int]  # (width, height) of the frame
    milliseconds: int  # decoding included


@dataclass(frozen=True)
class LiveService:
    """Args: engine: None where only other processes detect."""

    session: scoped_session[Session]
    engine: Engine | None
    models: ModelService
    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(AT_ONCE)
    )

    @property
    def here(self) -> bool:
        """Whether this process can look at frames."""
        return self.engine is not None

    def detect(self, stream: IO[bytes], model: str | None = None) -> Seen:
        """What is in one frame.

        Args:
            stream: a picture file.
            model: name of the detector; None for the default one.

        Raises:
            InvalidImage: code ``too_large`` or one of decode().
            NotFound: no such model.
            InvalidInput: the weights of ``model`` are not there.
            Busy: too many frames or pictures are being looked at already.
            Unavailable: this process does not look, or its weights or device cannot be used.
            DeviceLost: the GPU stopped working.
        """
        if self.engine is None:
            raise Unavailable(NOT_HERE)
        if model is not None:
            self.models.require_ready(model)
        name = model or self.models.default()
        self.session.commit()  # no transaction stays open meanwhile
        data = stream.read(FRAME_BYTES + 1)
        if len(data) > FRAME_BYTES:
            raise InvalidImage(
                "too_large",
                N_("The file is larger than %(limit)s MB."),
                limit=round(FRAME_BYTES / 2**20, 1),
            )
        if not self.slots.acquire(blocking=False):
            raise Busy(N_("Many cameras are being looked through just now. Try again in a moment."))
        try:
            return self._look(self.engine, data, name)
        finally:
            self.slots.release()

    def _look(self, engine: Engine, data: bytes, name: str) -> Seen:
        started = time.perf_counter()
        decoded = decode(data, FRAME_PIXELS)
        try:
            found = engine.detect(decoded.picture, name, decoded.size)
        except (WeightsError, ConfigError) as error:
            raise Unavailable(error.message, **error.params) from error
        return Seen(found, decoded.size, round((time.perf_counter() - started) * 1000))
