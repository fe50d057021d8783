"""What a worker does now, leaves to others or to later, and when that has an end."""

from datetime import datetime, timedelta

from apps.errors import AppError, OutOfMemory
from apps.jobs import TryLater
from apps.models import utcnow
from apps.vision.types import Engine

MAX_ATTEMPTS = 3
PATIENCE = timedelta(days=1)  # for a worker that has what this one lacks
COMPANY = timedelta(hours=1)  # in which other workers begin too
BEGUN = utcnow()  # this process

Errors = tuple[type[AppError], ...]


def can_work(engine: Engine) -> bool:
    """Whether pictures can be looked at; a device that was not there is looked for again.

    A driver may come late.
    """
    return engine.trouble is None or engine.try_device()


def waited_long(queued_at: datetime) -> bool:
    """Whether no worker that has the weights can be expected any more.

    Not soon after this process began: after a pause of days it may only be the first one.
    """
    return utcnow() - queued_at > PATIENCE and utcnow() - BEGUN > COMPANY


def wait_for_memory(error: OutOfMemory, attempt: int) -> None:
    """After a try that counts.

    Raises:
        TryLater: another one follows, after a longer pause each time.
    """
    if attempt < MAX_ATTEMPTS:
        raise TryLater(str(error), pauses=4**attempt) from None
