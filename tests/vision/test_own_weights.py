"""Files of weights from strangers: what is accepted, what is refused, and what becomes of it."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import _api, detection, mobilenet_v3_large, resnet50, vgg16
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.fcos import FCOSClassificationHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.v2.functional import pil_to_tensor

from apps.config import ROOT
from apps.errors import InvalidInput, InvalidWeights
from apps.vision.types import SCORE_FLOOR
from apps.vision.zoo import check, intake
from apps.vision.zoo.architectures import BUILDERS, NO_EPSILON, OWN, SMALL, SSDLITE, Origin
from apps.vision.zoo.cards import spec_of
from apps.vision.zoo.containers import MAX_HEADER
from apps.vision.zoo.intake import Accepted, Question
from apps.vision.zoo.networks import COUNTER, build, origin_of, require_fit
from apps.vision.zoo.own import OwnWeights
from apps.vision.zoo.registry import BLOOD_CELLS, Added, DetectorSpec
from apps.vision.zoo.store import WeightsStore
from apps.vision.zoo.weights import load_detector

MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"
OF_TORCHVISION = [name for name in BUILDERS if name not in OWN]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def blood() -> State:
    """Weights of the embedded detector: three classes, float16."""
    return load_file(WeightsStore(Path()).path(BLOOD_CELLS.weights))


@pytest.fixture
def examine(tmp_path) -> Callable[..., Accepted]:
    """examine(path or state dict, classes=3) -> what the check says, asked in this process."""

    def examine(
        file: Path | State,
        architecture: str = SMALL,
        classes: int = 3,
        origin: Origin = Origin.COCO,
        background: bool = True,
    ) -> Accepted:
        if not isinstance(file, Path):
            save_file(file, tmp_path / "w.safetensors")
            file = tmp_path / "w.safetensors"
        target = str(tmp_path / "accepted")
        question = Question(str(file), target, architecture, classes, origin.value, background)
        return check.examine(question)

    return examine


def torch_file(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


# -- accepted ------------------------------------------------------------------------------


def test_a_checkpoint_with_weights_in_it_is_written_anew_with_nothing_else(
    examine, blood, tmp_path
):
    state = {f"module.{name}": value for name, value in blood.items()}
    found = examine(torch_file(tmp_path / "w.pth", {"model": state, "epoch": 3}))
    assert round(found.parameters, -5) == 7_200_000
    written = load_file(tmp_path / "accepted")
    assert written.keys() == blood.keys()
    assert all(torch.equal(written[n], blood[n]) for n in blood if not n.endswith(COUNTER))
    assert {written[name].dtype for name in blood} == {torch.float16, torch.int64}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "loss": torch.zeros(1)},
        lambda state: {"model": {"model_state_dict": state}},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {f"model._orig_mod.{k}": v for k, v in state.items()},
        lambda state: {k: nn.Parameter(v, requires_grad=False) for k, v in state.items()},
    ],
    ids=["plain", "Lightning", "twice", "parallel", "compiled", "parameters"],
)
def test_what_people_save_of_a_model_is_understood(blood, tmp_path, wrap):
    state = check._torch_state(torch_file(tmp_path / "w.pth", wrap(blood)))
    assert check._plain_names(state).keys() == blood.keys()


def test_doubles_become_singles(examine, blood):
    doubles = {k: v.double() if v.is_floating_point() else v for k, v in blood.items()}
    assert examine(doubles).size < 2.1 * sum(v.nbytes for v in blood.values())


def test_shared_memory_is_written_apart_and_batch_norms_need_not_count(examine, blood, tmp_path):
    flat = torch.cat([v.flatten() for v in blood.values() if v.is_floating_point()])
    shared, place = {}, 0
    for name, value in blood.items():
        if value.is_floating_point():
            shared[name] = flat[place : place + value.numel()].view(value.shape)
            place += value.numel()
    examine(torch_file(tmp_path / "w.pth", shared))
    written = load_file(tmp_path / "accepted")
    assert written.keys() == blood.keys()
    assert all(torch.equal(written[name], blood[name]) for name in shared)


# -- the network that made it --------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch) -> None:
    """torchvision's downloads answer with random weights of the right shapes."""

    def get_state_dict(self, *_args: object, **_kwargs: object) -> State:
        kind = type(self).__name__
        for start, backbone in (
            ("ResNet50_", resnet50),
            ("VGG16_", vgg16),
            ("MobileNet_", mobilenet_v3_large),
        ):
            if kind.startswith(start):
                return backbone().state_dict()
        [name] = [n for n in OF_TORCHVISION if kind.lower() == f"{n}_weights"]
        return build(name, 91, Origin.COCO).state_dict()

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", get_state_dict)


