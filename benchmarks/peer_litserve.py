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


class Detector(litserve.LitAPI):
    """``POST /predict`` with the form's file ``image``: boxes, labels and scores."""

    def setup(self, device: str) -> None:
        self.network = load_detector(BLOOD_CELLS, WeightsStore(Path())).to(device)
        self.where = device

    def decode_request(self, request: Request) -> torch.Tensor:
        data = request["image"].file.read()
        picture = decode(data).picture
        return pil_to_tensor(picture).float() / 255

    @torch.inference_mode()
    def predict(self, picture: torch.Tensor) -> Boxes:
        [output] = self.network([picture.to(self.where)])
        return {name: output[name].tolist() for name in ("boxes", "labels", "scores")}

    def encode_response(self, output: Boxes) -> Boxes:
        return output


if __name__ == "__main__":
    os.chdir(sys.argv[2])  # it writes a client there
    server = litserve.LitServer(Detector(), timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
