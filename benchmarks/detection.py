"""What the engine adds to the plain torchvision call on the same picture."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode, derivatives
from apps.vision.draw import encode_jpeg
from apps.vision.engine import TorchEngine
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector

ROUNDS = 15


def _seconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print the ratios."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    file = encode_jpeg(picture)
    store = WeightsStore(Path())  # the embedded weights need no folder
    engine = TorchEngine(store, BLOOD_CELLS.name, "cpu")
    model = load_detector(BLOOD_CELLS, store)
    tensor = pil_to_tensor(picture).float() / 255

    @torch.inference_mode()
    def plain() -> object:
        return model([tensor])

    baseline = _seconds(plain)
    print(f"engine / plain torchvision: {_seconds(lambda: engine.detect(picture)) / baseline:.2f}")
    print(f"decode / plain torchvision: {_seconds(lambda: decode(file)) / baseline:.3f}")
    print(
        f"derivatives / plain torchvision: {_seconds(lambda: derivatives(picture)) / baseline:.2f}"
    )


if __name__ == "__main__":
    main()
