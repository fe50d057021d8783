"""Work of many threads done together: who comes first works for all who wait."""

import threading
import traceback
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from apps.errors import N_, Busy

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Job(Generic[Item, Result]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.taken = False  # by a batch
        self.settled = False
        self._called = threading.Semaphore(0)

    def end(self, result: Result | None = None, error: BaseException | None = None) -> None:
        self.result, self.error, self.settled = result, error, True

    def call(self) -> None:
        """Wake its thread: it is settled, or shall lead."""
        self._called.release()

    def wait(self) -> None:
        """Until somebody calls."""
        self._called.acquire()


class Batcher(Generic[Item, Result]):
    """Gathers what waits into batches, without a thread of its own and without waiting for more.

    Callers run the batches, as many at a time as there are lanes: their own item and others' that
    fit to it; the rest sleep. A lone caller is therefore never delayed, and under load batches
    grow by themselves.

    Args:
        run: does one batch, results in the order of the items.
        key: only items with equal keys share a batch.
        largest: how many items like this one a batch may have.
        capacity: callers that may wait at the same time.
        lanes: how many batches may run at the same time when one with this item begins.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        key: Callable[[Item], Hashable],
        largest: Callable[[Item], int],
        capacity: int,
        lanes: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._run = run
        self._key = key
        self._largest = largest
        self._lanes = lanes
        self.capacity = capacity
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # in the line
        self._waiting: list[_Job[Item, Result]] = []
        self._running = 0  # batches

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    def submit(self, item: Item, *, patient: bool = False) -> Result:
        """The result of ``item``; blocks until it is there.

        Args:
            patient: wait for a place in the line too.

        Raises:
            Busy: ``capacity`` others wait already.
            Exception: what ``run`` raised for this item alone.
        """
        job: _Job[Item, Result] = _Job(item)
        with self._lock:
            while len(self._waiting) >= self.capacity:
                if patient:
                    self._room.wait()
                    continue
                raise Busy(N_("The detector has more to do than it can take. Try again soon."))
            self._waiting.append(job)
            try:
                while not job.settled:
                    if job.taken or not self._is_lane_free():
                        self._sleep(job)
                    else:
                        self._lead(job)
            except BaseException:  # Ctrl-C: nobody waits for its item, and somebody else leads
                if not job.taken:
                    self._waiting.remove(job)
                    self._room.notify()
                self._call_leader()
                raise
        try:
            if job.error is not None:
                raise job.error
            return job.result  # type: ignore[return-value]
        finally:
            del job  # else error, traceback and this frame would hold each other

    def _is_lane_free(self) -> bool:
        """Whether somebody should lead the next batch; called with the lock."""
        first = self._waiting[0].item if self._waiting else None
        return first is not None and self._running < max(1, self._lanes(first))

    def _call_leader(self) -> None:
        """Wake one thread if a lane is free: waking all costs each a turn of Python's lock."""
        if self._is_lane_free():
            self._waiting[0].call()

    def _sleep(self, job: _Job[Item, Result]) -> None:
        """Until it is settled or shall lead; called with the lock, which is free meanwhile."""
        self._lock.release()
        try:
            job.wait()
        finally:
            self._lock.acquire()

    def _lead(self, leader: _Job[Item, Result]) -> None:
        """Run the next batch; called with the lock, which is free meanwhile."""
        batch = self._take()
        self._room.notify(len(batch))
        self._running += 1
        self._call_leader()
        self._lock.release()
        try:
            self._settle(batch)
        except BaseException as error:  # Ctrl-C in the thread that happened to lead
            for job in batch:
                if not job.settled:
                    job.end(error=RuntimeError(f"the batch was interrupted: {error!r}"))
            raise
        finally:
            self._lock.acquire()
            self._running -= 1
            for job in batch:
                if job is not leader:
                    job.call()
            self._call_leader()

    def _take(self) -> list[_Job[Item, Result]]:
        """The longest waiting job and others like it, a fair share for each lane."""
        first = self._waiting[0].item
        alike = [job for job in self._waiting if self._key(job.item) == self._key(first)]
        share = -(-len(alike) // max(1, self._lanes(first)))
        batch = alike[: max(1, min(share, self._largest(first)))]
        for job in batch:
            job.taken = True
        self._waiting = [job for job in self._waiting if not job.taken]
        return batch

    def _settle(self, batch: list[_Job[Item, Result]]) -> None:
        """Run ``batch``; if it fails, its halves, down to the item that cannot be done.

        So one bad item fails alone, and what does not fit into memory together is done apart.
        """
        try:
            results = self._run([job.item for job in batch])
        except Exception as error:
            if len(batch) == 1:
                traceback.clear_frames(error.__traceback__)  # they hold the tensors of the run
                batch[0].end(error=error)
                return
        else:
            for job, result in zip(batch, results, strict=True):
                job.end(result)
            return
        # Outside of the handler, whose traceback keeps the tensors of the failed run alive.
        middle = len(batch) // 2
        self._settle(batch[:middle])
        self._settle(batch[middle:])
