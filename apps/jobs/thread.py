"""Jobs done by threads of this process: the default, with nothing to install."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from apps.jobs import Next, Run, TryLater
from apps.jobs.heartbeat import Heartbeat

logger = logging.getLogger(__name__)


class ThreadQueue:
    """Works through the waiting rows, oldest first, in daemon threads.

    Several threads keep a detector busy: one unpacks a picture while another's is looked at, and
    pictures that are ready together share a batch.

    Args:
        run: does one job.
        next_job: finds the oldest waiting row that is not in hand.
        recover: called before the first thread looks for jobs, for rows that a crash left behind.
        context: entered around each of the three (an application context).
        poll: seconds after which it looks again without having been woken.
        threads: jobs at the same time.
        name: of the threads.
        heartbeat: tells other processes that this one is at work.
    """

    works_here = True

    def __init__(
        self,
        run: Run,
        next_job: Next,
        recover: Callable[[], object],
        context: Callable[[], AbstractContextManager[object]],
        poll: float,
        threads: int = 1,
        heartbeat: Heartbeat | None = None,
        name: str = "detector",
    ) -> None:
        self._run = run
        self._next_job = next_job
        self._recover = recover
        self._context = context
        self._poll = poll
        self._count = threads
        self._heartbeat = heartbeat
        self._name = name
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._choosing = threading.Lock()
        self._in_hand: set[int] = set()
        self._threads: list[threading.Thread] = []

    def enqueue(self, job_id: int) -> None:
        self.start()
        self._wake.set()

    def start(self) -> None:
        with self._starting:
            if self._threads or self._stopping.is_set():
                return
            self._threads = [
                threading.Thread(
                    target=self._loop,
                    args=(number == 0,),
                    name=f"{self._name}-{number}",
                    daemon=True,
                )
                for number in range(self._count)
            ]
            for thread in self._threads:
                thread.start()
            if self._heartbeat is not None:
                self._heartbeat.start()

    @property
    def stopping(self) -> bool:
        """Whether a job that can be interrupted should end soon."""
        return self._stopping.is_set()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        self._wake.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def _loop(self, first: bool) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before looking, so that a wake-up while looking is not lost
            try:
                with self._context():
                    if first:
                        self._recover()
                    while not self._stopping.is_set() and self._work_once():
                        pass
            except Exception:  # the database may be away for a moment; the thread must live on
                logger.exception("job queue failed; trying again in %.0f s", self._poll)
                self._stopping.wait(self._poll)
                continue
            self._wake.wait(self._poll)

    def _work_once(self) -> bool:
        """Whether to look for the next job at once."""
        with self._choosing:
            job_id = self._next_job(frozenset(self._in_hand))
            if job_id is None:
                return False
            self._in_hand.add(job_id)
        self._wake.set()  # there may be more, and the others sleep
        try:
            self._run(job_id)
        except TryLater as error:
            seconds = self._poll * error.pauses
            logger.warning("a job waits; trying again in %.0f s: %s", seconds, error)
            self._stopping.wait(seconds)  # still in hand, or another thread would try it at once
            return False  # the first thread recovers meanwhile
        finally:
            self._in_hand.discard(job_id)
        return True


class Ahead:
    """The next waiting row, looked up for several at a time: each look costs a transaction.

    A row may be done or gone when its turn comes, which whoever does its job finds out.

    Args:
        find: the oldest waiting rows, at most so many, but for some.
        limit: rows looked up at a time.
    """

    def __init__(self, find: Callable[[int, Collection[int]], list[int]], limit: int) -> None:
        self._find = find
        self._limit = limit
        self._found: deque[int] = deque()

    def __call__(self, but: Collection[int] = ()) -> int | None:
        """The next row that is not in ``but``, if any; called by one thread at a time."""
        while self._found:
            if (job_id := self._found.popleft()) not in but:
                return job_id
        self._found.extend(self._find(self._limit, but))
        return self._found.popleft() if self._found else None
