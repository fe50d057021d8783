"""Downloads in the background of a process, for pages that must answer at once."""

import logging
import threading
from dataclasses import dataclass

from apps.errors import AppError
from apps.vision.zoo.store import Progress, WeightsFile, WeightsStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """The present or last download of one file in this process."""

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
        with self._lock:
            if self._running(file):
                return
            self._states[file.name] = Download(running=True)
        name = f"download-{file.name}"
        threading.Thread(target=self._run, args=(file,), name=name, daemon=True).start()

    def state(self, file: WeightsFile) -> Download | None:
        """How far ``file`` is; None if this process never began to fetch it."""
        return self._states.get(file.name)

    def _running(self, file: WeightsFile) -> bool:
        state = self._states.get(file.name)
        return state is not None and state.running

    def _run(self, file: WeightsFile) -> None:
        def report(progress: Progress) -> None:
            self._states[file.name] = Download(running=True, progress=progress)

        try:
            self._store.fetch(file, report)
        except AppError as error:
            logger.warning("download failed file=%s reason=%s", file.name, error)
            self._states[file.name] = Download(running=False, error=error)
        except Exception:
            logger.exception("download failed file=%s", file.name)
            self._states.pop(file.name, None)
        else:
            self._states[file.name] = Download(running=False)
