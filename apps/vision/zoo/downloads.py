"""Downloads in the background of a process, for pages that must answer at once."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from apps.errors import N_, AppError, Conflict, WeightsError
from apps.vision.zoo.store import Progress, WeightsFile, WeightsStore

logger = logging.getLogger(__name__)

LOOK = 60.0  # seconds between two looks whether there is something to fetch
FIRST_PAUSE, LONGEST_PAUSE = 600.0, 6 * 3600.0  # seconds after one failure, and after many
BROKEN = N_("The download of %(file)s failed; the server's log has the details.")


@dataclass(frozen=True, slots=True)
class Download:
    """The present or last download of one file, whichever process runs it."""

    running: bool
    progress: Progress | None = None
    error: AppError | None = None


class Downloads:
    """One thread for each file that is being fetched; asking again while it runs does nothing."""

    def __init__(self, store: WeightsStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._states: dict[str, Download] = {}

    def start(self, file: WeightsFile) -> None:
        """Begin to fetch ``file``; returns at once."""
        if self._begin(file):
            name = f"download-{file.name}"
            threading.Thread(target=self._run, args=(file,), name=name, daemon=True).start()

    def run(self, file: WeightsFile) -> bool | None:
        """The same in the present thread; whether it went well. None: somebody else is at it."""
        return self._run(file) if self._begin(file) else None

    def state(self, file: WeightsFile) -> Download | None:
        """How far ``file`` is, here or in another process; None if nothing is known of any."""
        own = self._states.get(file.name)
        if own is not None and own.running:
            return own
        progress = self._store.underway(file)
        if progress is not None:
            return Download(running=True, progress=progress)
        error = self._store.failure(file)
        return Download(running=False, error=error) if error is not None else own

    def _begin(self, file: WeightsFile) -> bool:
        with self._lock:
            state = self._states.get(file.name)
            if state is not None and state.running:
                return False
            self._states[file.name] = Download(running=True)
        return True

    def _run(self, file: WeightsFile) -> bool | None:
        def report(progress: Progress) -> None:
            self._states[file.name] = Download(running=True, progress=progress)

        try:
            self._store.fetch(file, report)
        except Conflict:  # whoever has it tells how it ends
            self._states[file.name] = Download(running=False)
            return None
        except AppError as error:
            logger.warning("download failed file=%s reason=%s", file.name, error)
            return self._failed(file, error)
        except Exception:
            logger.exception("download failed file=%s", file.name)
            unknown = WeightsError(BROKEN, file=file.name)
            self._store.keep_failure(file, unknown)
            return self._failed(file, unknown)
        self._states[file.name] = Download(running=False)
        return True

    def _failed(self, file: WeightsFile, error: AppError) -> bool:
        """Remembers ``error`` only where the folder does not: another process may do better."""
        kept = self._store.failure(file) is not None
        self._states[file.name] = Download(running=False, error=None if kept else error)
        return False


class Attempts:
    """When to try what may fail: at most every ``LOOK`` seconds, later and later after failures.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock()
        self._failures = 0

    def due(self) -> bool:
        """Whether it is time; only one of those who ask at once is told so."""
        with self._lock:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + LOOK
            return True

    def failed(self) -> None:
        with self._lock:
            pause = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
            self._failures = min(self._failures + 1, 10)
            self._next = self._clock() + pause

    def worked(self) -> None:
        with self._lock:
            self._failures = 0
