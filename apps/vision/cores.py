"""CPU cores shared out among networks that run at the same time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def sleep_instead_of_spinning() -> None:
    """Let OpenMP's helper threads sleep while they have nothing to do, unless the user chose.

    By default they spin in between, on cores that uploads and other networks wait for. OpenMP
    reads this when torch is imported, so afterwards it changes nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class CoreShares:
    """Threads of torch for each of several networks that run at once.

    A small network gains little from a second core, and two of them side by side nearly double
    what is done.

    Args:
        cores: threads of all networks together.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._running = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """For one run in this thread: as many threads as the runs before it leave in fairness."""
        import torch

        with self._lock:
            self._running += 1
            threads = max(1, self.cores // self._running)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)  # of this thread alone
        try:
            yield
        finally:
            torch.set_num_threads(before)
            with self._lock:
                self._running -= 1
