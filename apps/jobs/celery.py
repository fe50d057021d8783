"""Jobs done by other processes, here or on other machines, woken up by messages (Celery).

The rows stay the queue: a message only names one that waits. So messages may be lost, doubled or
late, and a broker needs no disk.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from kombu import Exchange
from kombu import Queue as Messages

from apps.jobs import CLIP, DETECT, EXPORT, IMPORT

logger = logging.getLogger(__name__)

SWEEP = "sightbox.sweep"  # as those of the others: of a task, and of the queue that carries it
# Queues of their own, so that neither sweeps nor clips wait behind ten thousand pictures.
OTHERS = (SWEEP, CLIP, IMPORT, EXPORT)
QUEUES = {name: Messages(name, Exchange(name), name) for name in (DETECT, *OTHERS)}

TIMEOUT = 2.0  # seconds to reach the broker: a person waits for the upload
REST = 30.0  # seconds in which a broker that did not answer is left alone
REFILL = 1000  # messages that one sweep sends at most

# Once more at once, over a new connection: the pooled one dies when the broker restarts.
RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
REDIS = {
    # An unacknowledged message goes to another worker after this many seconds: more than any
    # detection takes (services.workers.STUCK_AFTER).
    "visibility_timeout": 3600,
    "socket_connect_timeout": TIMEOUT,
    "socket_timeout": TIMEOUT,  # more than the second for which a worker's read blocks
    "socket_keepalive": True,
}
AMQP = {"write_timeout": TIMEOUT}
# By the scheme of the address; an "s" at its end: over TLS.
BROKERS = {"redis": REDIS, "rediss": REDIS, "amqp": AMQP, "amqps": AMQP}


def make_celery(broker: str, sweep_seconds: float) -> Celery:
    """A Celery application for the broker at this address: ``redis://…``, ``amqp://…``.

    Args:
        sweep_seconds: how often Celery's beat asks for a sweep.
    """
    options: dict[str, Any] = BROKERS.get(broker.partition(":")[0], {})
    celery = Celery("sightbox", broker=broker, set_as_current=False)
    celery.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # Acknowledged when done, so that a message outlives a worker that dies with it.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,  # unless its command says otherwise
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the claim outlives the message
        task_default_queue=DETECT,
        task_queues=list(QUEUES.values()),
        task_routes={name: {"queue": name} for name in OTHERS},
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": sweep_seconds,
                "options": {"expires": 20 * sweep_seconds},  # no use when nobody worked for long
            }
        },
        beat_scheduler="celery.beat:Scheduler",  # keeps no file
        broker_connection_timeout=TIMEOUT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # workers and beat wait for a broker for ever
        broker_transport_options=options | RETRY,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return celery


class CeleryQueue:
    """Sends a message for each job; a broker that is away costs nothing but time until a sweep.

    Args:
        task: DETECT, CLIP, IMPORT or EXPORT; what its messages ask for.
    """

    works_here = False

    def __init__(self, celery: Celery, task: str = DETECT) -> None:
        self.celery = celery
        self.task = task
        self._silent_until = 0.0  # time.monotonic()
        self._away = False

    def enqueue(self, job_id: int) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            self.celery.send_task(self.task, (job_id,), retry=True, retry_policy=RETRY)
        except Exception as error:  # the row is committed: whatever it is, the upload succeeded
            self._silent_until = time.monotonic() + REST
            if not self._away:  # said once
                logger.warning("broker away; what waits is found by the next sweep: %s", error)
            self._away = True
        else:
            if self._away:
                logger.info("broker is back")
            self._away = False

    def start(self) -> None:
        """The work is done elsewhere."""

    def stop(self, timeout: float) -> None:
        """Nothing runs here."""

    def refill(self, waiting: int, oldest: Callable[[int], Iterable[int]]) -> int:
        """Send messages again where fewer are under way than jobs wait; how many.

        Which ones were lost, nobody knows. The oldest waiting jobs are named: theirs are the most
        likely ones, and a message too many does nothing. The number stays bounded, because what
        was sent counts as under way at the next sweep.

        Args:
            waiting: how many jobs wait.
            oldest: ids of that many of them, oldest first.
        """
        missing = min(waiting - self.messages(), REFILL)
        if missing <= 0:
            return 0
        for job_id in oldest(missing):
            self.enqueue(job_id)
        logger.info("sent again messages=%d waiting=%d", missing, waiting)
        return missing

    def messages(self) -> int:
        """How many messages for jobs no worker has taken yet."""
        with self.celery.connection_for_write() as connection, connection.channel() as channel:
            declared = QUEUES[self.task](channel).queue_declare()
        return int(declared.message_count)


class Pauses:
    """Pauses after jobs that have to wait: each twice as long, until a job is done.

    So a worker that lacks what the others have leaves them the queue. What threads of one worker
    find out together counts once.

    Args:
        first, longest: seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self.first = first
        self.longest = longest
        self.ending = threading.Event()  # ends the present one
        self._next = first

    def take(self, times: int = 1) -> None:
        """Pause.

        Args:
            times: how many times as long as the first pause it is at least.
        """
        present = self._next
        self.ending.wait(min(max(present, times * self.first), self.longest))
        if self._next == present:  # else another thread has paused as long, or done a job
            self._next = min(2 * present, self.longest)

    def forget(self) -> None:
        """A job was done: the next pause is a short one."""
        self._next = self.first
