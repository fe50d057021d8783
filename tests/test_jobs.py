import io
import os
import threading
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from apps.container import services
from apps.errors import NotFound, OutOfMemory, WeightsError
from apps.extensions import db
from apps.jobs import TryLater
from apps.jobs.celery import Pauses
from apps.jobs.thread import Ahead, ThreadQueue
from apps.models import Detection, Image, ImageStatus, utcnow
from apps.services import trying
from apps.services.trying import MAX_ATTEMPTS
from apps.services.workers import STUCK_AFTER, _birth, worker_name
from apps.vision.decode import decode
from apps.vision.handover import Handover
from tests.conftest import picture_bytes

PATIENCE = 20  # seconds a test waits for an event that comes at once, unless something is broken


def state(app, image_id) -> Image:
    with app.app_context():
        return db.session.get_one(Image, image_id)


def put(app, image_id, **values) -> None:
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        for name, value in values.items():
            setattr(image, name, value)
        db.session.commit()


def break_engine(app, error: Exception) -> list[int]:
    calls: list[int] = []

    def script(picture):
        calls.append(1)
        raise error

    services(app).detections.engine.script = script
    return calls


# -- one row -------------------------------------------------------------------------------


def test_a_detector_in_the_same_process_takes_what_the_upload_has_unpacked(app, ann, upload):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED)
    handover = Handover()
    with app.app_context():
        key = db.session.get_one(Image, image_id).original_key
        with services(app).storage.open(key) as file:
            handover.put(key, decode(file.read()))
        services(app).storage.delete(key)
        replace(services(app).detections, handover=handover).run(image_id)
        assert handover.take(key) is None
    assert state(app, image_id).status is ImageStatus.DONE


def test_an_upload_hands_over_what_it_has_unpacked(app, make_user):
    handover = Handover()
    owner_id = make_user()
    with app.app_context():
        uploads = replace(services(app).uploads, handover=handover)
        image = uploads.upload(owner_id, "cat.png", io.BytesIO(picture_bytes(format="PNG")))
        decoded = handover.take(image.original_key)
        assert decoded is not None
        assert decoded.size == (image.width, image.height)


def test_a_detection_that_fails_is_tried_three_times_and_then_fails_for_good(app, ann, upload):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED, attempts=0)
    calls = break_engine(app, RuntimeError("out of luck"))
    for attempt in range(1, MAX_ATTEMPTS + 2):
        with app.app_context():
            services(app).detections.run(image_id)
        expected = ImageStatus.QUEUED if attempt < MAX_ATTEMPTS else ImageStatus.FAILED
        assert state(app, image_id).status is expected
    assert len(calls) == MAX_ATTEMPTS
    assert "three times" in state(app, image_id).error
    assert "out of luck" not in ann.get(f"/images/{image_id}").text
    assert "Detection failed." in ann.get(f"/images/{image_id}").text


def test_a_failure_keeps_the_earlier_boxes(app, ann, upload):
    image_id = upload(ann)
    break_engine(app, RuntimeError())
    ann.post(f"/detect/{image_id}")
    with app.app_context():
        assert len(db.session.scalars(select(Detection)).all()) == 2


def test_detect_again_gives_a_failed_picture_three_new_tries(app, ann, upload):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.FAILED, attempts=3, error="x")
    ann.post(f"/detect/{image_id}")
    assert state(app, image_id).status is ImageStatus.DONE
    assert state(app, image_id).error is None
    assert state(app, image_id).attempts == 1


def test_running_a_picture_twice_detects_it_once(app, ann, upload):
    image_id = upload(ann)
    calls = break_engine(app, RuntimeError())
    with app.app_context():
        services(app).detections.run(image_id)  # done already: not claimed
        services(app).detections.run(4711)
    assert calls == []


def test_no_transaction_is_open_while_the_engine_works(app, ann, upload):
    seen = []

    def script(picture):
        seen.append(db.session.registry.has() and db.session().in_transaction())
        return ()

    services(app).detections.engine.script = script
    upload(ann)
    assert seen == [False]


