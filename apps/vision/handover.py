"""Pictures that an upload has unpacked, for the detector that looks at them next."""

import threading
import time
from collections.abc import Callable

from apps.vision.decode import Decoded

LIMIT = 128 * 2**20  # bytes
PATIENCE = 120.0  # seconds after which nobody is expected to come for a picture
BYTES_A_PIXEL = 4  # of an RGB picture in Pillow's memory


class Handover:
    """Unpacked pictures by the key of their file; each is taken once, or forgotten.

    It only saves the second unpacking: who finds nothing here reads the file. When it is full new
    pictures are not kept, because the older ones are looked at first.

    Args:
        limit: bytes of pixels to keep.
        clock: seconds, never going back.
    """

    def __init__(self, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Decoded]] = {}

    def put(self, key: str, decoded: Decoded) -> None:
        """Keep an unpacked picture, if it has its full size and there is room."""
        if decoded.picture.size != decoded.size:  # a detector may want more of its pixels
            return
        with self._lock:
            self._forget_old()
            if self._bytes() + _bytes_of(decoded) <= self.limit:
                self._kept[key] = (self._clock(), decoded)

    def take(self, key: str) -> Decoded | None:
        """The picture, which is then no longer kept; None if it is not here."""
        with self._lock:
            _, decoded = self._kept.pop(key, (0.0, None))
        return decoded

    def _bytes(self) -> int:
        return sum(_bytes_of(decoded) for _, decoded in self._kept.values())

    def _forget_old(self) -> None:
        oldest = self._clock() - PATIENCE
        for key in [key for key, (since, _) in self._kept.items() if since < oldest]:
            del self._kept[key]


def _bytes_of(decoded: Decoded) -> int:
    return BYTES_A_PIXEL * decoded.picture.width * decoded.picture.height
