"""CPU cores shared out among networks that run at the same time."""

import os
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

WAITING = {
    "OMP_WAIT_POLICY": "ACTIVE",
    "GOMP_SPINCOUNT": "1000",  # of GNU's OpenMP, which PyTorch brings along on Linux: some 10 µs
    "KMP_BLOCKTIME": "0",  # of LLVM's and Intel's: to sleep at once, else ACTIVE is for ever
}


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's helper threads sleep soon after they have nothing to do, unless the user chose.

    By default they spin for milliseconds, on cores that uploads and other networks wait for. But to
    wake one takes longer than most of the gaps between two operations of a small network.

    OpenMP reads this when torch is imported, so afterwards it changes nothing.
    """
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in WAITING.items():
            environment.setdefault(name, value)


class CoreShares:
    """Threads of torch for each of several networks that run at once.

    A small network gains little from a second core, and two of them side by side nearly double
    what is done. Under load they come and go all the time; one that took every core in the moment
    between two others would then wait for them at each of its steps, so a crowd counts for a
    while.

    Args:
        cores: threads of all networks together.
        clock: seconds that never go back.
    """

    REMEMBERED = 1.0  # seconds

    def __init__(self, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.cores = cores
        self._clock = clock
        self._running = 0
        self._crowd, self._crowd_seen = 1, float("-inf")
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """For one run in this thread: as many threads as the others leave in fairness."""
        import torch

        threads = self._begin()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)  # of this thread alone
        try:
            yield
        finally:
            torch.set_num_threads(before)
            with self._lock:
                self._running -= 1

    def _begin(self) -> int:
        with self._lock:
            self._running += 1
            now = self._clock()
            forgotten = now - self._crowd_seen > self.REMEMBERED
            if self._running >= self._crowd or forgotten:
                self._crowd, self._crowd_seen = self._running, now
            return max(1, self.cores // self._crowd)