def storage_fails(app, monkeypatch, *actions: str) -> None:
    def fail(*_: object) -> None:
        raise OSError("away")

    for action in actions:
        monkeypatch.setattr(type(services(app).storage), action, fail)


def test_a_picture_waits_without_losing_a_try_while_the_storage_is_away(
    app, ann, upload, monkeypatch
):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED, attempts=MAX_ATTEMPTS - 1)
    with monkeypatch.context() as patch:
        storage_fails(app, patch, "open", "check")
        for _ in range(MAX_ATTEMPTS + 1):
            with app.app_context(), pytest.raises(TryLater):
                services(app).detections.run(image_id)
            found = state(app, image_id)
            assert (found.status, found.attempts) == (ImageStatus.QUEUED, MAX_ATTEMPTS - 1)
            assert found.claimed_by is None
    with app.app_context():
        services(app).detections.run(image_id)
    assert state(app, image_id).status is ImageStatus.DONE


MISSING = [WeightsError("The weights w are missing."), NotFound("There is no model own.x.")]


@pytest.mark.parametrize("error", MISSING)
def test_a_worker_without_the_weights_leaves_the_picture_to_others(
    make_app, app, ann, upload, error, monkeypatch
):
    worker = services(make_app(QUEUE="celery", CELERY_BROKER_URL="memory://")).detections
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED, attempts=0)
    break_engine(app, error)
    here = replace(services(app).detections, local_errors=worker.local_errors)
    for _ in range(MAX_ATTEMPTS + 1):
        with app.app_context():
            here.run(image_id)  # without a pause: the others' pictures need this worker
    found = state(app, image_id)
    assert (found.status, found.attempts) == (ImageStatus.QUEUED, 0)
    put(app, image_id, queued_at=utcnow() - trying.PATIENCE)
    with app.app_context():
        here.run(image_id)
    assert state(app, image_id).status is ImageStatus.QUEUED  # the first worker after a pause
    monkeypatch.setattr(trying, "BEGUN", utcnow() - trying.COMPANY)
    with app.app_context():
        here.run(image_id)
    found = state(app, image_id)
    assert (found.status, found.error) == (ImageStatus.FAILED, str(error))


@pytest.mark.parametrize("error", MISSING)
def test_without_other_workers_missing_weights_fail_the_picture(app, ann, upload, error):
    image_id = upload(ann)
    break_engine(app, error)
    ann.post(f"/detect/{image_id}")
    found = state(app, image_id)
    assert (found.status, found.error) == (ImageStatus.FAILED, str(error))


def test_a_picture_that_does_not_fit_into_memory_is_tried_three_times_with_longer_pauses(
    app, ann, upload
):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED, attempts=0)
    break_engine(app, OutOfMemory("There is not enough memory."))
    pauses = []
    for _ in range(MAX_ATTEMPTS - 1):
        with app.app_context(), pytest.raises(TryLater) as caught:
            services(app).detections.run(image_id)
        pauses.append(caught.value.pauses)
        assert state(app, image_id).status is ImageStatus.QUEUED
    assert pauses == [4, 16]
    with app.app_context():
        services(app).detections.run(image_id)
    found = state(app, image_id)
    assert (found.status, found.error) == (ImageStatus.FAILED, "There is not enough memory.")


def test_a_worker_that_can_do_no_job_asks_less_and_less_often():
    seconds = []
    pauses = Pauses(5, 60)
    pauses.ending.wait = seconds.append  # type: ignore[assignment, method-assign]
    for _ in range(6):
        pauses.take()
    pauses.forget()
    pauses.take()
    assert seconds == [5, 10, 20, 40, 60, 60, 5]


def test_a_job_that_is_done_during_a_pause_ends_the_long_ones():
    seconds = []
    pauses = Pauses(5, 60)

    def wait(pause: float) -> None:
        seconds.append(pause)
        if pause == 10:
            pauses.forget()  # as another thread does

    pauses.ending.wait = wait  # type: ignore[assignment, method-assign]
    for _ in range(4):
        pauses.take()
    assert seconds == [5, 10, 5, 10]


