"""200 photographs uploaded by 8 clients over HTTP until all are detected, against a bare loop."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.config import ROOT
from apps.vision.decode import decode
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio
from tests.visitor import Visitor

CLIENTS = 8
PICTURES = 200
BAR = 0.85
PATIENCE = 300  # seconds


def different(data: bytes, number: int) -> bytes:
    """The same photograph as another file: with a comment (ITU-T T.81, marker COM)."""
    text = f"copy {number} {time.time_ns()}".encode()
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + data[2:]


@contextmanager
def server() -> Iterator[str]:
    """script/server with an empty instance and a warm model; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTBOX_")} | {
            "VENV": sys.prefix,
            "PORT": str(port),
            "SIGHTBOX_INSTANCE_PATH": folder,
            "SIGHTBOX_RATELIMIT_ENABLED": "false",
            "SIGHTBOX_MODEL_DOWNLOADS": "false",
            "SIGHTBOX_DETECTOR": BLOOD_CELLS.name,  # as the bare loops
            "SIGHTBOX_WARM": "true",
        }
        process = subprocess.Popen(
            ["script/server"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_up(Visitor(address))
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_until_up(visitor: Visitor) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            visitor.get("/healthz")
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def upload_all(visitors: Sequence[Visitor], pictures: Sequence[bytes]) -> None:
    """Every picture once, each visitor one at a time; returns when all are detected."""
    left = [different(data, number) for number, data in enumerate(pictures)]

    def client(visitor: Visitor) -> None:
        ids: list[str] = []
        while True:
            try:
                data = left.pop()
            except IndexError:
                break
            ids += [str(result["id"]) for result in visitor.upload(data)]
        deadline = time.monotonic() + PATIENCE
        while visitor.get_json("/images/status")["waiting"]:
            if time.monotonic() > deadline:
                raise TimeoutError("pictures are still waiting")
            time.sleep(0.1)
        query = "&".join(f"id={number}" for number in ids)
        statuses = visitor.get_json(f"/images/status?{query}")["statuses"]
        if [statuses.get(number) for number in ids] != ["done"] * len(ids):
            raise RuntimeError(f"not everything was detected: {statuses}")

    with ThreadPoolExecutor(len(visitors)) as threads:
        for done in [threads.submit(client, visitor) for visitor in visitors]:
            done.result()  # an error ends the benchmark instead of looking fast


def main() -> int:
    options = arguments(__doc__).parse_args()
    some = files(options.data)
    pictures = [some[number % len(some)] for number in range(PICTURES)]
    network = load_detector(BLOOD_CELLS, WeightsStore(Path()))

    @torch.inference_mode()
    def bare() -> None:
        for data in pictures:
            picture = decode(data).picture
            [output] = network([pil_to_tensor(picture).float() / 255])
            output["boxes"].tolist()

    with server() as address:
        visitors = [Visitor(address) for _ in range(CLIENTS)]
        for number, visitor in enumerate(visitors):
            visitor.sign_up(f"client{number}")
        rounds = min(options.rounds, 3)
        ratio = median_ratio(bare, lambda: upload_all(visitors, pictures), rounds)
    row = Row(f"{PICTURES} photographs by {CLIENTS} clients / bare loop", ratio, least=BAR)
    return report([row], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