def by_torchvision(name: str, origin: Origin) -> nn.Module:
    """As somebody makes it before training; COCO's has 91 outputs, the others 4."""
    make = getattr(detection, name)
    if origin is Origin.COCO:
        return make(weights="DEFAULT")
    backbone = "DEFAULT" if origin is Origin.BACKBONE else None
    return make(weights=None, weights_backbone=backbone, num_classes=4)


def anatomy(model: nn.Module) -> list[tuple[object, ...]]:
    """What decides the result beside the weights: layers, shapes, epsilons."""
    return [
        (name, type(m), getattr(m, "eps", None), [tuple(p.shape) for p in m.parameters(False)])
        for name, m in model.named_modules()
    ]


@pytest.mark.parametrize("origin", Origin)
@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_every_network_is_built_as_torchvision_builds_it(offline, name, origin):
    with torch.device("meta"):
        theirs = by_torchvision(name, origin)
        ours = build(name, 91 if origin is Origin.COCO else 4, origin)
    assert anatomy(ours) == anatomy(theirs)


def scramble(model: nn.Module) -> nn.Module:
    """As if trained: statistics that are not 0 and 1."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1)
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.01)
    return model.eval()


def own_spec(found: Accepted, architecture: str, labels: tuple[str, ...]) -> DetectorSpec:
    added = Added(architecture, Origin(found.origin), datetime.now(UTC), "ann", "w.pth")
    return spec_of(
        "mine",
        added,
        labels,
        sha256=found.sha256,
        size=found.size,
        parameters=found.parameters,
    )


def finetuned(name: str, origin: Origin) -> nn.Module:
    """With three classes, by the recipe of torchvision's tutorial."""
    model = by_torchvision(name, origin)
    if name == SSDLITE and origin is Origin.COCO:
        channels = detection._utils.retrieve_out_channels(model.backbone, (320, 320))
        anchors = model.anchor_generator.num_anchors_per_location()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        model.head = SSDLiteHead(channels, anchors, 4, norm)
    elif name != SSDLITE:
        features = model.roi_heads.box_predictor.cls_score.in_features
        model.roi_heads.box_predictor = FastRCNNPredictor(features, 4)
        nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=2)  # scores differ
    return model


@pytest.mark.parametrize(
    ("name", "origin"), [(MOBILE, Origin.COCO), (SSDLITE, Origin.COCO), (SSDLITE, Origin.BACKBONE)]
)
def test_what_is_loaded_gives_the_boxes_of_the_model_that_was_saved(
    offline, examine, tmp_path, name, origin
):
    """To the last bit; what the engine does to a network has tests of its own."""
    torch.manual_seed(0)
    model = scramble(finetuned(name, origin))
    found = examine(torch_file(tmp_path / "w.pth", model.state_dict()), name)
    assert found.origin == origin  # of SSDlite, although it was said to be COCO
    spec = own_spec(found, name, ("가위", "바위", "보"))
    OwnWeights(tmp_path).add(spec, tmp_path / "accepted")
    picture = Image.effect_noise((160, 120), 90).convert("RGB")
    tensor = pil_to_tensor(picture).float() / 255
    store = WeightsStore(tmp_path)
    with torch.inference_mode():
        [theirs], [ours] = model([tensor]), load_detector(spec, store)([tensor])
    sure = theirs["scores"] >= SCORE_FLOOR
    assert sure.sum() > 5
    for key, value in ours.items():
        assert torch.equal(value, theirs[key][sure])