def test_threads_that_can_do_no_job_together_pause_equally_long():
    seconds, together = [], threading.Barrier(4)
    pauses = Pauses(5, 60)

    def wait(pause: float) -> None:
        seconds.append(pause)
        together.wait(PATIENCE)  # passes when all of them pause

    pauses.ending.wait = wait  # type: ignore[assignment, method-assign]

    def fail_twice() -> None:
        pauses.take()
        together.wait(PATIENCE)
        pauses.take()

    threads = [threading.Thread(target=fail_twice) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert seconds == [5] * 4 + [10] * 4


def test_one_file_that_cannot_be_read_does_not_hold_up_the_others(app, ann, upload, monkeypatch):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.QUEUED, attempts=0)
    storage_fails(app, monkeypatch, "open")  # the storage itself works
    for _ in range(MAX_ATTEMPTS):
        with app.app_context():
            services(app).detections.run(image_id)
    assert state(app, image_id).status is ImageStatus.FAILED


def test_a_result_that_comes_after_its_claim_was_lost_is_dropped(app, ann, upload):
    image_id = upload(ann)

    def script(picture):
        put(app, image_id, attempts=7)  # somebody else claimed it meanwhile
        return ()

    services(app).detections.engine.script = script
    ann.post(f"/detect/{image_id}")
    assert state(app, image_id).status is ImageStatus.RUNNING
    with app.app_context():
        assert len(db.session.scalars(select(Detection)).all()) == 2  # the earlier ones


def test_a_picture_deleted_while_it_is_looked_at_is_no_error(app, ann, upload):
    image_id = upload(ann)

    def script(picture):
        with app.app_context():
            services(app).images.delete([image_id])
        return ()

    services(app).detections.engine.script = script
    assert ann.post(f"/detect/{image_id}").status_code == 303
    assert ann.get(f"/images/{image_id}").status_code == 404


# -- after a crash -------------------------------------------------------------------------

HOST, PID, PLACE, BIRTH = worker_name().split(":")
DEAD = f"{HOST}:99999999:{PLACE}:x"  # above the largest process number
PARENT = f"{HOST}:{os.getppid()}:{PLACE}:{_birth(os.getppid())}"  # alive


@pytest.mark.parametrize(
    ("claimed_by", "age", "moved"),
    [
        (DEAD, timedelta(0), True),  # its process is gone
        (worker_name(), timedelta(0), True),  # a job of ours whose end could not be written
        (f"{HOST}:{PID}:{PLACE}:earlier", timedelta(0), True),  # an earlier one had our number
        (PARENT, timedelta(0), False),
        (f"{HOST}:{os.getppid()}:{PLACE}:earlier", timedelta(0), True),  # the number once more
        ("another-host:1:x:1", timedelta(0), True),  # this machine had another name: a local file
        (f"{HOST}:{PID}:{BIRTH}", timedelta(0), True),  # as an earlier version wrote it
        ("nonsense", timedelta(0), True),
        (PARENT, STUCK_AFTER * 2, True),
        (None, timedelta(0), True),
    ],
)
def test_rows_of_a_stopped_process_go_back_to_the_queue(app, ann, upload, claimed_by, age, moved):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.RUNNING, claimed_by=claimed_by, claimed_at=utcnow() - age)
    with app.app_context():
        assert services(app).detections.recover() == int(moved)
    expected = ImageStatus.QUEUED if moved else ImageStatus.RUNNING
    assert state(app, image_id).status is expected


def test_what_another_thread_of_this_process_looks_at_stays_with_it(app, ann, upload):
    moved = []

    def script(picture):
        recover = threading.Thread(target=lambda: moved.append(_recovered(app)))
        recover.start()
        recover.join(PATIENCE)
        return ()

    services(app).detections.engine.script = script
    image_id = upload(ann)
    assert moved == [0]
    assert state(app, image_id).attempts == 1
    assert state(app, image_id).status is ImageStatus.DONE


