"""script/server as a stranger runs it: as a process, over HTTP, ended by a signal."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.config import ROOT
from tests.conftest import picture_bytes
from tests.visitor import Visitor

PATIENCE = 120  # seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[[], tuple[subprocess.Popen, str]]]:
    """start() -> a script/server that says it is ready, and its address; one instance folder."""
    port, processes = free_port(), []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")}
    environment |= {
        "VENV": sys.prefix,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "SIGHTBOX_INSTANCE_PATH": str(tmp_path / "instance"),
        "SIGHTBOX_RATELIMIT_ENABLED": "false",
        "SIGHTBOX_MODEL_DOWNLOADS": "false",
    }

    def start() -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            ["script/server"], cwd=ROOT, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        processes.append(process)
        return process, f"http://127.0.0.1:{port}"

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


@pytest.mark.parametrize("script", ["script/server", "script/test", ".ci/run"])
def test_the_scripts_are_executable_and_sound(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


def test_plain_flask_finds_the_application_through_the_env_file(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHTBOX_", "FLASK_"))}
    environment |= {"SIGHTBOX_INSTANCE_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "routes"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/images/<int:image_id>" in done.stdout
