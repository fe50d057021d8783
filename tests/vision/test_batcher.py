import threading
from collections.abc import Sequence

import pytest

from apps.errors import Busy
from apps.vision import batcher
from apps.vision.batcher import Batcher

PATIENCE = 20  # seconds for something that comes at once unless it is broken


class Line:
    """A batcher of numbers whose first batch waits until it is told to go on."""

    def __init__(
        self, capacity: int = 100, largest: int = 4, bad: Sequence[int] = (), lanes: int = 1
    ) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.bad = bad
        self.batcher: Batcher[int, int] = Batcher(
            self.run,
            key=lambda number: number % 2,
            largest=lambda _: largest,
            capacity=capacity,
            lanes=lambda _: lanes,
        )
        self.results: dict[int, object] = {}

    def run(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.entered.set()
        self.go.wait(PATIENCE)
        if set(numbers) & set(self.bad):
            raise ValueError(f"{[number for number in numbers if number in self.bad]}")
        return [number * 10 for number in numbers]

    def ask(self, number: int, *, patient: bool = False) -> None:
        try:
            self.results[number] = self.batcher.submit(number, patient=patient)
        except BaseException as error:
            self.results[number] = error

    def crowd(self, *numbers: int) -> list[threading.Thread]:
        """Threads that ask for ``numbers`` while the batch of 0 is at work, in this order."""
        first = threading.Thread(target=self.ask, args=(0,))
        first.start()
        assert self.entered.wait(PATIENCE)
        return [first, *self.crowd_behind(*numbers)]

    def crowd_behind(self, *numbers: int) -> list[threading.Thread]:
        """Threads that ask for ``numbers`` and find no lane free, in this order."""
        threads = []
        for number in numbers:
            thread = threading.Thread(target=self.ask, args=(number,))
            before = self.batcher.waiting
            thread.start()
            threads.append(thread)
            while self.batcher.waiting == before:
                pass
        return threads

    def finish(self, threads: list[threading.Thread]) -> None:
        self.go.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)


def test_one_caller_is_a_batch_of_one():
    line = Line()
    line.go.set()
    line.ask(7)
    assert line.batches == [[7]]
    assert line.results == {7: 70}


def test_what_waits_is_done_together_with_its_like_oldest_first():
    line = Line(largest=3)
    line.finish(line.crowd(2, 1, 4, 6, 3, 8))
    assert line.batches == [[0], [2, 4, 6], [1, 3], [8]]
    assert line.results == {number: number * 10 for number in (0, 2, 1, 4, 6, 3, 8)}


def test_two_lanes_work_side_by_side_and_share_what_waits():
    line = Line(lanes=2)
    line.entered.set()
    both = threading.Barrier(2, timeout=PATIENCE)
    real = line.run

    def run(numbers):
        if numbers[0] in (0, 1):
            both.wait()  # the first two only go on together
        return real(numbers)

    line.batcher._run = run
    first = [threading.Thread(target=line.ask, args=(number,)) for number in (0, 1)]
    for thread in first:
        thread.start()
    while len(line.batches) < 2:
        pass
    threads = line.crowd_behind(2, 4, 6, 8)
    line.finish([*first, *threads])
    assert sorted(line.batches[:2]) == [[0], [1]]
    assert line.batches[2:] == [[2, 4], [6], [8]]
    assert line.results == {number: number * 10 for number in (0, 1, 2, 4, 6, 8)}


def test_a_bad_item_fails_alone():
    line = Line(largest=8, bad=[6])
    line.finish(line.crowd(2, 4, 6, 8, 10))
    error = line.results.pop(6)
    assert isinstance(error, ValueError)
    assert str(error) == "[6]"
    assert line.results == {number: number * 10 for number in (0, 2, 4, 8, 10)}


def test_a_batch_that_is_too_large_is_halved_until_it_fits():
    line = Line(largest=8)
    real = line.run

    def run(numbers):
        if len(numbers) > 2:
            raise MemoryError
        return real(numbers)

    line.batcher._run = run
    line.finish(line.crowd(2, 4, 6, 8, 10))
    assert line.batches == [[0], [2, 4], [6], [8, 10]]
    assert line.results[10] == 100


def test_a_full_line_says_busy_at_once_and_nothing_is_lost():
    line = Line(capacity=2)
    threads = line.crowd(2, 4)
    with pytest.raises(Busy) as caught:
        line.batcher.submit(6)
    assert caught.value.status == 503
    line.finish(threads)
    assert line.results == {0: 0, 2: 20, 4: 40}
    line.ask(6)
    assert line.results[6] == 60


def test_a_patient_caller_waits_for_a_place():
    line = Line(capacity=1)
    threads = line.crowd(2)
    patient = threading.Thread(target=line.ask, args=(4,), kwargs={"patient": True})
    patient.start()
    line.finish([*threads, patient])
    assert line.results == {0: 0, 2: 20, 4: 40}


def test_an_interrupted_batch_leaves_nobody_waiting_for_ever():
    line = Line()
    threads = line.crowd(2, 4)

    def stop(numbers):
        raise KeyboardInterrupt

    real, line.batcher._run = line.batcher._run, stop
    line.finish(threads)
    ends = {type(line.results[2]), type(line.results[4])}
    assert ends == {KeyboardInterrupt, RuntimeError}  # of the one that led, and of the other
    line.batcher._run = real
    line.ask(8)
    assert line.results[8] == 80


def test_who_is_stopped_before_its_batch_begins_leaves_the_line_to_the_next():
    line = Line()
    threads = line.crowd(2, 1)

    def stop(number: int) -> int:
        if number == 2:
            raise KeyboardInterrupt
        return 4

    line.batcher._largest = stop
    line.finish(threads)
    assert isinstance(line.results[2], KeyboardInterrupt)
    assert line.results[1] == 10
    assert line.batcher.waiting == 0


def test_who_is_stopped_in_the_line_leaves_its_place(monkeypatch):
    line = Line(capacity=1)
    threads = line.crowd()

    def stop(_job: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batcher._Job, "wait", stop)
        line.ask(2)
    assert isinstance(line.results[2], KeyboardInterrupt)
    line.finish([*threads, *line.crowd_behind(4)])
    assert line.results[4] == 40
