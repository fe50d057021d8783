"""The registry of classifiers: cheap to import, and true to its files."""

import hashlib
import subprocess
import sys

import pytest
import torch
from PIL import Image

from apps.config import ROOT
from apps.errors import NotFound
from apps.vision.classify import TorchClassifier
from apps.vision.train import runs
from apps.vision.zoo import classifiers as registry
from apps.vision.zoo import imagenet
from apps.vision.zoo.classifiers import (
    EMBEDDED,
    classifiers,
    get_classifier,
    is_classifier,
    larger,
    read_card,
)
from apps.vision.zoo.googlenet import googlenet as googlenet_of
from apps.vision.zoo.registry import detectors
from apps.vision.zoo.store import WeightsStore

OWN = [pytest.param(spec, id=spec.name) for spec in classifiers() if spec.weights.embedded]
IMAGENET = [pytest.param(spec, id=spec.name) for spec in classifiers() if spec.torchvision]
MOST = 40_000_000  # bytes of all weights that come with Sightbox


def trained(spec) -> dict:
    return read_card(spec.name) or pytest.skip(f"{spec.name} was not trained yet")


def test_names_are_unique_among_all_models_and_found():
    names = [spec.name for spec in (*classifiers(), *detectors())]
    assert len(set(names)) == len(names)
    for spec in classifiers():
        assert is_classifier(spec.name)
        assert get_classifier(spec.name) is spec


def test_an_unknown_name_is_told_the_known_ones():
    assert not is_classifier("resnet18")
    with pytest.raises(NotFound, match=r"lenet5\.mnist"):
        get_classifier("resnet18")


@pytest.mark.parametrize("spec", [*OWN, *IMAGENET])
def test_a_name_is_architecture_and_data_and_its_builder_is_called_likewise(spec):
    architecture, _, data = spec.name.partition(".")
    assert architecture == spec.architecture == spec.builder.partition(":")[2]
    assert data


@pytest.mark.parametrize("spec", [*OWN, *IMAGENET])
def test_labels_are_distinct_and_the_card_has_words(spec):
    assert len(set(spec.labels)) == len(spec.labels)
    card = spec.card
    for text in (card.title, card.summary, card.use, card.data, card.split, card.licence):
        assert text
    assert card.limits
    assert len(spec.input.mean) == len(spec.input.std) == spec.input.channels


def test_digits_alone_are_drawn():
    assert [spec.name for spec in classifiers() if spec.drawing] == ["lenet5.mnist"]


def test_importing_the_registry_or_the_classifier_imports_no_torch():
    code = (
        "import sys, apps.vision.zoo.classifiers, apps.vision.classify\n"
        "import apps.vision.fake_classifier\n"
        "print([name for name in ('torch', 'torchvision', 'flask') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


# -- trained here ----------------------------------------------------------------------------


@pytest.mark.parametrize("spec", OWN)
def test_the_card_is_of_this_file_and_this_network(spec):
    card = trained(spec)
    assert (card["name"], card["architecture"]) == (spec.name, spec.architecture)
    assert card["file"] == spec.weights.name
    assert tuple(card["labels"]) == spec.labels
    data = (EMBEDDED / spec.weights.name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == card["sha256"] == spec.weights.sha256
    assert len(data) == card["size"] == spec.weights.size
    assert sum(p.numel() for p in spec.build().parameters()) == card["parameters"]


@pytest.mark.parametrize("spec", OWN)
def test_the_figures_of_the_card_are_fractions_of_every_class(spec):
    trained(spec)
    assert [row.label for row in spec.card.per_class] == list(spec.labels)
    for figure in (spec.card.accuracy, *(row.accuracy for row in spec.card.per_class)):
        assert 0 < figure <= 1


@pytest.mark.parametrize("spec", OWN)
def test_weights_are_never_without_their_card(spec):
    assert (EMBEDDED / spec.weights.name).exists() == bool(read_card(spec.name))


def test_all_weights_of_classifiers_together_are_small():
    files = [EMBEDDED / spec.weights.name for spec in classifiers() if spec.weights.embedded]
    assert sum(file.stat().st_size for file in files if file.exists()) <= MOST


# -- larger ones, made by whoever has a GPU --------------------------------------------------


@pytest.fixture
def googlenet(tmp_path):
    """A folder with a GoogLeNet as ``flask train`` leaves it: random weights and their card."""
    torch.manual_seed(0)
    name = "googlenet.cats_dogs"
    weights = runs.save_weights(googlenet_of(2), tmp_path / f"{name}.safetensors")
    facts = {"name": name, "accuracy": 0.81, "per_class": {"cat": 0.8, "dog": 0.82}}
    runs.write_card(tmp_path / f"{name}.json", weights, facts)
    return tmp_path


def test_a_larger_network_appears_once_it_was_made_and_answers(googlenet):
    (spec,) = larger(googlenet)
    assert (spec.name, spec.card.title, spec.card.accuracy) == (
        "googlenet.cats_dogs", "GoogLeNet", 0.81,
    )  # fmt: skip
    classifier = TorchClassifier(WeightsStore(googlenet), "cpu", lookup=lambda _name: spec)
    found = classifier.classify(Image.new("RGB", (320, 200), "teal"), spec.name)
    assert {guess.label for guess in found.guesses} == {"cat", "dog"}
    assert classifier.explain(Image.new("RGB", (320, 200)), spec.name).heat.mode == "RGB"


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_larger_network_is_not_offered_without_its_card_or_its_weights(googlenet, kind):
    (googlenet / f"googlenet.cats_dogs.{kind}").unlink()
    assert larger(googlenet) == ()


def test_a_larger_network_that_is_here_is_on_the_pages(ann, googlenet, monkeypatch):
    (spec,) = larger(googlenet)
    monkeypatch.setitem(registry._specs, spec.name, spec)
    assert f'href="/classifier/{spec.name}"' in ann.get("/classifier/").text
    page = ann.get(f"/classifier/{spec.name}").text
    assert "flask models fetch" not in page
    assert 'type="file"' in page


# -- torchvision's own -----------------------------------------------------------------------


def test_the_catalogue_is_what_the_installed_torchvision_says():
    assert imagenet.read() == imagenet.make(), "run python -m apps.vision.zoo.imagenet"


@pytest.mark.parametrize("spec", IMAGENET)
def test_published_weights_have_a_thousand_classes_and_a_figure(spec):
    assert len(spec.labels) == 1000
    assert {"tench", "toilet tissue"} <= set(spec.labels)
    assert 0.5 < spec.card.accuracy < 0.9
    assert spec.weights.url.endswith(spec.weights.name)
    assert not spec.weights.embedded
