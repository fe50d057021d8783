"""Jobs done at once, inside the call: for tests and scripts."""

from apps.jobs import Run


class InlineQueue:
    """Runs each job where it is enqueued."""

    works_here = True

    def __init__(self, run: Run) -> None:
        self._run = run

    def enqueue(self, job_id: int) -> None:
        self._run(job_id)

    def start(self) -> None:
        """Nothing waits here."""

    def stop(self, timeout: float) -> None:
        """Nothing runs here."""
