"""Answers that are held until something has ended: few at once, as each holds a thread."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flask import current_app

from apps.api.access import caller
from apps.extensions import db

T = TypeVar("T")
PAUSE = 0.15  # seconds between two looks
SHARE = 4  # one of so many threads of the server may wait
OF_ONE = 3  # requests of one token that may wait

_held: Counter[str] = Counter()  # requests of this process that wait, by token
_lock = threading.Lock()


def until(look: Callable[[], T], ended: Callable[[T], bool], seconds: float) -> T:
    """What ``look`` finds as soon as it has ``ended``, or as it is after ``seconds``.

    It is as it is at once where too many others wait, so that pages and cameras are answered.
    """
    found = look()
    if ended(found) or seconds <= 0:
        return found
    with _place() as free:
        ends = time.monotonic() + (seconds if free else 0)
        while not ended(found) and time.monotonic() < ends:
            db.session.commit()  # the next look shall see what others wrote
            time.sleep(PAUSE)
            found = look()
    return found


@contextmanager
def _place() -> Iterator[bool]:
    """Whether this request may hold its thread."""
    token = caller().token
    most = max(1, current_app.config["THREADS"] // SHARE)
    with _lock:
        free = _held.total() < most and _held[token] < OF_ONE
        _held[token] += free
    try:
        yield free
    finally:
        with _lock:
            _held[token] -= free
            if not _held[token]:
                del _held[token]
