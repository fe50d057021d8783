"""Downloads of weights, from a real HTTP server on loopback that misbehaves as told."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from apps.config import ROOT
from apps.errors import Conflict, WeightsError
from apps.vision.zoo.downloads import Download, Downloads
from apps.vision.zoo.store import ROUNDED, Progress, WeightsFile, WeightsState, WeightsStore
from apps.vision.zoo.traces import Traces

DATA = bytes(range(256)) * 8192  # 2 MiB
DIGEST = hashlib.sha256(DATA).hexdigest()
PATIENCE = 20  # seconds a test waits for an event that comes at once, unless something is broken


class Host(ThreadingHTTPServer):
    """Serves DATA. ``cut`` bytes are missing at the end of the next answer."""

    daemon_threads = True
    cut = 0
    ranges = True  # whether it understands Range
    status = 200
    hold: threading.Event | None = None  # waited for in the middle of an answer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    def handle_error(self, *_arguments: object) -> None:
        """A client that gave up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if not self.server.ranges:
            start = 0
        if start >= len(DATA) and wanted:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, 0
        body = DATA[start : len(DATA) - cut]
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if self.server.hold is not None:
            self.server.hold.wait(PATIENCE)
        self.wfile.write(body[half:])

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def weights(host: Host, sha256: str = DIGEST) -> WeightsFile:
    url = f"http://127.0.0.1:{host.server_port}/model.pth"
    return WeightsFile("model.pth", sha256, len(DATA), url)


def left_behind(store: WeightsStore) -> set[str]:
    return {path.name for path in store.folder.iterdir() if not path.name.startswith(".")}


def test_a_download_is_checked_put_in_place_and_reported(host, store):
    told: list[Progress] = []
    file = weights(host)
    assert store.state(file) is WeightsState.MISSING
    path = store.fetch(file, told.append)
    assert path.read_bytes() == DATA
    assert store.state(file) is WeightsState.READY
    assert left_behind(store) == {"model.pth"}
    assert (told[-1].done, told[-1].total) == (len(DATA), len(DATA))
    assert told[-1].rate > 0
    store.verify(file)


def test_the_first_eight_digits_of_a_hash_are_enough(host, store):
    store.fetch(weights(host, DIGEST[:8]))


def test_what_is_there_is_not_fetched_again(host, store):
    store.fetch(weights(host))
    store.fetch(weights(host))
    assert host.asked == [None]


def test_a_file_cut_short_is_resumed_where_it_stopped(host, store):
    host.cut = 1000
    file = weights(host)
    with pytest.raises(WeightsError, match="goes on where it stopped"):
        store.fetch(file)
    assert store.state(file) is WeightsState.PARTIAL
    assert store.fetch(file).read_bytes() == DATA
    assert host.asked[0] is None
    assert host.asked[1] == f"bytes={len(DATA) - 1000}-"


def test_a_host_that_cannot_resume_starts_again(host, store):
    host.cut, host.ranges = 1000, False
    file = weights(host)
    with pytest.raises(WeightsError):
        store.fetch(file)
    assert store.fetch(file).read_bytes() == DATA


def test_a_part_longer_than_the_file_is_thrown_away(host, store):
    store.folder.mkdir()
    (store.folder / "model.pth.part").write_bytes(DATA + b"more")
    assert store.fetch(weights(host)).read_bytes() == DATA


def test_a_wrong_file_never_gets_into_place(host, store):
    file = weights(host, "0" * 64)
    with pytest.raises(WeightsError, match="checksum differs"):
        store.fetch(file)
    assert left_behind(store) == set()
    assert store.state(file) is WeightsState.MISSING


def test_an_error_of_the_host_is_told(host, store):
    host.status = 503
    with pytest.raises(WeightsError, match="HTTP 503"):
        store.fetch(weights(host))


def test_a_dead_host_says_how_to_copy_the_file_by_hand(host, store):
    file = weights(host)
    host.shutdown()
    host.server_close()
    with pytest.raises(WeightsError) as caught:
        store.fetch(file)
    assert str(file.url) in str(caught.value)
    assert str(store.folder) in str(caught.value)


def test_a_file_copied_in_by_hand_is_ready_and_checked(host, store):
    store.folder.mkdir()
    (store.folder / "model.pth").write_bytes(DATA)
    file = weights(host)
    assert store.state(file) is WeightsState.READY
    store.verify(file)
    (store.folder / "model.pth").write_bytes(DATA[:-1])
    with pytest.raises(WeightsError, match="checksum differs"):
        store.verify(file)
    assert host.asked == []


def test_a_slow_host_that_falls_silent_is_given_up(host, store, monkeypatch):
    monkeypatch.setattr("apps.vision.zoo.store.TIMEOUT", 0.2)
    host.hold = threading.Event()
    with pytest.raises(WeightsError, match="timed out"):
        store.fetch(weights(host))
    host.hold.set()


def test_a_full_disk_is_told_before_the_download(host, store, monkeypatch):
    class Usage:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(WeightsError, match="no room"):
        store.fetch(weights(host))


