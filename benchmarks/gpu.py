"""A CUDA device: pictures a second, the engine against a bare loop, boxes, and memory."""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.optimize import PRECISIONS, optimize, resample, seen_size
from apps.vision.zoo.registry import BEST_ON_GPU, DetectorSpec
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.calibrated import calibrated
from benchmarks.engine import threaded
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio

BATCHES = (1, 8, 32)
SOAK = 2000  # pictures


def batches(
    network: torch.nn.Module, pictures: Sequence[Image.Image], size: int
) -> Callable[[], None]:
    """All ``pictures`` through an optimized network, ``size`` at once."""

    @torch.inference_mode()
    def work() -> None:
        for start in range(0, len(pictures), size):
            inputs = []
            for picture in pictures[start : start + size]:
                height, width = seen_size(network.transform, picture.height, picture.width)
                small = resample(pil_to_tensor(picture), height, width)
                inputs.append(small.pin_memory().to("cuda", non_blocking=True))
            for output in network(inputs):
                output["boxes"].tolist()

    return work


def rate(work: Callable[[], object], pictures: int, rounds: int) -> float:
    """Pictures a second, the best of ``rounds``."""
    work()
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return pictures / best


def bare(network: torch.nn.Module, pictures: Sequence[Image.Image]) -> Callable[[], None]:
    @torch.inference_mode()
    def work() -> None:
        for picture in pictures:
            [output] = network([pil_to_tensor(picture).cuda().float() / 255])
            output["boxes"].tolist()

    return work


def rates(
    spec: DetectorSpec, store: WeightsStore, data: Sequence[bytes], pictures: Sequence[Image.Image]
) -> None:
    for precision in PRECISIONS:
        network = optimize(load_detector(spec, store), torch.device("cuda"), precision)
        for size in BATCHES:
            seen = rate(batches(network, pictures, size), len(pictures), 3)

            def from_files(network: torch.nn.Module = network, size: int = size) -> None:
                batches(network, [decode(file).picture for file in data], size)()

            with_decode = rate(from_files, len(pictures), 3)
            print(f"{precision} batch {size}: {seen:.1f} a second, {with_decode:.1f} from files")


def soak(engine: TorchEngine, pictures: Sequence[Image.Image]) -> Row:
    """Memory in use after 2,000 pictures / after the first hundred."""
    threaded(engine, [pictures[n % len(pictures)] for n in range(100)], 16)()
    gc.collect()
    torch.cuda.empty_cache()
    early = torch.cuda.memory_allocated()
    threaded(engine, [pictures[n % len(pictures)] for n in range(SOAK)], 16)()
    gc.collect()
    return Row(f"memory after {SOAK} pictures", torch.cuda.memory_allocated() / early, most=1.1)


def main() -> int:
    options = arguments(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here.")
        return int(options.check)
    data = files(options.data) * 3
    pictures = [decode(file).picture for file in data]
    with tempfile.TemporaryDirectory() as folder:
        spec, store = calibrated(BEST_ON_GPU.name, pictures[:4], Path(folder))
        rates(spec, store, data, pictures)
        plain = bare(load_detector(spec, store).cuda(), pictures)
        engine = TorchEngine(store, spec.name, EngineOptions("cuda"), {spec.name: spec}.__getitem__)
        engine.warm()
        rows = [
            Row(
                f"engine from {count} threads / bare loop",
                median_ratio(plain, threaded(engine, pictures, count), options.rounds),
                least=0.9,
            )
            for count in (1, 4, 16)
        ]
        rows.append(soak(engine, pictures))
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
