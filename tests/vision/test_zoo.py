"""The registry of models: cheap to import, and true to its files."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from apps.config import ROOT, Base
from apps.errors import NotFound, WeightsError
from apps.vision.engine import EngineOptions, TorchEngine, choose
from apps.vision.prepare import boxes_of
from apps.vision.types import SCORE_FLOOR
from apps.vision.zoo import catalogue, registry
from apps.vision.zoo.architectures import LIGHT, TINY
from apps.vision.zoo.registry import (
    BEST_ON_CPU,
    BLOOD_CELLS,
    EMBEDDED_DEFAULT,
    DetectorSpec,
    detectors,
    get_detector,
)
from apps.vision.zoo.store import WeightsStore
from tests.vision.agreement import strangers

OWN = [pytest.param(spec, id=spec.name) for spec in detectors() if spec.weights.embedded]
COCO = [pytest.param(spec, id=spec.name) for spec in detectors() if spec.torchvision]
STORE = WeightsStore(Path())  # embedded weights need no folder of downloads


def test_names_are_unique_and_found():
    names = [spec.name for spec in detectors()]
    assert len(set(names)) == len(names)
    for spec in detectors():
        assert get_detector(spec.name) is spec


@pytest.mark.parametrize(("gpu", "field"), [(True, "BEST_ON_GPU"), (False, "BEST_ON_CPU")])
def test_auto_takes_the_best_model_whose_weights_are_there_and_whole(
    tmp_path, monkeypatch, gpu, field
):
    store, data = WeightsStore(tmp_path), b"weights" * 1000
    best = with_published(data, getattr(registry, field))
    monkeypatch.setattr(f"apps.vision.engine.{field}", best)
    path = store.path(best.weights)
    assert Base.DETECTOR == "auto"
    assert choose("auto", store, gpu=gpu) is EMBEDDED_DEFAULT
    for wrong in (b"", data[:-2000], data[:-1] + b"x"):  # missing yet, half copied, damaged
        path.write_bytes(wrong)
        assert choose("auto", store, gpu=gpu) is EMBEDDED_DEFAULT
        assert store.fault(best.weights) is not None
    path.write_bytes(data)
    assert choose("auto", store, gpu=gpu) is best
    assert choose(BLOOD_CELLS.name, store, gpu=True) is BLOOD_CELLS


def with_published(data: bytes, spec: DetectorSpec) -> DetectorSpec:
    """``spec`` as if its weights were published as ``data``."""
    digest = hashlib.sha256(data).hexdigest()[:8]
    return replace(spec, weights=replace(spec.weights, sha256=digest, size=len(data)))


def test_a_large_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    store, data = WeightsStore(tmp_path), b"weights" * 1000
    file = with_published(data, BEST_ON_CPU).weights
    read: list[Path] = []
    usual = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda opened, kind: (read.append(opened), usual(opened, kind))[1]
    )
    store.path(file).write_bytes(data)
    assert store.is_sound(file)
    assert store.is_sound(file)
    assert len(read) == 1
    store.path(file).write_bytes(data[:-2000])  # of another size: need not be read at all
    assert not store.is_sound(file)
    store.path(file).write_bytes(data)
    assert store.is_sound(file)
    assert len(read) == 2


def test_a_file_that_could_not_be_read_is_read_again_though_it_did_not_change(
    tmp_path, monkeypatch
):
    store, data = WeightsStore(tmp_path), b"weights" * 1000
    file = with_published(data, BEST_ON_CPU).weights
    store.path(file).write_bytes(data)

    def refuse(*_arguments: object) -> None:
        raise OSError("Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", refuse)
        assert "Input/output error" in str(store.fault(file))
        with pytest.raises(WeightsError) as caught:
            store.verify(file)
        store.distrust(file, caught.value)
    assert store.fault(file) is None


def test_auto_goes_on_with_the_embedded_model_when_no_network_can_be_made_of_a_file(
    tmp_path, monkeypatch
):
    store, data = WeightsStore(tmp_path), b"no state dict" * 1000
    best = with_published(data, BEST_ON_CPU)
    monkeypatch.setattr("apps.vision.engine.BEST_ON_CPU", best)
    store.path(best.weights).write_bytes(data)
    engine = TorchEngine(store, "auto", EngineOptions("cpu"), {best.name: best}.__getitem__)
    picture = Image.effect_noise((160, 120), 90).convert("RGB")
    with pytest.raises(WeightsError, match="damaged"):  # who asks for it by name is told
        engine.detect(picture, best.name)
    assert choose("auto", store, gpu=False) is best
    assert engine.detect(picture).model == EMBEDDED_DEFAULT.name
    assert "damaged" in str(store.fault(best.weights))
    assert choose("auto", store, gpu=False) is EMBEDDED_DEFAULT


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(NotFound, match=BLOOD_CELLS.name):
        get_detector("yolo.everything")


@pytest.mark.parametrize("architecture", [LIGHT, TINY])
def test_the_everyday_detector_is_there_as_soon_as_training_has_written_its_card(architecture):
    card = registry.read_card("blood-cells") | {"architecture": architecture, "seen": [384, 288]}
    assert registry.everyday({}) is None
    spec = registry.everyday(card)
    assert spec.name == f"{architecture}.everyday"
    assert (spec.card.ap, spec.card.ap50) == (card["ap"], card["ap50"])
    transform = spec.build().transform
    assert (transform.min_size, transform.max_size) == ((288,), 384)


def test_every_spec_of_the_module_is_registered():
    made = {value.name for value in vars(registry).values() if isinstance(value, DetectorSpec)}
    assert made <= {spec.name for spec in detectors()}


@pytest.mark.parametrize("spec", OWN)
def test_a_name_is_architecture_and_weights(spec):
    architecture, _, weights = spec.name.partition(".")
    assert architecture == spec.builder.partition(":")[2]
    assert weights


@pytest.mark.parametrize("spec", OWN)
def test_the_checksum_is_that_of_the_file(spec):
    assert hashlib.sha256(STORE.path(spec.weights).read_bytes()).hexdigest() == spec.weights.sha256
    assert STORE.path(spec.weights).stat().st_size == spec.weights.size


@pytest.mark.parametrize("spec", OWN)
def test_the_builder_builds_a_network_of_as_many_parameters_as_the_card_says(spec):
    number = sum(parameter.numel() for parameter in spec.build().parameters())
    assert number == spec.card.parameters


@pytest.mark.parametrize("spec", OWN)
def test_the_weights_fit_the_network_exactly(spec):
    from apps.vision.zoo.weights import load_detector

    before = spec.build().state_dict()
    after = load_detector(spec, STORE).state_dict()
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert any(not before[name].equal(value) for name, value in after.items())


@pytest.mark.parametrize("spec", OWN)
def test_the_card_speaks_of_every_class_and_its_figures_are_fractions(spec):
    assert [score.label for score in spec.card.per_class] == list(spec.classes)
    assert len(set(spec.classes)) == len(spec.classes)
    for figure in (spec.card.ap, spec.card.ap50, *(score.ap for score in spec.card.per_class)):
        assert 0 < figure < 1
    assert spec.card.limits
    mean = sum(score.ap for score in spec.card.per_class) / len(spec.classes)
    assert spec.card.ap == pytest.approx(mean, abs=0.001)


def test_importing_the_registry_or_the_engine_imports_no_torch():
    code = (
        "import sys, apps.vision.zoo.registry, apps.vision.engine, apps.vision.decode\n"
        "print([name for name in ('torch', 'torchvision', 'flask') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


# -- torchvision's own -----------------------------------------------------------------------


def test_the_catalogue_is_what_the_installed_torchvision_says():
    assert catalogue.read() == catalogue.make(), "run python -m apps.vision.zoo.catalogue"


@pytest.mark.parametrize("spec", COCO)
def test_the_eighty_classes_of_coco_are_known_and_no_other(spec):
    assert len(spec.labels) == 80
    assert len(spec.classes) == 90
    assert "N/A" not in spec.labels
    assert {"person", "dog", "toothbrush"} <= set(spec.labels)


@pytest.mark.parametrize("spec", COCO)
def test_every_builder_loads_a_checked_state_dict_and_detects_like_torchvision(spec, tmp_path):
    """With random weights: the published ones cannot be had without a network."""
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor

    from apps.vision.zoo.weights import load_detector

    torch.manual_seed(0)
    path = tmp_path / spec.weights.name
    torch.save(spec.build().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(spec, weights=replace(spec.weights, sha256=digest[:8]))
    store = WeightsStore(tmp_path)
    picture = Image.effect_noise((160, 120), 90).convert("RGB")

    engine = TorchEngine(store, spec.name, EngineOptions("cpu"), {spec.name: spec}.__getitem__)
    found = engine.detect(picture)
    assert found.model == spec.name
    with torch.inference_mode():
        [plain] = load_detector(spec, store)([pil_to_tensor(picture).float() / 255])
    lists = {name: plain[name].tolist() for name in ("boxes", "labels", "scores")}
    wanted = boxes_of(spec, lists, (1, 1), picture.size)
    # Random weights give many scores that are nearly equal: which of two goes on may differ.
    for some, others in ((found.boxes, wanted), (wanted, found.boxes)):
        assert len(strangers(some, others, SCORE_FLOOR)) <= 0.1 * len(some)
    path.unlink()


def test_the_least_recently_used_model_goes_when_there_are_too_many():
    """Three names of one small network; two may stay."""
    specs = {name: replace(BLOOD_CELLS, name=name) for name in ("a.x", "b.x", "c.x")}
    engine = TorchEngine(STORE, "a.x", EngineOptions("cpu", keep=2), specs.__getitem__)
    picture = Image.effect_noise((160, 120), 90).convert("RGB")
    for name in ("a.x", "b.x", "a.x", "c.x"):
        assert engine.detect(picture, name).model == name
    assert [model.name for model in engine.status().models] == ["c.x", "a.x"]