@pytest.mark.parametrize("name", sorted(NO_EPSILON))
def test_the_epsilon_that_a_file_does_not_tell_is_the_one_of_its_origin(name):
    """The case that goes wrong unseen: the file fits both, the boxes differ."""
    epsilons = {}
    for origin in Origin:
        with torch.device("meta"):
            model = build(name, 4, origin)
        norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d)]
        epsilons[origin] = {(type(norm), norm.eps) for norm in norms}
    assert epsilons == {
        Origin.COCO: {(FrozenBatchNorm2d, 0.0)},
        Origin.BACKBONE: {(FrozenBatchNorm2d, 1e-5)},
        Origin.SCRATCH: {(nn.BatchNorm2d, 1e-5)},
    }


def test_batch_norms_that_count_were_not_frozen():
    for origin in Origin:
        shapes = shapes_of(MOBILE, 4, origin)
        told = Origin.SCRATCH if origin is Origin.SCRATCH else Origin.COCO
        assert origin_of(MOBILE, Origin.COCO, shapes) is told
        assert origin_of(MOBILE, Origin.BACKBONE, shapes) is (
            Origin.SCRATCH if origin is Origin.SCRATCH else Origin.BACKBONE
        )


@pytest.mark.parametrize(
    "head",
    [
        lambda classes: RetinaNetClassificationHead(16, 9, classes),
        lambda classes: FCOSClassificationHead(32, 1, classes),
    ],
    ids=["RetinaNet", "FCOS"],
)
def test_an_output_for_the_background_changes_no_other_and_never_wins(head):
    prefix = "head.classification_head."
    narrow, wide = head(3), head(4)
    nn.init.normal_(narrow.cls_logits.weight)
    state = {prefix + name: value for name, value in narrow.state_dict().items()}
    wider = check._with_background(state, 3)
    wide.load_state_dict({name.removeprefix(prefix): value for name, value in wider.items()})
    features = [torch.randn(1, narrow.cls_logits.in_channels, 6, 8)]
    with torch.inference_mode():
        theirs, ours = narrow(features), wide(features)  # (1, places and anchors, classes)
    torch.testing.assert_close(ours[..., 1:], theirs)
    assert ours[..., 0].sigmoid().max() < 1e-30


# -- refused: shapes and classes -------------------------------------------------------------


def shapes_of(name: str, outputs: int, origin: Origin = Origin.COCO) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in build(name, outputs, origin).state_dict().items()}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_classes_of_a_file_are_counted_for_every_network(name):
    shapes = shapes_of(name, 5)
    require_fit(name, 4, Origin.COCO, shapes)
    with pytest.raises(InvalidInput, match="trained for 4 classes, the list has 7"):
        require_fit(name, 7, Origin.COCO, shapes)


def test_a_file_without_a_background_is_told_from_one_class_too_many():
    shapes = shapes_of("retinanet_resnet50_fpn", 3)
    with pytest.raises(InvalidInput, match=r"2 classes and the background.*say so"):
        require_fit("retinanet_resnet50_fpn", 3, Origin.COCO, shapes)
    require_fit("retinanet_resnet50_fpn", 3, Origin.COCO, shapes, background=False)


def test_weights_of_another_network_are_told_which(examine, blood):
    with pytest.raises(InvalidInput, match=f"belong to {SMALL}, not to {MOBILE}"):
        examine(blood, MOBILE)


def test_the_first_differences_are_named_and_the_others_counted(examine, blood):
    names = [name for name in blood if not name.endswith(COUNTER)]
    state = {f"x.{k}" if k in names[:5] else k: v for k, v in blood.items()}
    state["roi_heads.box_head.fc6.bias"] = torch.zeros(3)
    with pytest.raises(InvalidInput, match=r"Missing: .+, .+, .+, \+2\. Unknown: x\..+") as refusal:
        examine(state)
    assert "roi_heads.box_head.fc6.bias [3] ≠ [512]" in str(refusal.value)


def test_only_those_that_can_be_are_without_a_background(examine, blood):
    with pytest.raises(InvalidInput, match="Only RetinaNet and FCOS"):
        examine(blood, background=False)


