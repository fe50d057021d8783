"""Speed of every embedded detector / fasterrcnn_mobilenet_v3_large_320_fpn, as its card says it.

Both through the engine, one picture at a time; above 1 is faster.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from apps.vision.decode import decode
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.zoo.registry import BEST_ON_CPU, DetectorSpec, detectors
from apps.vision.zoo.store import WeightsStore
from benchmarks.calibrated import calibrated
from benchmarks.engine import threaded
from benchmarks.pictures import files
from benchmarks.report import Row, arguments, report
from benchmarks.timing import Work, median_ratio

PICTURES = 16


def work_of(spec: DetectorSpec, store: WeightsStore, pictures: Sequence[Image.Image]) -> Work:
    engine = TorchEngine(store, spec.name, EngineOptions("cpu"), {spec.name: spec}.__getitem__)
    engine.warm()
    return threaded(engine, pictures, 1)


def main() -> int:
    options = arguments(__doc__).parse_args()
    pictures = [decode(data).picture for data in files(options.data)][:PICTURES]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        spec, store = calibrated(BEST_ON_CPU.name, pictures[:6], Path(folder))
        baseline = work_of(spec, store, pictures)
        for spec in detectors():
            if spec.weights.folder is not None:
                work = work_of(spec, WeightsStore(Path()), pictures)
                ratio = median_ratio(baseline, work, options.rounds)
                rows.append(Row(f"{spec.name}, card {spec.card.speed}", ratio))
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
