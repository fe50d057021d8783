"""The classifiers that come with Sightbox: their files are those of their cards, and measure so."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apps.config import ROOT
from apps.vision.train.classifier import ClassifierRecipe
from apps.vision.train.shipped import SHIPPED
from apps.vision.zoo.classifiers import EMBEDDED, get_classifier, read_card
from apps.vision.zoo.store import WeightsStore, sha256_of
from apps.vision.zoo.weights import read_state
from benchmarks import accuracy

DATA = Path(os.environ.get("SIGHTBOX_TEST_DATA", Path(ROOT).parent / "shared" / "data"))
CARDS = [name for name in SHIPPED if read_card(name)]
MB = 1e6
BARS = {"lenet5.mnist": 0.99, "fashion_cnn.fashion_mnist": 0.92}  # least accuracy


@pytest.mark.parametrize("name", CARDS)
def test_a_shipped_file_is_the_one_of_its_card_and_loads(name, tmp_path):
    spec, card = get_classifier(name), read_card(name)
    WeightsStore(tmp_path).verify(spec.weights)
    assert (card["name"], card["sha256"]) == (name, sha256_of(EMBEDDED / card["file"]))
    assert (EMBEDDED / card["file"]).stat().st_size == card["size"]
    network = spec.build()
    network.load_state_dict(read_state(EMBEDDED / card["file"]))
    assert sum(p.numel() for p in network.parameters()) == card["parameters"]
    side = spec.input.size
    logits = network.eval()(torch.zeros(1, spec.input.channels, side, side))
    assert logits.shape == (1, len(card["labels"]))
    assert tuple(card["labels"]) == spec.labels
    assert card["accuracy"] >= BARS.get(name, 0.75)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_holds_the_recipe_that_is_documented(name):
    made = read_card(name)["recipe"]  # without the fields that came later
    assert SHIPPED[name].recipe == ClassifierRecipe.from_dict(made)
    row = f"| `{name}` | {read_card(name)['accuracy']:.4f} |"
    assert row in (Path(ROOT) / "docs" / "training.md").read_text()


def test_all_classifiers_together_are_small():
    assert sum(read_card(name)["size"] for name in CARDS) <= 40 * MB


def test_the_accuracy_of_a_card_is_measured_again():
    if not (DATA / "mnist").is_dir() or "lenet5.mnist" not in CARDS:
        pytest.skip(f"no MNIST at {DATA}; set SIGHTBOX_TEST_DATA to the folder around it")
    rows = accuracy.measured_classifier("lenet5.mnist", DATA)
    assert [row.name for row in rows if not row.good] == []
    assert len(rows) == 11


def test_a_card_that_says_too_much_is_found_out():
    row = accuracy.Compared("lenet5.mnist", said=0.9912, measured=0.9911, within=1.5e-4)
    assert row.good
    assert not replace(row, said=0.9999).good
    assert row.row().good
    wrong = replace(row, said=0.9999).row()
    assert not wrong.good
    assert "card 0.9999, measured 0.9911" in wrong.note


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--check"], 1)])
def test_nothing_to_measure_with_fails_a_check_alone(tmp_path, monkeypatch, options, status):
    monkeypatch.setattr(accuracy, "measured_classifiers", lambda _data: [])
    monkeypatch.setattr(accuracy, "measured_detectors", lambda _data: [])
    monkeypatch.setattr("sys.argv", ["accuracy", "--data", str(tmp_path), *options])
    assert accuracy.main() == status


def test_cards_are_plain_json():
    for name in CARDS:
        text = (EMBEDDED / f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text) == read_card(name)