# -- refused: what cannot be weights ---------------------------------------------------------


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.marker, "w")


@pytest.mark.parametrize(
    ("save", "text"),
    [
        (lambda evil, p, s: p.write_bytes(pickle.dumps(evil)), "Python pickle"),
        (lambda evil, p, s: p.write_bytes(pickle.dumps(evil, protocol=2)), "Python pickle"),
        (lambda evil, p, s: torch.save(evil, p), r"more than tensors \(.*open"),
        (lambda evil, p, s: torch.save({"model": s, "x": evil}, p), r"more than tensors \(.*open"),
        (lambda evil, p, s: torch.save(s | {"x": evil}, p), r"more than tensors \(.*open"),
        (
            lambda evil, p, s: torch.save(evil, p, _use_new_zipfile_serialization=False),
            "Python pickle",
        ),
    ],
    ids=["pickle", "pickle2", "torch", "checkpoint", "among tensors", "old torch"],
)
def test_code_in_a_file_never_runs(examine, blood, tmp_path, save, text):
    marker, path = tmp_path / "ran", tmp_path / "w.pth"
    save(Evil(marker), path, blood)
    with pytest.raises(InvalidWeights, match=text) as refusal:
        examine(path)
    assert "torch.save(model.state_dict()" in str(refusal.value)
    assert not marker.exists()


def test_the_trap_of_the_test_above_works(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


def test_a_checkpoint_of_torchvisions_scripts_says_how_to_convert_it(examine, blood, tmp_path):
    value = {"model": blood, "optimizer": {}, "args": Namespace(lr=0.02), "epoch": 25}
    with pytest.raises(InvalidWeights, match=r"\(argparse.Namespace\).*save the weights alone"):
        examine(torch_file(tmp_path / "w.pth", value))


def test_a_whole_model_and_a_program_are_told_apart(examine, tmp_path):
    with pytest.raises(InvalidWeights, match=r"more than tensors \(.*Linear"):
        examine(torch_file(tmp_path / "w.pth", nn.Linear(2, 2)))
    program = zipfile.ZipFile(tmp_path / "w.pt", "w")
    with program:
        program.writestr("m/data.pkl", b"")
        program.writestr("m/code/__torch__.py", b"")
    with pytest.raises(InvalidWeights, match="TorchScript"):
        examine(tmp_path / "w.pt")


@pytest.mark.parametrize("value", [[torch.zeros(2)], {}, {"a": 1}, {1: torch.zeros(1)}, "text"])
def test_other_things_that_torch_saves_are_refused(examine, tmp_path, value):
    with pytest.raises(InvalidWeights):
        examine(torch_file(tmp_path / "w.pth", value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\x89HDF\r\n\x1a\n",
        b"PK\x05\x06" + bytes(18),
        b"a" * 5000,
        b"PK\x03\x04" + bytes(50),
    ],
)
def test_what_is_no_weights_at_all_is_refused(examine, tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(InvalidWeights, match=r"neither a safetensors|damaged"):
        examine(tmp_path / "w.safetensors")


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("part", [0.0001, 0.5, 0.999999])
def test_a_file_that_was_cut_short_is_damaged(examine, blood, tmp_path, kind, part):
    path = tmp_path / f"w.{kind}"
    save_file(blood, path) if kind == "safetensors" else torch.save(blood, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InvalidWeights, match="damaged"):
        examine(path)


def header(text: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (header(b"{}", length=2**63), "damaged"),
        (header(b"{" + b" " * MAX_HEADER + b"}"), "longer than 8 MB"),
        (header(b"{}"), "0 tensors"),
        (header(b"{not json}"), "damaged"),
        (header(b'{"a":' * 100_000), "damaged"),
        (header(b'{"a": []}'), "damaged"),
        (header(json.dumps({"a": ONE}).encode()), "damaged"),  # its four bytes are not there
        (header(json.dumps({"a": ONE | {"shape": [2**60]}}).encode(), bytes(4)), "damaged"),
        (header(json.dumps({"a": ONE | {"shape": [-1]}}).encode(), bytes(4)), "damaged"),
        (header(json.dumps({"a": ONE | {"shape": [1] * 99}}).encode(), bytes(4)), "damaged"),
        (header(json.dumps({"a": ONE | {"data_offsets": [4, 8]}}).encode(), bytes(4)), "damaged"),
        (header(json.dumps({"a": ONE | {"dtype": "F8_E5M2"}}).encode(), bytes(4)), "F8_E5M2"),
        (header(json.dumps({"a": ONE | {"dtype": "I8\r\nx"}}).encode(), bytes(4)), "float16"),
        (header(json.dumps({f"t{i}": ONE for i in range(5001)}).encode(), bytes(4)), "5001"),
    ],
)
def test_hostile_headers_are_refused_before_anything_is_loaded(examine, tmp_path, data, text):
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(InvalidWeights, match=text):
        examine(tmp_path / "w")


def test_archives_that_grow_are_refused_unread(examine, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10_000_000))
    with pytest.raises(InvalidWeights, match="grow when it is unpacked"):
        examine(tmp_path / "w.pth")


