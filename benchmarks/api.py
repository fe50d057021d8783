"""``POST /api/v1/detect`` from 1, 8 and 32 clients against a bare decode-and-detect loop."""

import html
import http.client
import json
import re
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio
from benchmarks.web import BAR, PATIENCE, server
from tests.visitor import Visitor, multipart

CLIENTS = (1, 8, 32)
PICTURES = 64  # of one round
LATENCY_MS, LATENCY_PART = 15.0, 0.10  # that one client may wait longer than the bare loop takes


class Program:
    """One client with a connection that stays open, as client libraries have it."""

    def __init__(self, address: str, token: str) -> None:
        parts = urlsplit(address)
        self._line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        self._token = token

    def detect(self, data: bytes) -> float:
        """Seconds until the boxes of a picture are here."""
        started = time.perf_counter()
        boundary = uuid.uuid4().hex
        body = multipart(boundary, {}, [("image", "x.jpg", data)])
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Authorization": f"Bearer {self._token}",
        }
        self._line.request("POST", "/api/v1/detect", body, headers)
        answer = self._line.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {text[:300]!r}")
        json.loads(text)
        return time.perf_counter() - started


def make_token(address: str) -> str:
    """A token that may detect, of a new account."""
    visitor = Visitor(address)
    visitor.sign_up("program")
    fields = {"name": "benchmark", "scopes": "detect", "days": "30"}
    _, page = visitor.post("/account/tokens", fields)
    found = re.search(r'id="new-token">([^<]+)<', page)
    if found is None:
        raise RuntimeError("no token was made")
    return html.unescape(found[1])


def ask_all(programs: Sequence[Program], pictures: Sequence[bytes]) -> list[float]:
    """Every picture once, each program one at a time; seconds of each."""
    left, seconds = list(pictures), []

    def client(program: Program) -> None:
        while True:
            try:
                data = left.pop()
            except IndexError:
                return
            seconds.append(program.detect(data))

    with ThreadPoolExecutor(len(programs)) as threads:
        for done in [threads.submit(client, program) for program in programs]:
            done.result()  # an error ends the benchmark instead of looking fast
    return seconds


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of one round")
    options = parser.parse_args()
    some = files(options.data)
    pictures = [some[number % len(some)] for number in range(options.pictures)]
    network = load_detector(BLOOD_CELLS, WeightsStore(Path()))
    bare_seconds: list[float] = []
    one_seconds: list[float] = []

    @torch.inference_mode()
    def bare() -> None:
        for data in pictures:
            started = time.perf_counter()
            picture = decode(data).picture
            [output] = network([pil_to_tensor(picture).float() / 255])
            output["boxes"].tolist()
            bare_seconds.append(time.perf_counter() - started)

    rows = []
    with server() as address:
        token = make_token(address)
        for number in CLIENTS:
            programs = [Program(address, token) for _ in range(number)]

            def work(programs: Sequence[Program] = programs) -> None:
                found = ask_all(programs, pictures)
                if len(programs) == 1:
                    one_seconds.extend(found)

            ratio = median_ratio(bare, work, min(options.rounds, 3))
            rows.append(Row(f"{number} clients / bare loop, pictures a second", ratio, least=BAR))
            if number == 1:
                rows.append(_latency(one_seconds, bare_seconds))
    return report(rows, check=options.check)


def _latency(one: Sequence[float], bare: Sequence[float]) -> Row:
    mine, theirs = 1000 * statistics.median(one), 1000 * statistics.median(bare)
    allowed = theirs * (1 + LATENCY_PART) + LATENCY_MS
    note = f"median {mine:.1f} ms, bare {theirs:.1f} ms, allowed {allowed:.1f} ms"
    return Row("1 client, latency / what is allowed", mine / allowed, most=1.0, note=note)


if __name__ == "__main__":
    sys.exit(main())
