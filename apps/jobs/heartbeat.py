"""Saying again and again that this process is there."""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

logger = logging.getLogger(__name__)


class Heartbeat:
    """Calls ``beat`` at once and then every ``every`` seconds, in a daemon thread.

    Args:
        beat: says that this process is there.
        leave: says that it works no more.
        context: entered around each of the two (an application context).
    """

    def __init__(
        self,
        beat: Callable[[], object],
        leave: Callable[[], object],
        context: Callable[[], AbstractContextManager[object]],
        every: float,
    ) -> None:
        self._beat = beat
        self._leave = leave
        self._context = context
        self._every = every
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._well = True

    def start(self) -> None:
        """Begin; again is no error."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End, waiting up to ``timeout`` seconds for a beat under way, and say good-bye."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
            self._try(self._leave)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._try(self._beat)
            self._stopping.wait(self._every)

    def _try(self, call: Callable[[], object]) -> None:
        """The database may be away for a while: said once, not at every beat."""
        try:
            with self._context():
                call()
        except Exception:
            if self._well:
                logger.exception("heartbeat failed; trying again every %.0f s", self._every)
            self._well = False
        else:
            if not self._well:
                logger.info("heartbeat is back")
            self._well = True
