"""Faster networks with the boxes of plain torchvision."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.optimize import (
    ChannelsLastHead,
    ReducedPrecision,
    canvas,
    fold_batch_norm,
    optimize,
    resample,
    seen_size,
)
from apps.vision.prepare import boxes_of
from apps.vision.recorded import CachedAnchors, Recorded
from apps.vision.types import Box
from apps.vision.zoo.architectures import Origin
from apps.vision.zoo.networks import build
from apps.vision.zoo.registry import BEST_ON_CPU, BLOOD_CELLS, DetectorSpec, detectors
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector
from benchmarks.calibrated import calibrated
from tests.smear import smear
from tests.vision.agreement import assert_same
from tests.vision.test_engine import DATA

CPU = torch.device("cpu")
STORE = WeightsStore(Path())
EMBEDDED = [
    pytest.param(spec, id=spec.name.rpartition(".")[2])
    for spec in detectors()
    if spec.weights.embedded
]


def plain(spec: DetectorSpec, network: nn.Module, picture: Image.Image) -> Sequence[Box]:
    with torch.inference_mode():
        [output] = network([pil_to_tensor(picture).float() / 255])
    lists = {name: output[name].tolist() for name in ("boxes", "labels", "scores")}
    return boxes_of(spec, lists, (1, 1), picture.size)


def photographs(step: int) -> list[Image.Image]:
    """Some of those that people would upload."""
    if not (DATA / "photos").is_dir():
        pytest.skip(f"no photographs at {DATA}; set SIGHTBOX_TEST_DATA to their folder")
    files = [path.read_bytes() for path in sorted((DATA / "photos").glob("*.jpg"))[::step]]
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


def blood_cells(step: int) -> list[Image.Image]:
    folder = DATA / "blood-cells"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {DATA}; set SIGHTBOX_TEST_DATA to their folder")
    notes = json.loads((folder / "annotations.json").read_text("utf-8"))
    with zipfile.ZipFile(folder / "images.zip") as archive:
        files = [archive.read(note["file_name"]) for note in notes["images"][::step]]
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


@pytest.fixture(scope="module")
def cpu_model(tmp_path_factory) -> tuple[DetectorSpec, WeightsStore]:
    """Random weights, made to behave like trained ones on the pictures of the test."""
    try:
        some = photographs(3)
    except pytest.skip.Exception:
        some = [smear(seed)[0] for seed in range(3)]
    return calibrated(BEST_ON_CPU.name, some, tmp_path_factory.mktemp("weights"))


def assert_finds_the_same(
    spec: DetectorSpec, store: WeightsStore, pictures: Sequence[Image.Image]
) -> None:
    network = load_detector(spec, store)
    engine = TorchEngine(store, spec.name, EngineOptions("cpu"), {spec.name: spec}.__getitem__)
    found = 0
    for picture in pictures:
        boxes = engine.detect(picture).boxes
        assert_same(boxes, plain(spec, network, picture))
        found += len(boxes)
    assert found > 5 * len(pictures)


@pytest.mark.parametrize("spec", EMBEDDED)
def test_the_embedded_models_find_the_same_on_photographs(spec):
    assert_finds_the_same(spec, STORE, photographs(2) + blood_cells(24))


def test_the_model_for_cpus_finds_the_same_on_photographs(cpu_model):
    spec, store = cpu_model
    assert_finds_the_same(spec, store, photographs(3))


def test_no_batch_norm_is_left_in_the_networks_people_use_most(cpu_model):
    embedded = [(spec, STORE) for spec in detectors() if spec.weights.embedded]
    for spec, store in (*embedded, cpu_model):
        network = load_detector(spec, store)
        before = sum(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in network.modules())
        optimize(network, CPU)
        after = sum(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in network.modules())
        assert before >= 15
        assert after == 0


def test_a_batch_norm_that_does_not_follow_a_convolution_stays():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    network.get_buffer("2.running_mean").fill_(1)
    picture = torch.rand(1, 3, 8, 8)
    before = network(picture)
    assert torch.equal(fold_batch_norm(network)(picture), before)
    assert isinstance(network[2], nn.BatchNorm2d)


# -- batches -------------------------------------------------------------------------------


SIZES = [(480, 640), (640, 480), (429, 640), (100, 100), (33, 400), (1500, 2000), (1, 1)]


@pytest.mark.parametrize(
    ("shortest", "longest", "fixed"), [(240, 320, None), (800, 1333, None), (0, 0, (300, 300))]
)
@pytest.mark.parametrize("size", SIZES)
def test_the_input_is_the_one_that_torchvision_makes(size, shortest, longest, fixed):
    transform = GeneralizedRCNNTransform(shortest or 300, longest or 300, [0.0], [1.0])
    transform.fixed_size = fixed
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    made, _ = transform([picture.float() / 255])
    height, width = seen_size(transform, *size)
    assert made.image_sizes == [(height, width)]
    assert canvas(transform, height, width) == tuple(made.tensors.shape[-2:])
    mine = resample(picture, height, width)
    torch.testing.assert_close(mine, made.tensors[0, :, :height, :width], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pictures", [1, 3])
@torch.inference_mode()
def test_a_box_head_says_the_same_with_its_columns_in_another_order(pictures):
    head = TwoMLPHead(4 * 7 * 7, 16)
    pooled = torch.rand(pictures, 4, 7, 7)
    wanted = head(pooled)
    found = ChannelsLastHead(head, (7, 7))(pooled.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted)


def outputs(network: nn.Module, picture: torch.Tensor) -> list[torch.Tensor]:
    """What the heads say, without the choice of boxes, which hangs on the last digits."""
    features = network.get_submodule("backbone")(picture)
    levels = list(features.values())
    if not hasattr(network, "rpn"):
        return list(network.get_submodule("head")(levels).values())
    heads: Any = network.get_submodule("roi_heads")
    said = [tensor for each in network.get_submodule("rpn.head")(levels) for tensor in each]
    boxes = [
        torch.tensor([[3.0, 5.0, 40.0, 90.0], [0.0, 0.0, 160.0, 128.0], [9.0, 9.0, 12.0, 11.0]])
    ]
    for _ in range(2):  # the first call sets up the scales
        pooled = heads.box_roi_pool(features, boxes, [(128, 160)])
        said += heads.box_predictor(heads.box_head(pooled))
        if heads.mask_roi_pool is not None:
            pooled = heads.mask_roi_pool(features, boxes, [(128, 160)])
            said.append(heads.mask_predictor(heads.mask_head(pooled)))
    return said


@pytest.mark.parametrize(
    "architecture",
    [
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
        "retinanet_resnet50_fpn",
        "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "ssd300_vgg16",
        "ssdlite320_mobilenet_v3_large",
    ],
)
@torch.inference_mode()
def test_the_heads_of_every_kind_of_network_say_the_same(architecture):
    torch.manual_seed(0)
    network = build(architecture, 5, Origin.SCRATCH).eval()
    transform: Any = network.get_submodule("transform")
    picture = torch.rand(1, 3, *(transform.fixed_size or (128, 160)))
    wanted = outputs(network, picture)
    network = optimize(network, CPU)
    found = outputs(network, picture.contiguous(memory_format=torch.channels_last))
    assert len(found) == len(wanted) >= 2
    for mine, plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


# -- reduced precision ---------------------------------------------------------------------


def optimized() -> nn.Module:
    return optimize(load_detector(BLOOD_CELLS, STORE), CPU)


@pytest.mark.parametrize("shape", [(1, 3, 256, 320), (3, 3, 192, 320), (1, 3, 320, 64)])
@torch.inference_mode()
def test_a_recorded_backbone_says_what_the_backbone_says_at_any_size(shape):
    recorded = optimized().backbone
    assert isinstance(recorded, Recorded)
    pictures = torch.rand(shape).to(memory_format=torch.channels_last)
    wanted = recorded.part(pictures)
    found = recorded(pictures)
    assert list(found) == list(wanted)
    for name, level in wanted.items():
        assert torch.allclose(found[name], level, atol=1e-6)


def test_anchors_are_made_once_for_each_size_and_are_those_of_torchvision():
    generator = load_detector(BLOOD_CELLS, STORE).get_submodule("rpn").anchor_generator
    made = 0

    def counted(images, levels):
        nonlocal made
        made += 1
        return generator(images, levels)

    cached = CachedAnchors(counted)
    for count, side in ((1, 256), (1, 320), (1, 256), (2, 256), (1, 320)):
        sizes = [(side, side)] * count
        images = ImageList(torch.zeros(count, 3, side, side), sizes)
        levels = [torch.zeros(count, 1, side // step, side // step) for step in (8, 16, 32, 64)]
        for found, wanted in zip(cached(images, levels), generator(images, levels), strict=True):
            assert torch.equal(found, wanted)
    assert made == 3


def test_without_recording_a_network_stays_as_it_is_and_the_log_says_so(monkeypatch, caplog):
    def gone(*_args, **_kwargs):
        raise AttributeError("trace")

    monkeypatch.setattr(torch.jit, "trace", gone)
    network = optimized()
    assert not isinstance(network.backbone, Recorded)
    assert "not recorded part=BackboneWithFPN" in caplog.text


def test_a_graph_that_holds_for_one_size_alone_is_not_used(monkeypatch):
    class Sized(nn.Module):
        """Its output depends on numbers that a recording takes for constants."""

        def __init__(self, backbone: nn.Module) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, pictures):
            factor = float(int(pictures.shape[-1]))
            return {k: v * factor for k, v in self.backbone(pictures).items()}

    network = load_detector(BLOOD_CELLS, STORE)
    network.backbone = Sized(network.get_submodule("backbone"))
    assert isinstance(optimize(network, CPU).backbone, Sized)


def test_a_backbone_in_reduced_precision_gives_float32_features_near_the_exact_ones():
    """On the CPU, whose autocast rounds as a GPU's does; what it means for boxes is measured."""
    network = load_detector(BLOOD_CELLS, STORE)
    backbone = network.get_submodule("backbone")
    picture = torch.rand(1, 3, 256, 320)
    with torch.inference_mode():
        exact = backbone(picture)
        rounded = ReducedPrecision(backbone, "cpu", torch.bfloat16)(picture)
    assert exact.keys() == rounded.keys()
    for name, level in rounded.items():
        assert level.dtype == torch.float32
        error = (level - exact[name]).abs().max() / exact[name].abs().max()
        assert 0 < error < 0.1
