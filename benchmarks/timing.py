"""One way to time things, for every benchmark."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Medians over the rounds."""

    ratio: float  # seconds of the work / seconds of the baseline, of the same round
    work_ms: float
    baseline_ms: float


def median_ratio(work: Work, baseline: Work, rounds: int) -> float:
    """Median of seconds of ``work`` / seconds of ``baseline``, measured in turns."""
    return compare(work, baseline, rounds).ratio


def compare(work: Work, baseline: Work, rounds: int) -> Comparison:
    """Time both in turns, because a shared machine is faster in one minute than in the next.

    Every second round the baseline comes first: what follows suffers from what was before.
    """
    work()
    baseline()
    pairs = []
    for n in range(rounds):
        if n % 2:
            theirs = _seconds(baseline)
            pairs.append((_seconds(work), theirs))
        else:
            pairs.append((_seconds(work), _seconds(baseline)))
    return Comparison(
        statistics.median(mine / theirs for mine, theirs in pairs),
        1000 * statistics.median(mine for mine, _ in pairs),
        1000 * statistics.median(theirs for _, theirs in pairs),
    )


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
