"""When and where work happens. The rows are the queue; what is here only wakes somebody up."""

from collections.abc import Callable, Collection
from typing import Protocol

DETECT = "sightbox.detect"  # names of kinds of work
CLIP = "sightbox.clip"
IMPORT = "sightbox.import"
EXPORT = "sightbox.export"

Run = Callable[[int], None]  # does the job of one row; doing it twice does nothing more
Next = Callable[[Collection[int]], int | None]  # the oldest waiting row but for these, if any


class TryLater(Exception):
    """Raised by a job that waits again: pause before the next one.

    Args:
        reason: for the log.
        pauses: how many times as long as usual the pause is.
    """

    def __init__(self, reason: str, pauses: int = 1) -> None:
        super().__init__(reason)
        self.pauses = pauses


class Queue(Protocol):
    """A way to have a job done soon."""

    works_here: bool  # whether this process does the jobs

    def enqueue(self, job_id: int) -> None:
        """Say that the committed row ``job_id`` waits. Losing this call loses nothing."""
        ...

    def start(self) -> None:
        """Begin to work, if work happens in this process; again is no error."""
        ...

    def stop(self, timeout: float) -> None:
        """Take no further job and wait up to ``timeout`` seconds for the present one."""
        ...
