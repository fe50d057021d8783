"""Work in a process of its own: what other work does to a process is not measured with it.

PyTorch's helper threads are one such thing: OpenMP lets them wait in another way as soon as several
threads of a process compute.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Self

from apps.vision.cores import wait_briefly

_work: list[Callable[..., object]] = []  # of this process, which is somebody's


def _prepare(make: Callable[..., Callable[..., object]], arguments: tuple[Any, ...]) -> None:
    _work.append(make(*arguments))


def _run(*arguments: Any) -> None:
    _work[0](*arguments)


class Beside:
    """The work that ``make(*arguments)`` gives, in a process of its own.

    Args:
        make: a function of a module; its arguments can be pickled.
        as_app: whether its threads wait as the application's do, and not as anybody's.
    """

    def __init__(
        self,
        make: Callable[..., Callable[..., object]],
        *arguments: Any,
        as_app: bool,
    ) -> None:
        before = dict(os.environ)
        if as_app:
            wait_briefly()  # libraries read it when they are loaded
        try:
            self._pool = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=_prepare, initargs=(make, arguments)
            )
            self._pool.submit(abs, 0).result()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def __call__(self, *arguments: Any) -> None:
        self._pool.submit(_run, *arguments).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
