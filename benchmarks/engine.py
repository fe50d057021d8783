"""The engine against a bare loop of the same torchvision model over the same decoded pictures."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.zoo.registry import BEST_ON_CPU, DetectorSpec, detectors
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.beside import Beside
from benchmarks.calibrated import calibrated
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio

THREADS = (1, 4, 16)
PICTURES = 16


def pictures_of(data: str | None) -> list[Image.Image]:
    return [decode(file).picture for file in files(data)[:PICTURES]]


def bare_loop(spec: DetectorSpec, folder: Path, data: str | None) -> Callable[[], None]:
    """What somebody writes who has a model and a folder."""
    network, pictures = load_detector(spec, WeightsStore(folder)), pictures_of(data)

    @torch.inference_mode()
    def work() -> None:
        for picture in pictures:
            [output] = network([pil_to_tensor(picture).float() / 255])
            output["boxes"].tolist()

    return work


def threaded(
    engine: TorchEngine, pictures: Sequence[Image.Image], count: int
) -> Callable[[], None]:
    """The engine from ``count`` threads that take the next picture when they are free."""

    def work() -> None:
        left = list(pictures)

        def take() -> None:
            while True:
                try:
                    picture = left.pop()
                except IndexError:
                    return
                engine.detect(picture)

        with ThreadPoolExecutor(count) as threads:
            for taken in [threads.submit(take) for _ in range(count)]:
                taken.result()  # an error ends the benchmark instead of looking fast

    return work


def engine_loop(spec: DetectorSpec, folder: Path, data: str | None) -> Callable[[int], None]:
    """``threaded`` for a number of threads that is said later."""
    known = {spec.name: spec}.__getitem__
    engine = TorchEngine(WeightsStore(folder), spec.name, EngineOptions("cpu"), known)
    engine.warm()
    pictures = pictures_of(data)
    return lambda count: threaded(engine, pictures, count)()


def both(spec: DetectorSpec, folder: Path, data: str | None) -> Callable[[str], None]:
    """The same pictures one by one through what the engine made of a network, or through itself."""
    plain, ours = bare_loop(spec, folder, data), engine_loop(spec, folder, data)
    return lambda which: plain() if which == "plain" else ours(1)


def measure(spec: DetectorSpec, folder: Path, data: str | None, rounds: int) -> list[Row]:
    """The engine against a loop in a process of its own, and the optimization alone in one."""
    rows, title = [], spec.card.title
    given = spec, folder, data
    with (
        Beside(bare_loop, *given, as_app=False) as plain,
        Beside(engine_loop, *given, as_app=True) as engine,
    ):
        for count in THREADS:
            ratio = median_ratio(plain, partial(engine, count), rounds)
            rows.append(Row(f"{title}: engine from {count} threads / bare loop", ratio, least=0.95))
    with Beside(both, *given, as_app=True) as work:
        ratio = median_ratio(partial(work, "plain"), partial(work, "ours"), rounds)
    rows.append(Row(f"{title}: optimized / plain, in one process", ratio, least=1.25))
    return rows


def main() -> int:
    options = arguments(__doc__).parse_args()
    rows = []
    for spec in detectors():
        if spec.weights.embedded:
            rows += measure(spec, Path(), options.data, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        spec, _store = calibrated(BEST_ON_CPU.name, pictures_of(options.data)[:6], Path(folder))
        rows += measure(spec, Path(folder), options.data, options.rounds)
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
