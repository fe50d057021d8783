"""script/server as a stranger runs it: as a process, over HTTP, ended by a signal."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.config import ROOT
from tests.broker import free_port
from tests.conftest import picture_bytes
from tests.visitor import Visitor

PATIENCE = 120  # seconds


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """What the scripts see: one instance folder, one free port."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    return kept | {
        "VENV": sys.prefix,
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path / "instance"),
        "SIGHTBOX_RATELIMIT_ENABLED": "false",
        "SIGHTBOX_MODEL_DOWNLOADS": "false",
    }


@pytest.fixture
def start(environment) -> Iterator[Callable[..., tuple[subprocess.Popen, str]]]:
    """start(script="script/server", KEY="value") -> the process, and the server's address."""
    processes = []

    def start(script: str = "script/server", **settings: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [script], cwd=ROOT, env=environment | settings, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        processes.append(process)
        return process, f"http://127.0.0.1:{environment['PORT']}"

    yield start
    for process in processes:
        _kill(process)
        process.communicate()


def _kill(process: subprocess.Popen) -> None:
    """SIGKILL for the server and everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(process: subprocess.Popen) -> str:
    """What the server said until it was ready, and one line more."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            return "".join(said)
    raise AssertionError("".join(said))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_server_starts_says_where_it_is_serves_and_ends_cleanly(start, tmp_path, end):
    process, address = start()
    said = wait_until_ready(process)
    assert f"Sightbox is ready: {address}" in said
    assert "the first account becomes administrator" in said
    with urllib.request.urlopen(f"{address}/", timeout=PATIENCE) as answer:
        assert "See what is in your photographs" in answer.read().decode()
    maps = _memory_maps(process.pid)
    assert maps
    assert not any("libtorch" in line for line in maps)  # nothing asked for it yet
    process.send_signal(end)
    assert process.wait(PATIENCE) == 0
    database = tmp_path / "instance" / "sightbox.sqlite"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()


def _memory_maps(pid: int) -> list[str]:
    """Mapped files of a process and its children (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids = [str(pid), *children]
    return [line for p in pids for line in Path(f"/proc/{p}/maps").read_text().splitlines()]


def test_a_server_killed_in_the_middle_loses_nothing(start):
    """50 pictures are queued, the server is killed with SIGKILL, started again: all are done."""
    process, address = start()
    wait_until_ready(process)
    visitor = Visitor(address)
    visitor.sign_up("ann")
    pictures = [picture_bytes((400, 300)) for _ in range(50)]
    ids = [result["id"] for result in visitor.upload(*pictures)]
    query = "/images/status?" + "&".join(f"id={image_id}" for image_id in ids)
    assert visitor.get_json(query)["waiting"] > 0  # so there is something to lose
    _kill(process)
    process.wait(PATIENCE)

    process, _ = start()
    wait_until_ready(process)
    state = visitor.get_json(query)
    deadline = time.monotonic() + 2 * PATIENCE
    while state["waiting"] and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # leaves the detector alone for a moment; ends early if it dies
        state = visitor.get_json(query)
    assert set(state["statuses"].values()) == {"done"}
    assert len(state["statuses"]) == 50
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_missing_settings_stop_the_start_with_their_names(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    environment |= {
        "VENV": sys.prefix,
        "SIGHTBOX_CONFIG": "production",
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path),
    }
    done = subprocess.run(
        ["script/server"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert re.search(r"Set SIGHTBOX_SECRET_KEY, SIGHTBOX_SQLALCHEMY_DATABASE_URI", done.stderr)


@pytest.mark.parametrize("script", ["script/server", "script/worker", "script/test", ".ci/run"])
def test_the_scripts_are_executable_and_sound(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


# -- script/worker -------------------------------------------------------------------------


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_worker_says_what_stops_its_start(environment):
    done = run(environment, "script/worker")
    assert done.returncode == 2
    assert "The database is not up to date" in done.stderr
    assert "python -m apps" in done.stderr
    assert run(environment, sys.executable, "-m", "apps").returncode == 0
    done = run(environment, "script/worker")
    assert done.returncode != 0
    assert "set SIGHTBOX_QUEUE=celery" in done.stderr
    done = run(environment | {"SIGHTBOX_QUEUE": "celery"}, "script/worker")
    assert done.returncode == 2
    assert "SIGHTBOX_CELERY_BROKER_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_stops_the_start(environment):
    uri = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"
    away = environment | {"SIGHTBOX_SQLALCHEMY_DATABASE_URI": uri}
    done = run(away, "script/worker")
    assert done.returncode == 2
    assert "The database does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.redis
def test_a_server_and_a_worker_share_one_machine(start, broker):
    """Both scripts on SQLite: the server takes the picture, the worker detects it."""
    celery = {"SIGHTBOX_QUEUE": "celery", "SIGHTBOX_CELERY_BROKER_URL": broker.url}
    server, address = start(**celery)
    wait_until_ready(server)
    worker, _ = start("script/worker", **celery)
    visitor = Visitor(address)
    visitor.sign_up("ann")
    [result] = visitor.upload(picture_bytes((400, 300)))
    query = f"/images/status?id={result['id']}"
    deadline = time.monotonic() + PATIENCE
    while visitor.get_json(query)["waiting"] and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(0.2)
    assert set(visitor.get_json(query)["statuses"].values()) == {"done"}
    assert any("libtorch" in line for line in _memory_maps(worker.pid))
    assert not any("libtorch" in line for line in _memory_maps(server.pid))
    for process in (worker, server):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


def test_plain_flask_finds_the_application_through_the_env_file(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHTBOX_", "FLASK_"))}
    environment |= {"SIGHTBOX_INSTANCE_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "routes"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/images/<int:image_id>" in done.stdout
