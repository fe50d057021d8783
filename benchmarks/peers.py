"""The same detector and photographs behind LitServe, and behind Sightbox: pictures a second.

LitServe is installed into an environment of its own, ``.peers/litserve``, that sees the packages
of this one behind its own (a ``.pth``), so that both servers run the same PyTorch. It runs with its
defaults, and then tuned: batches of up to 8 pictures and two workers that share the cores.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apps.config import ROOT
from benchmarks.api import Program, ask_all, make_token
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio
from benchmarks.web import PATIENCE, server
from tests.visitor import multipart

CLIENTS = (1, 4, 16)
PICTURES = 48  # of one round
DEFAULTS, _ = WAYS = ("defaults", "tuned")
PEER = "litserve==0.2.19"


class PeerProgram(Program):
    """One client of LitServe."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def detect(self, data: bytes) -> float:
        started = time.perf_counter()
        boundary = uuid.uuid4().hex
        body = multipart(boundary, {}, [("image", "x.jpg", data)])
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            self._line.request("POST", "/predict", body, headers)
            answer = self._line.getresponse()
        except ConnectionError:  # it hangs up after five seconds of silence
            self._line.close()
            self._line.request("POST", "/predict", body, headers)
            answer = self._line.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {text[:300]!r}")
        return time.perf_counter() - started


def environment() -> Path:
    """The interpreter of LitServe's environment, made if it is missing."""
    folder = ROOT / ".peers" / "litserve"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER, "python-multipart"], check=True)
        own = next(folder.glob("lib/python*/site-packages"))
        (own / "zz-sightbox.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        (folder / "ready").touch()
    return python


@contextmanager
def litserve(python: Path, how: str) -> Iterator[int]:
    """LitServe with the detector, as ``how`` (of WAYS) says; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.peer_litserve", str(port), folder, how],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_until_up(process, port)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("LitServe did not start")


def _row(
    how: str, number: int, address: str, token: str, port: int, pictures: list[bytes], rounds: int
) -> Row:
    ours = [Program(address, token) for _ in range(number)]
    theirs = [PeerProgram(port) for _ in range(number)]
    ratio = median_ratio(lambda: ask_all(theirs, pictures), lambda: ask_all(ours, pictures), rounds)
    name = f"{number} clients, pictures a second of Sightbox / LitServe, {how}"
    return Row(name, ratio, least=1.0 if how == DEFAULTS else None)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of one round")
    options = parser.parse_args()
    some = files(options.data)
    pictures = [some[number % len(some)] for number in range(options.pictures)]
    rows, python = [], environment()
    with server() as address:
        token = make_token(address)
        for how in WAYS:
            with litserve(python, how) as port:
                rows += [
                    _row(how, number, address, token, port, pictures, min(options.rounds, 3))
                    for number in CLIENTS
                ]
    return report(rows, check=options.check, peer=PEER)


if __name__ == "__main__":
    sys.exit(main())
