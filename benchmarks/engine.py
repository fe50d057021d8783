"""The engine against a bare loop of the same torchvision model over the same decoded pictures."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.zoo.registry import BEST_ON_CPU, DetectorSpec, detectors
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.calibrated import calibrated
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio

THREADS = (1, 4, 16)
PICTURES = 16


def bare_loop(network: nn.Module, pictures: Sequence[Image.Image]) -> Callable[[], None]:
    """What somebody writes who has a model and a folder."""

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


def measure(
    spec: DetectorSpec, store: WeightsStore, pictures: Sequence[Image.Image], rounds: int
) -> list[Row]:
    plain = bare_loop(load_detector(spec, store), pictures)
    engine = TorchEngine(store, spec.name, EngineOptions("cpu"), {spec.name: spec}.__getitem__)
    engine.warm()
    title = spec.card.title
    rows = []
    for count in THREADS:
        ratio = median_ratio(plain, threaded(engine, pictures, count), rounds)
        bar = 1.25 if count == 1 else 0.95  # one thread has no batches: the optimization alone
        rows.append(Row(f"{title}: engine from {count} threads / bare loop", ratio, least=bar))
    return rows


def main() -> int:
    options = arguments(__doc__).parse_args()
    pictures = [decode(data).picture for data in files(options.data)][:PICTURES]
    rows = []
    for spec in detectors():
        if spec.weights.embedded:
            rows += measure(spec, WeightsStore(Path()), pictures, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        spec, store = calibrated(BEST_ON_CPU.name, pictures[:6], Path(folder))
        rows += measure(spec, store, pictures, options.rounds)
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