def test_two_downloads_of_one_file_do_not_disturb_each_other(host, store):
    host.hold = threading.Event()
    file = weights(host)
    first = threading.Thread(target=store.fetch, args=(file,))
    first.start()
    while not host.asked:  # the first one has asked, so it holds the lock
        pass
    with pytest.raises(Conflict, match="already"):
        store.fetch(file)
    host.hold.set()
    first.join(PATIENCE)
    assert store.path(file).read_bytes() == DATA


def test_removing_takes_the_file_and_what_is_left_of_a_download(host, store):
    file = weights(host)
    store.fetch(file)
    (store.folder / "model.pth.part").write_bytes(b"x")
    assert store.remove(file) is True
    assert left_behind(store) == set()
    assert store.remove(file) is False


def test_embedded_weights_stay(store, tmp_path):
    (tmp_path / "own.safetensors").write_bytes(DATA)
    file = WeightsFile("own.safetensors", DIGEST, len(DATA), folder=tmp_path)
    assert store.fetch(file) == tmp_path / "own.safetensors"
    with pytest.raises(Conflict, match="come with Sightbox"):
        store.remove(file)


# -- in the background ---------------------------------------------------------------------


def finished(downloads: Downloads, file: WeightsFile) -> None:
    while (state := downloads.state(file)) is None or state.running:
        pass


def test_a_background_download_returns_at_once_and_tells_how_far_it_is(host, store):
    host.hold = threading.Event()
    downloads, file = Downloads(store), weights(host)
    assert downloads.state(file) is None
    downloads.start(file)
    downloads.start(file)  # again does nothing
    state = downloads.state(file)
    assert state is not None
    assert state.running
    host.hold.set()
    finished(downloads, file)
    assert store.state(file) is WeightsState.READY
    assert host.asked == [None]


def test_a_failed_background_download_keeps_its_reason_and_can_be_tried_again(host, store):
    host.status = 500
    downloads, file = Downloads(store), weights(host)
    downloads.start(file)
    finished(downloads, file)
    state = downloads.state(file)
    assert state is not None
    assert "HTTP 500" in str(state.error)
    host.status = 200
    downloads.start(file)
    finished(downloads, file)
    assert store.state(file) is WeightsState.READY


def test_of_two_threads_that_fetch_a_file_the_second_says_nothing_of_the_outcome(host, store):
    downloads, file = Downloads(store), weights(host)
    host.hold = threading.Event()
    downloads.start(file)
    assert downloads.run(file) is None
    host.hold.set()
    finished(downloads, file)
    assert downloads.run(file) is True


# -- what other processes see ----------------------------------------------------------------

FETCH = """
import sys
from pathlib import Path
from apps.vision.zoo.downloads import Downloads
from apps.vision.zoo.store import WeightsFile, WeightsStore
folder, digest, size, url = sys.argv[1:]
Downloads(WeightsStore(Path(folder))).run(WeightsFile("model.pth", digest, int(size), url))
"""


def elsewhere(store: WeightsStore, file: WeightsFile) -> subprocess.Popen[bytes]:
    """Another process that begins to fetch ``file``."""
    told = (str(store.folder), file.sha256, str(file.size), str(file.url))
    return subprocess.Popen([sys.executable, "-c", FETCH, *told], cwd=ROOT)


