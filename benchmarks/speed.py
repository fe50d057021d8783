"""Speed of every embedded detector / fasterrcnn_mobilenet_v3_large_320_fpn, as its card says it.

Both through the engine, one picture at a time; above 1 is faster.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from apps.vision.zoo.registry import BEST_ON_CPU, detectors
from benchmarks.beside import Beside
from benchmarks.calibrated import calibrated
from benchmarks.engine import engine_loop, pictures_of
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio


def main() -> int:
    options = arguments(__doc__).parse_args()
    pictures = pictures_of(options.data)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        best, _store = calibrated(BEST_ON_CPU.name, pictures[:6], Path(folder))
        with Beside(engine_loop, best, Path(folder), options.data, as_app=True) as baseline:
            for spec in detectors():
                if spec.weights.folder is not None:
                    with Beside(engine_loop, spec, Path(), options.data, as_app=True) as work:
                        ratio = median_ratio(partial(baseline, 1), partial(work, 1), options.rounds)
                    rows.append(Row(f"{spec.name}, card {spec.card.speed}", ratio))
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
