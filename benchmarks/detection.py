"""What the engine adds to the plain torchvision call on the same picture."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode, derivatives
from apps.vision.draw import encode_jpeg
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio

ROUNDS = 31
MOST = {"engine": 0.9, "decode": 0.3, "derivatives": 0.3}


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=ROUNDS)
    options = parser.parse_args()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    file = encode_jpeg(picture)
    store = WeightsStore(Path())  # the embedded weights need no folder
    engine = TorchEngine(store, BLOOD_CELLS.name, EngineOptions("cpu"))
    model = load_detector(BLOOD_CELLS, store)
    tensor = pil_to_tensor(picture).float() / 255

    @torch.inference_mode()
    def plain() -> object:
        return model([tensor])

    parts = {
        "engine": lambda: engine.detect(picture),
        "decode": lambda: decode(file),
        "derivatives": lambda: derivatives(picture),
    }
    rows = [
        Row(
            f"{name} / plain torchvision",
            median_ratio(work, plain, options.rounds),
            most=MOST[name],
        )
        for name, work in parts.items()
    ]
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
