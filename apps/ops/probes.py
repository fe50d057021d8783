"""Questions that may never be answered: a database behind a dead network, a disk that hangs."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from flask import Flask

from apps.extensions import only_reading

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Probe(Generic[T]):
    """Asks one question in a thread of its own and waits only so long for the answer.

    Who asks while the question is still open waits for the same answer, so that a thread which
    hangs is one thread however often it is asked.

    Args:
        name: for the log.
        ask: runs in an application context that only reads.
    """

    def __init__(self, app: Flask, name: str, ask: Callable[[], T]) -> None:
        self._app = app
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._open: Future[T] | None = None

    def start(self) -> "Future[T]":
        """Begin to ask; the answer, or the error, comes with the future."""
        with self._lock:
            if self._open is None or self._open.done():
                self._open = Future()
                arguments = (self._open,)
                threading.Thread(
                    target=self._run, args=arguments, name=f"probe {self._name}", daemon=True
                ).start()
            return self._open

    def answer(self, seconds: float) -> T | None:
        """The answer, or None if it failed or took longer than ``seconds``; the log says why."""
        return self.wait(self.start(), seconds)

    def wait(self, future: "Future[T]", seconds: float) -> T | None:
        """``answer`` for a question that was begun before."""
        try:
            return future.result(max(seconds, 0))
        except Exception as error:  # whatever it is, somebody wants to know how the rest is
            kind, text = type(error).__name__, " ".join(str(error).split())
            logger.warning("not ready check=%s error=%s %s", self._name, kind, text)
            return None

    def _run(self, future: "Future[T]") -> None:
        try:
            with self._app.app_context():
                only_reading()
                answer = self._ask()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(answer)
