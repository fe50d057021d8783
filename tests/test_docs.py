"""What is documented exists, and what exists is documented."""

import re

import pytest

from apps.cli import detect, models, storage, train, trash, users, workers
from apps.config import ROOT, Base
from apps.vision.zoo.classifiers import classifiers
from apps.vision.zoo.registry import detectors

SETTINGS = (ROOT / "docs" / "settings.md").read_text()
README = (ROOT / "README.md").read_text()


def test_every_setting_is_explained():
    keys = {key for key in vars(Base) if key.isupper() and not key.startswith("SECURITY_")}
    assert {key for key in keys if f"`{key}`" not in SETTINGS} == set()


@pytest.mark.parametrize("group", [users, detect, models, storage, train, trash, workers])
def test_every_command_is_in_the_readme(group):
    for name in group.commands:
        assert re.search(rf"flask {group.name} .*{name}|and: {name}", README), name


def test_every_model_has_a_card_with_its_checksum():
    cards = "".join(path.read_text() for path in (ROOT / "docs" / "models").glob("*.md"))
    for spec in detectors():
        assert spec.name in cards
        if not spec.weights.embedded:
            assert f"{spec.card.ap:.3f}" in cards
            continue
        assert spec.weights.sha256 in cards
        assert f"AP50 {spec.card.ap50:.3f}" in cards
        for row in spec.card.per_class:
            assert f"{row.label} {row.ap:.3f}" in cards


def test_every_classifier_is_in_its_document():
    page = (ROOT / "docs" / "models" / "classifiers.md").read_text()
    for spec in classifiers():
        assert f"| `{spec.name}` |" in page
        assert f"{spec.input.channels} × {spec.input.size} × {spec.input.size}" in page
        if spec.torchvision:
            assert f"| {spec.card.parameters:,} |" in page
            assert f"acc@1 {spec.card.accuracy:.3f}" in page


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_every_architecture_folder_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in (
        "models",
        "vision",
        "storage",
        "jobs",
        "services",
        "auth",
        "detector",
        "classifier",
        "live",
        "video",
        "crud",
        "api",
        "ops",
        "cli",
    ):
        assert re.search(rf"\b{name}/", text)
        assert (ROOT / "apps" / name).is_dir()
