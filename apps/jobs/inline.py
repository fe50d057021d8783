"""Jobs done at once, inside the call: for tests and scripts."""

import logging

from apps.jobs import Run, TryLater

logger = logging.getLogger(__name__)


class InlineQueue:
    """Runs each job where it is enqueued."""

    works_here = True

    def __init__(self, run: Run) -> None:
        self._run = run

    def enqueue(self, job_id: int) -> None:
        try:
            self._run(job_id)
        except TryLater as error:
            logger.warning("the job waits: %s", error)

    def start(self) -> None:
        """Nothing waits here."""

    def stop(self, timeout: float) -> None:
        """Nothing runs here."""