def test_a_download_of_another_process_is_seen_with_its_bytes(host, store):
    host.hold = threading.Event()
    downloads, file = Downloads(store), weights(host)
    other = elsewhere(store, file)
    part = store.folder / "model.pth.part"
    while not part.is_file() or part.stat().st_size < len(DATA) // 2:
        assert other.poll() is None
    state = downloads.state(file)
    assert state is not None
    assert state.running
    assert state.progress == Progress(len(DATA) // 2, len(DATA), 0.0)
    assert downloads.run(file) is None  # it is in good hands
    host.hold.set()
    assert other.wait(PATIENCE) == 0
    assert downloads.state(file) == Download(running=False)
    assert store.state(file) is WeightsState.READY


def test_a_process_that_was_killed_leaves_an_interrupted_download_and_no_reason(host, store):
    host.hold = threading.Event()
    downloads, file = Downloads(store), weights(host)
    other = elsewhere(store, file)
    while downloads.state(file) is None or not (store.folder / "model.pth.part").is_file():
        assert other.poll() is None
    other.kill()
    other.wait(PATIENCE)
    host.hold.set()
    assert downloads.state(file) is None
    assert store.state(file) is WeightsState.PARTIAL


def test_why_a_download_of_another_process_failed_is_known_until_one_succeeds(host, store):
    host.status = 503
    file = weights(host)
    assert elsewhere(store, file).wait(PATIENCE) == 0
    for downloads in (Downloads(store), Downloads(WeightsStore(store.folder))):
        state = downloads.state(file)
        assert state is not None
        assert not state.running
        assert "(HTTP 503)" in str(state.error)
        assert f"get {file.url} on another computer and copy it to {store.folder}" in str(
            state.error
        )
    host.status = 200
    assert elsewhere(store, file).wait(PATIENCE) == 0
    assert Downloads(store).state(file) is None


def test_removing_forgets_why_the_last_download_failed(host, store):
    host.status = 503
    file = weights(host)
    with pytest.raises(WeightsError):
        store.fetch(file)
    assert store.failure(file) is not None
    store.remove(file)
    assert store.failure(file) is None


DAMAGED = (
    "",
    "{",
    "[]",
    '{"message": "%(x)s"}',
    '{"message": "%(x)s", "params": {"y": 1}}',
    '{"message": "%(x)d", "params": {"x": "y"}}',
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_reason_that_was_damaged_is_none(host, store, text):
    store.folder.mkdir()
    (store.folder / ".model.pth.failure.json").write_text(text)
    assert store.failure(weights(host)) is None


def test_who_only_looks_stops_no_download(host, store, monkeypatch):
    store.folder.mkdir()
    with (store.folder / ".model.pth.lock").open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(
            "apps.vision.zoo.traces.time.sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN)
        )
        assert store.fetch(weights(host)).read_bytes() == DATA


def test_a_look_that_never_ends_is_not_waited_for(host, store, monkeypatch):
    monkeypatch.setattr("apps.vision.zoo.traces.PATIENCE", 0)
    store.folder.mkdir()
    with (store.folder / ".model.pth.lock").open("a+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(Conflict, match="already"):
            store.fetch(weights(host))


# -- files that are cut short ----------------------------------------------------------------


def test_a_file_that_is_cut_short_is_incomplete_and_fetched_again(host, store):
    file = weights(host)
    store.folder.mkdir()
    store.path(file).write_bytes(DATA[: len(DATA) // 2])
    assert store.state(file) is WeightsState.INCOMPLETE
    assert "instead of about" in str(store.known_fault(file))
    assert not store.is_sound(file)
    assert store.fetch(file).read_bytes() == DATA
    assert store.state(file) is WeightsState.READY
    assert store.known_fault(file) is None


def test_a_fault_that_was_found_is_known_without_reading_again(host, store):
    file = weights(host)
    store.folder.mkdir()
    store.path(file).write_bytes(DATA[:-1] + b"x")
    assert store.state(file) is WeightsState.READY
    assert store.known_fault(file) is None
    assert not store.is_sound(file)
    assert "checksum differs" in str(store.known_fault(file))


@pytest.mark.parametrize("size", [0, len(DATA) - ROUNDED, len(DATA) + ROUNDED])
def test_a_size_that_is_not_known_or_rounded_makes_no_file_incomplete(host, store, size):
    file = replace(weights(host), size=size)
    store.fetch(file)
    assert WeightsStore(store.folder).state(file) is WeightsState.READY


def test_good_weights_whose_published_size_is_wrong_are_ready_once_they_were_read(host, store):
    file = replace(weights(host), size=len(DATA) // 3)
    store.fetch(file)
    assert store.state(file) is WeightsState.READY
    assert store.is_sound(file)
    for look in (WeightsStore.verify, WeightsStore.fetch):
        other = WeightsStore(store.folder)
        assert other.state(file) is WeightsState.INCOMPLETE
        look(other, file)
        assert other.state(file) is WeightsState.READY
        assert other.is_sound(file)
    assert len(host.asked) == 1


# -- folders that cannot be used -------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_told_with_its_reason(host, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = WeightsStore(tmp_path / "file" / "weights")
    downloads, file = Downloads(store), weights(host)
    assert downloads.run(file) is False
    state = downloads.state(file)
    assert state is not None
    assert str(store.folder) in str(state.error)
    assert "Not a directory" in str(state.error)


def test_a_process_that_was_forked_during_a_download_does_not_hold_its_lock_on(store):
    traces = Traces(store.folder, "w.pth")
    store.folder.mkdir(exist_ok=True)
    with traces.alone():
        [lock] = [
            int(link.name)
            for link in Path("/proc/self/fd").iterdir()
            if link.exists() and link.resolve().name == ".w.pth.lock"
        ]
        inherited = os.dup(lock)  # as a child has it
    try:
        assert not traces.is_held()
        with traces.alone():
            assert traces.is_held()
    finally:
        os.close(inherited)


def test_what_is_being_downloaded_is_not_removed(host, store):
    file = weights(host)
    store.folder.mkdir(exist_ok=True)
    part = store.folder / f"{file.name}.part"
    part.write_bytes(b"a")
    with Traces(store.folder, file.name).alone(), pytest.raises(Conflict):
        store.remove(file)
    assert part.exists()


def test_a_file_system_without_locks_is_told(host, store, monkeypatch):
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(WeightsError, match="No locks available"):
        store.fetch(weights(host))


def test_a_download_that_breaks_in_an_unknown_way_says_where_to_look(host, store, monkeypatch):
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(WeightsStore, "fetch", broken)
    downloads, file = Downloads(store), weights(host)
    assert downloads.run(file) is False
    state = downloads.state(file)
    assert state is not None
    assert "log has the details" in str(state.error)
