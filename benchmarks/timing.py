"""One way to time things, for every benchmark."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def median_ratio(work: Work, baseline: Work, rounds: int) -> float:
    """Median of seconds of ``work`` / seconds of ``baseline``, measured in turns.

    In turns, because a shared machine is faster in one minute than in the next.
    """
    work()
    baseline()
    return statistics.median(_seconds(work) / _seconds(baseline) for _ in range(rounds))


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
