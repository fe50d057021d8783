"""Jobs done by one thread of this process: the default, with nothing to install."""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from apps.jobs import Next, Run, TryLater

logger = logging.getLogger(__name__)


class ThreadQueue:
    """Works through the waiting rows, oldest first, in one daemon thread.

    Args:
        run: does one job.
        next_job: finds the oldest waiting row.
        recover: called before it looks for jobs, for rows that a crash left behind.
        context: entered around each of the three (an application context).
        poll: seconds after which it looks again without having been woken.
    """

    def __init__(
        self,
        run: Run,
        next_job: Next,
        recover: Callable[[], object],
        context: Callable[[], AbstractContextManager[object]],
        poll: float,
    ) -> None:
        self._run = run
        self._next_job = next_job
        self._recover = recover
        self._context = context
        self._poll = poll
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def enqueue(self, job_id: int) -> None:
        self.start()
        self._wake.set()

    def start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._loop, name="detector", daemon=True)
                self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before looking, so that a wake-up while looking is not lost
            try:
                with self._context():
                    self._recover()
                    while not self._stopping.is_set() and self._work_once():
                        pass
            except TryLater as error:
                logger.warning("jobs wait; trying again in %.0f s: %s", self._poll, error)
                self._stopping.wait(self._poll)
                continue
            except Exception:  # the database may be away for a moment; the thread must live on
                logger.exception("job queue failed; trying again in %.0f s", self._poll)
                self._stopping.wait(self._poll)
                continue
            self._wake.wait(self._poll)

    def _work_once(self) -> bool:
        job_id = self._next_job()
        if job_id is None:
            return False
        self._run(job_id)
        return True
