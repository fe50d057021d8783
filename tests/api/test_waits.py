"""Requests that wait for a result: some may hold a thread of the server, all others may not."""

import threading
import time
from types import SimpleNamespace

import pytest

from apps.api import waits
from apps.container import services
from tests.api.test_boxes import asks_as
from tests.api.test_rest import uploaded


@pytest.fixture
def program(app, bearer):
    return asks_as(app, bearer("ann"))


def test_only_some_requests_hold_a_thread_and_the_others_are_answered_at_once(
    app, program, bearer, monkeypatch
):
    monkeypatch.setattr(services(app).queue, "enqueue", lambda image_id: None)
    image_id = uploaded(program)
    hangs = threading.Semaphore(0)
    waits_now = threading.Semaphore(0)

    def sleep(_seconds: float) -> None:
        waits_now.release()
        assert hangs.acquire(timeout=20)

    monkeypatch.setattr(waits, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    headers = bearer("ann", "read")

    def ask(headers=headers) -> str:
        return asks_as(app, headers)("GET", f"/jobs/{image_id}?wait=30").json["status"]

    threads = [threading.Thread(target=ask) for _ in range(waits.OF_ONE)]
    for thread in threads:
        thread.start()
        assert waits_now.acquire(timeout=20)
    assert ask() == "queued"  # would hang
    monkeypatch.setitem(app.config, "THREADS", waits.SHARE * waits.OF_ONE)
    assert ask(bearer("ann", "read")) == "queued"
    with app.app_context():
        services(app).detections.run(image_id)
    for _ in threads:
        hangs.release()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert ask() == "done"
