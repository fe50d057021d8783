"""Detectors with random weights that behave like trained ones, where published weights are not.

Plain random weights leave every score near 1 / classes, so nothing passes the floor and the work
after the network costs nothing. Here batch norms hold the statistics of real pictures and the last
layers are scaled up, so that scores spread over 0 to 1 and boxes differ from their anchors.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.zoo.registry import DetectorSpec, get_detector
from apps.vision.zoo.store import WeightsStore

SEED = 0
CONFIDENCE = 1.5  # standard deviation of the class logits: some tens of boxes a picture
MOVEMENT = 1.0  # of the box regression's outputs


def calibrated(
    name: str, pictures: Sequence[Image.Image], folder: Path
) -> tuple[DetectorSpec, WeightsStore]:
    """A two-stage detector ``name`` and a store in ``folder`` that has weights for it."""
    spec = get_detector(name)
    torch.manual_seed(SEED)
    network = spec.build()
    tensors = [pil_to_tensor(picture).float() / 255 for picture in pictures]
    _learn_statistics(network, tensors)
    _spread(network, tensors[:1], "roi_heads.box_predictor.cls_score", CONFIDENCE)
    _spread(network, tensors[:1], "roi_heads.box_predictor.bbox_pred", MOVEMENT)
    path = folder / spec.weights.name
    torch.save(network.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = replace(spec.weights, sha256=digest, size=path.stat().st_size)
    return replace(spec, weights=file), WeightsStore(folder)


def _learn_statistics(network: nn.Module, tensors: Sequence[torch.Tensor]) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean over the batches
        norm.reset_running_stats()
    network.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for tensor in tensors:
            network([tensor])
    network.eval()


@torch.no_grad()
def _spread(network: nn.Module, tensors: list[torch.Tensor], name: str, deviation: float) -> None:
    """Scale a linear layer so that its outputs have this standard deviation on ``tensors``."""
    layer = network.get_submodule(name)
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(tensors)
    handle.remove()
    layer.get_parameter("weight").mul_(deviation / float(seen[0].std()))