def test_a_tensor_that_is_larger_than_its_file_is_refused_by_its_shape(examine, blood, tmp_path):
    state = blood | {"roi_heads.box_head.fc6.bias": torch.zeros(1).expand(2**40)}
    assert torch_file(tmp_path / "w.pth", state).stat().st_size < 2**25
    with pytest.raises(InvalidInput, match=r"1099511627776\] ≠ \[512\]"):
        examine(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(examine, blood, value):
    state = {k: v.clone() for k, v in blood.items()}
    state["roi_heads.box_head.fc6.bias"][7] = value
    with pytest.raises(InvalidWeights, match=r"roi_heads\.box_head\.fc6\.bias holds values"):
        examine(state)


def test_weights_that_give_no_numbers_are_refused(examine, blood):
    state = {k: v.clone() for k, v in blood.items()}
    [first] = [k for k in state if k.endswith("body.0.1.running_var")]
    state[first] -= 10  # finite, but no variance is negative
    with pytest.raises(InvalidWeights, match=r"body\.0\.1 answers with no numbers"):
        examine(state)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_other_types_of_numbers_are_refused(examine, blood, tmp_path, dtype):
    state = blood | {"roi_heads.box_head.fc6.bias": torch.zeros(512, dtype=dtype)}
    with pytest.raises(InvalidWeights, match="float16"):
        examine(torch_file(tmp_path / "w.pth", state))


# -- the process that looks ------------------------------------------------------------------


def question(path: Path, tmp_path: Path) -> Question:
    return Question(str(path), str(tmp_path / "out"), SMALL, 3, "coco", True)


def test_the_other_process_is_told_no_secret_and_has_no_gpu(monkeypatch):
    """tests/test_own_models.py sees it accept and refuse."""
    for name in ("SIGHTBOX_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "LD_PRELOAD"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = intake._environment()
    assert "s3cret" not in str(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert (environment["PATH"], environment["OMP_NUM_THREADS"]) == (os.environ["PATH"], "1")


def test_a_check_that_crashes_or_never_ends_is_a_refusal(tmp_path):
    with pytest.raises(InvalidInput, match="stopped without an answer"):
        intake.ask(question(tmp_path / "gone", tmp_path))
    with pytest.raises(InvalidInput, match=r"longer than \d+ seconds"):
        intake.ask(question(tmp_path / "gone", tmp_path), seconds=0.01)


def test_too_little_memory_is_a_refusal(tmp_path, monkeypatch, blood):
    def load(*_args: object, **_kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(check, "load_file", load)
    save_file(blood, tmp_path / "w")
    answer = check.answer(question(tmp_path / "w", tmp_path))
    assert "more memory than a detector needs" in answer["refused"]["message"]


def test_who_asks_needs_no_torch():
    code = (
        "import sys, apps.app, apps.crud.views, apps.detector.views, apps.cli\n"
        "print([name for name in ('torch', 'torchvision', 'safetensors') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
