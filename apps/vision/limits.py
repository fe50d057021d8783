"""How many pictures fit into one run of a network, as far as running out of memory has taught."""

import logging
import threading
from collections.abc import Hashable

logger = logging.getLogger(__name__)

GROW_AFTER = 100  # batches as large as allowed that went well


class BatchLimits:
    """Half as many after the memory ran out, because others may have taken it for a while; then
    slowly more again. Safe from every thread.

    Args:
        most: pictures in a batch that was never in trouble.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._limits: dict[Hashable, int] = {}
        self._well: dict[Hashable, int] = {}  # batches since the limit last changed

    def of(self, kind: Hashable) -> int:
        """Pictures in a batch of this kind at most."""
        return self._limits.get(kind, self.most)

    def too_many(self, kind: Hashable, count: int) -> None:
        """A batch of ``count`` pictures did not fit."""
        with self._lock:
            limit = max(1, min(count // 2, self.of(kind)))
            self._limits[kind], self._well[kind] = limit, 0
        logger.warning("out of memory, batches of at most %d now kind=%s", limit, kind)

    def went_well(self, kind: Hashable, count: int) -> None:
        """A batch of ``count`` pictures fitted."""
        if kind not in self._limits:
            return
        with self._lock:
            limit = self.of(kind)
            if limit >= self.most or count < limit:
                return
            self._well[kind] = self._well.get(kind, 0) + 1
            if self._well[kind] >= GROW_AFTER:
                self._limits[kind], self._well[kind] = limit + 1, 0