def _recovered(app) -> int:
    with app.app_context():
        return services(app).detections.recover()


def test_a_picture_that_stops_the_process_three_times_fails_for_good(app, ann, upload):
    image_id = upload(ann)
    put(
        app, image_id, status=ImageStatus.RUNNING, attempts=3, claimed_by=DEAD, claimed_at=utcnow()
    )  # fmt: skip
    with app.app_context():
        services(app).detections.recover()
    assert state(app, image_id).status is ImageStatus.FAILED
    assert "stopped three times" in state(app, image_id).error


def test_the_thread_takes_up_what_a_crash_left_behind(make_app, app, ann, upload):
    image_id = upload(ann)
    put(app, image_id, status=ImageStatus.RUNNING, claimed_by=DEAD, claimed_at=utcnow())
    again = make_app(
        QUEUE="thread",
        QUEUE_POLL_SECONDS=60,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{app.instance_path}/testing.sqlite",
        STORAGE_ROOT=app.config["STORAGE_ROOT"],
    )
    detected = threading.Event()
    services(again).detections.engine.script = lambda picture: detected.set() or ()
    assert again.test_client().get("/").status_code == 200  # the first request starts the thread
    assert detected.wait(PATIENCE)
    services(again).queue.stop(PATIENCE)
    assert state(app, image_id).status is ImageStatus.DONE


# -- the thread ----------------------------------------------------------------------------


class Rows:
    """Job numbers in memory, in place of a table."""

    def __init__(self, *numbers: int) -> None:
        self.waiting = list(numbers)
        self.done: list[int] = []
        self.empty = threading.Event()

    def next(self, but: Collection[int]) -> int | None:
        if not self.waiting:
            self.empty.set()
        return next((number for number in self.waiting if number not in but), None)

    def run(self, number: int) -> None:
        self.waiting.remove(number)
        self.done.append(number)


def make_queue(rows: Rows, **changes) -> ThreadQueue:
    values: dict[str, Any] = {
        "run": rows.run,
        "next_job": rows.next,
        "recover": lambda: None,
        "context": nullcontext,
        "poll": 60.0,
    }
    return ThreadQueue(**(values | changes))


def test_the_thread_works_through_what_waits_in_order():
    rows = Rows(3, 1, 2)
    queue = make_queue(rows)
    queue.start()
    queue.start()  # again is no error, and no second thread
    assert rows.empty.wait(PATIENCE)
    queue.stop(PATIENCE)
    assert rows.done == [3, 1, 2]


def test_rows_are_looked_up_several_at_a_time_and_none_that_is_in_hand_is_given_twice():
    waiting, looks = [1, 2, 3, 4, 5], []

    def find(limit: int, but: Collection[int]) -> list[int]:
        looks.append(set(but))
        return [number for number in waiting if number not in but][:limit]

    following = Ahead(find, 3)
    assert [following(), following({1})] == [1, 2]
    assert following({1, 2, 3}) == 4  # another thread has taken 3 meanwhile
    waiting[:] = []
    assert following({4}) == 5  # looked up with 4: whoever does it finds out that it is gone
    assert following({4}) is None
    assert looks == [set(), {1, 2, 3}, {4}]


def test_enqueue_wakes_the_thread():
    rows = Rows()
    queue = make_queue(rows)
    queue.start()
    assert rows.empty.wait(PATIENCE)
    rows.empty.clear()
    rows.waiting.append(9)
    queue.enqueue(9)
    assert rows.empty.wait(PATIENCE)
    queue.stop(PATIENCE)
    assert rows.done == [9]


def test_the_thread_survives_a_database_that_is_away_for_a_moment():
    rows = Rows(5)
    failures = [OSError("away")]

    def next_job(but):
        if failures:
            raise failures.pop()
        return rows.next(but)

    queue = make_queue(rows, next_job=next_job, poll=0.01)
    queue.start()
    assert rows.empty.wait(PATIENCE)
    queue.stop(PATIENCE)
    assert rows.done == [5]


