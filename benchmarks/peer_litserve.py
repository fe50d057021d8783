"""The shipped detector behind LitServe, as people would put it there: see benchmarks.peers."""

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import torch
from fastapi import Request
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.decode import decode
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector

Boxes = dict[str, list[Any]]


WORKERS, BATCH, WAIT = 2, 8, 0.01  # of the tuned one: processes, pictures, seconds


class Detector(litserve.LitAPI):
    """``POST /predict`` with the form's file ``image``: boxes, labels and scores."""

    tuned = False

    def setup(self, device: str) -> None:
        if self.tuned:  # its workers share the cores
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // WORKERS))
        self.network = load_detector(BLOOD_CELLS, WeightsStore(Path())).to(device)
        self.where = device

    def decode_request(self, request: Request) -> torch.Tensor:
        data = request["image"].file.read()
        picture = decode(data).picture
        return pil_to_tensor(picture).float() / 255

    @torch.inference_mode()
    def predict(self, given: torch.Tensor | list[torch.Tensor]) -> Boxes | list[Boxes]:
        pictures = given if isinstance(given, list) else [given]
        outputs = self.network([picture.to(self.where) for picture in pictures])
        names = ("boxes", "labels", "scores")
        found = [{name: output[name].tolist() for name in names} for output in outputs]
        return found if isinstance(given, list) else found[0]

    def batch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return inputs  # of many sizes: no tensor holds them all

    def unbatch(self, output: list[Boxes]) -> list[Boxes]:
        return output

    def encode_response(self, output: Boxes) -> Boxes:
        return output


if __name__ == "__main__":
    os.chdir(sys.argv[2])  # it writes a client there
    if sys.argv[3] == "tuned":
        detector = Detector(max_batch_size=BATCH, batch_timeout=WAIT)
        detector.tuned = True
        server = litserve.LitServer(detector, timeout=300, workers_per_device=WORKERS)
    else:
        server = litserve.LitServer(Detector(), timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
