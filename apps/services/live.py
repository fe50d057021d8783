"""What a detector sees in the frame of a camera just now; nothing of it is kept."""

import threading
from dataclasses import dataclass, field
from typing import IO

from apps.errors import N_, Busy, Unavailable
from apps.services.instant import Found, InstantService
from apps.services.uploads import read_upload

AT_ONCE = 8  # frames in one process; other pages need its threads too
FRAME_BYTES = 2**20  # in one frame
FRAME_PIXELS = 4_000_000  # width x height
NOT_HERE = N_(
    "On this installation other processes look at the pictures, and a camera cannot wait for them. "
    "An administrator can let this server look itself: SIGHTBOX_LIVE_ON_CPU=true."
)


@dataclass(frozen=True)
class LiveService:
    """Args: instant: what looks at frames; None where only other processes detect."""

    instant: InstantService | None
    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(AT_ONCE)
    )

    @property
    def here(self) -> bool:
        """Whether this process can look at frames."""
        return self.instant is not None

    def detect(self, stream: IO[bytes], model: str | None = None) -> Found:
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
        if self.instant is None:
            raise Unavailable(NOT_HERE)
        name = self.instant.model_called(model)
        data = read_upload(stream, FRAME_BYTES)
        if not self.slots.acquire(blocking=False):
            raise Busy(N_("Many cameras are being looked through just now. Try again in a moment."))
        try:
            return self.instant.detect(data, name)
        finally:
            self.slots.release()