def test_the_thread_pauses_for_a_job_that_waits_and_does_it_later():
    rows = Rows(5)
    failures = [TryLater("the storage is away")]

    def run(number):
        if failures:
            raise failures.pop()
        rows.run(number)

    queue = make_queue(rows, run=run, poll=0.01)
    queue.start()
    assert rows.empty.wait(PATIENCE)
    queue.stop(PATIENCE)
    assert rows.done == [5]


def test_what_others_left_behind_is_taken_back_while_every_job_waits():
    recovered: list[int] = []
    again = threading.Event()

    def recover() -> None:
        recovered.append(1)
        if len(recovered) > 2:
            again.set()

    def run(number):
        raise TryLater("the storage is away")

    queue = make_queue(Rows(), run=run, next_job=lambda but: 1, recover=recover, poll=0.001)
    queue.start()
    assert again.wait(PATIENCE)
    queue.stop(PATIENCE)


def test_a_job_that_waits_is_left_alone_by_the_other_threads_meanwhile():
    runs: list[int] = []
    left_alone = threading.Event()

    def run(number):
        runs.append(number)
        raise TryLater("no memory", pauses=10**6)

    def next_job(but):
        if runs and 1 in but:
            left_alone.set()
        return None if 1 in but else 1

    queue = make_queue(Rows(), run=run, next_job=next_job, poll=0.01, threads=2)
    queue.start()
    assert left_alone.wait(PATIENCE)
    queue.stop(PATIENCE)
    assert runs == [1]


def test_a_stopped_queue_takes_no_further_job():
    rows = Rows(1, 2)
    entered, leave = threading.Event(), threading.Event()

    def run(number):
        rows.run(number)
        entered.set()
        leave.wait(PATIENCE)

    queue = make_queue(rows, run=run)
    queue.start()
    assert entered.wait(PATIENCE)
    stopper = threading.Thread(target=queue.stop, args=(PATIENCE,))
    stopper.start()
    while not queue._stopping.is_set():
        pass
    leave.set()
    stopper.join(PATIENCE)
    queue.enqueue(2)
    assert rows.done == [1]


def test_several_threads_have_different_jobs_in_hand_and_all_are_woken():
    rows = Rows()
    together = threading.Barrier(3)

    def run(number):
        together.wait(PATIENCE)  # passes only when three jobs are in hand at once
        rows.run(number)

    queue = make_queue(rows, run=run, threads=3)
    queue.start()
    assert rows.empty.wait(PATIENCE)
    rows.waiting.extend([1, 2, 3])
    queue.enqueue(1)  # one wake-up alone
    assert rows_done(rows, 3)
    queue.stop(PATIENCE)
    assert sorted(rows.done) == [1, 2, 3]


def rows_done(rows: Rows, number: int) -> bool:
    rows.empty.clear()
    return rows.empty.wait(PATIENCE) and len(rows.done) == number


def test_a_picture_in_hand_is_not_taken_for_one_that_a_crash_left(app, ann, upload):
    image_id = upload(ann)
    moved = []

    def script(picture):
        with app.app_context():
            moved.append(services(app).detections.recover())
        return ()

    services(app).detections.engine.script = script
    ann.post(f"/detect/{image_id}")
    assert moved == [0]
    assert state(app, image_id).status is ImageStatus.DONE


def test_while_the_engine_cannot_work_pictures_stay_queued(app, ann, upload):
    engine = services(app).detections.engine
    engine.state = replace(engine.state, trouble="The device cuda stopped working.")
    image_id = upload(ann)
    assert state(app, image_id).status is ImageStatus.QUEUED
    with app.app_context():
        assert services(app).detections.next_queued() is None
        services(app).detections.run(image_id)
    assert state(app, image_id).status is ImageStatus.QUEUED
    engine.try_device = lambda: True  # type: ignore[method-assign]  # it is there now
    with app.app_context():
        assert services(app).detections.next_queued() == image_id
        services(app).detections.run(image_id)
    assert state(app, image_id).status is ImageStatus.DONE
