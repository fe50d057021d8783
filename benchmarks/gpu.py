"""A CUDA device: pictures a second, the engine against a bare loop, boxes, and memory."""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.devices import main_memory
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.optimize import PRECISIONS, optimize, resample, seen_size
from apps.vision.types import SCORE_FLOOR, Box
from apps.vision.zoo.registry import BEST_ON_GPU, DetectorSpec
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.calibrated import calibrated
from benchmarks.engine import threaded
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio
from tests.vision.agreement import strangers

BATCHES = (1, 8, 32)
SOAK = 2000  # pictures
COMPARED = 26  # pictures, each looked at on the CPU too


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
    """Pictures a second, the median of ``rounds``."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return pictures / statistics.median(seconds)


def bare(network: torch.nn.Module, pictures: Sequence[Image.Image]) -> Callable[[], None]:
    @torch.inference_mode()
    def work() -> None:
        for picture in pictures:
            [output] = network([pil_to_tensor(picture).cuda().float() / 255])
            output["boxes"].tolist()

    return work


def rates(
    spec: DetectorSpec,
    store: WeightsStore,
    data: Sequence[bytes],
    pictures: Sequence[Image.Image],
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Pictures a second by precision and batch, of decoded pictures and of files."""
    found = {}
    for precision in PRECISIONS:
        network = optimize(load_detector(spec, store), torch.device("cuda"), precision)
        for size in BATCHES:
            decoded = batches(network, pictures, size)

            def from_files(network: torch.nn.Module = network, size: int = size) -> None:
                batches(network, [decode(file).picture for file in data], size)()

            found[f"{precision} batch {size}"] = {
                "decoded": rate(decoded, len(pictures), rounds),
                "from_files": rate(from_files, len(pictures), rounds),
            }
    return found


def speeds(found: dict[str, dict[str, float]]) -> list[Row]:
    """What :func:`rates` has found as rows: how much of the speed is left with decoding."""
    return [
        Row(
            f"{name}, files / decoded",
            one["from_files"] / one["decoded"],
            note=f"{one['decoded']:.1f} pictures a second, {one['from_files']:.1f} with decoding",
        )
        for name, one in found.items()
    ]


def agreement(
    spec: DetectorSpec, store: WeightsStore, pictures: Sequence[Image.Image], device: str = "cuda"
) -> list[Row]:
    """For each precision, the part of the boxes that the CPU does not find in float32, or alone."""
    wanted = _found(spec, store, pictures, EngineOptions("cpu"))
    rows = []
    for precision in PRECISIONS:
        found = _found(spec, store, pictures, EngineOptions(device, precision=precision))
        alone = sum(
            len(strangers(one, other, SCORE_FLOOR)) + len(strangers(other, one, SCORE_FLOOR))
            for one, other in zip(found, wanted, strict=True)
        )
        total = sum(map(len, found)) + sum(map(len, wanted))
        rows.append(Row(f"boxes of {precision} unlike the CPU's", alone / max(total, 1)))
    return rows


def _found(
    spec: DetectorSpec, store: WeightsStore, pictures: Sequence[Image.Image], options: EngineOptions
) -> list[tuple[Box, ...]]:
    engine = TorchEngine(store, spec.name, options, {spec.name: spec}.__getitem__)
    return [engine.detect(picture).boxes for picture in pictures]


def memory() -> dict[str, int]:
    """Bytes: of tensors, what PyTorch keeps of the device, and of main memory."""
    gc.collect()
    return {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "resident": main_memory()[0],
    }


def soak(
    engine: TorchEngine, pictures: Sequence[Image.Image], count: int = SOAK
) -> tuple[list[Row], dict[str, dict[str, int]]]:
    """Each kind of memory after ``count`` pictures / after the first hundred; and the bytes."""
    threaded(engine, [pictures[n % len(pictures)] for n in range(100)], 16)()
    early = memory()
    threaded(engine, [pictures[n % len(pictures)] for n in range(count)], 16)()
    late = memory()
    rows = [
        Row(f"memory {kind} after {count} pictures", late[kind] / max(early[kind], 1), most=1.1)
        for kind in early
    ]
    return rows, {"early": early, "late": late}


def main() -> int:
    options = arguments(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here.")
        return int(options.check)
    data = files(options.data) * 3
    pictures = [decode(file).picture for file in data]
    with tempfile.TemporaryDirectory() as folder:
        spec, store = calibrated(BEST_ON_GPU.name, pictures[:4], Path(folder))
        measured = rates(spec, store, data, pictures, options.rounds)
        same = agreement(spec, store, pictures[:COMPARED])
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
        soaked, used = soak(engine, pictures)
    return report(
        [*speeds(measured), *rows, *same, *soaked],
        check=options.check,
        pictures_a_second=measured,
        memory=used,
    )


if __name__ == "__main__":
    sys.exit(main())
