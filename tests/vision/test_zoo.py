"""The registry of models: cheap to import, and true to its files."""

import hashlib
import subprocess
import sys

import pytest

from apps.config import ROOT, Base
from apps.errors import NotFound
from apps.vision.zoo import registry
from apps.vision.zoo.registry import BLOOD_CELLS, DetectorSpec, detectors, get_detector

SPECS = [pytest.param(spec, id=spec.name) for spec in detectors()]


def test_names_are_unique_and_found():
    names = [spec.name for spec in detectors()]
    assert len(set(names)) == len(names)
    for spec in detectors():
        assert get_detector(spec.name) is spec


def test_the_default_detector_is_registered():
    assert get_detector(Base.DETECTOR) is BLOOD_CELLS


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(NotFound, match=BLOOD_CELLS.name):
        get_detector("yolo.everything")


def test_every_spec_of_the_module_is_registered():
    made = [value for value in vars(registry).values() if isinstance(value, DetectorSpec)]
    assert sorted(spec.name for spec in made) == sorted(spec.name for spec in detectors())


@pytest.mark.parametrize("spec", SPECS)
def test_a_name_is_architecture_and_weights(spec):
    architecture, _, weights = spec.name.partition(".")
    assert architecture == spec.builder.partition(":")[2]
    assert weights


@pytest.mark.parametrize("spec", SPECS)
def test_the_checksum_is_that_of_the_file(spec):
    assert hashlib.sha256(spec.weights.read_bytes()).hexdigest() == spec.sha256


@pytest.mark.parametrize("spec", SPECS)
def test_the_builder_builds_a_network_of_as_many_parameters_as_the_card_says(spec):
    number = sum(parameter.numel() for parameter in spec.build().parameters())
    assert round(number, -5) == spec.card.parameters


@pytest.mark.parametrize("spec", SPECS)
def test_the_weights_fit_the_network_exactly(spec):
    from apps.vision.zoo.weights import load_weights

    model = spec.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(model, spec.weights, spec.sha256)
    after = model.state_dict()
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert any(not before[name].equal(value) for name, value in after.items())


@pytest.mark.parametrize("spec", SPECS)
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
