"""One colour for each label, readable and the same everywhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apps.config import ROOT
from apps.vision.colors import PALETTE, color_index, color_of, text_on

SHEET = Path(ROOT) / "apps" / "static" / "css" / "labels.css"


def luminance(color: str) -> float:
    """WCAG 2 relative luminance, written out here once more."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    parts = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_style_sheet_says_the_same_as_the_palette():
    rule = re.compile(r"\.c(\d+) \{ --label: (#[0-9a-f]{6}); --on-label: (#[0-9a-f]{6}); \}")
    found = [(int(i), color, on) for i, color, on in rule.findall(SHEET.read_text("utf-8"))]
    assert found == [(i, color, text_on(color)) for i, color in enumerate(PALETTE)]


@pytest.mark.parametrize("color", PALETTE)
def test_text_on_a_label_has_a_contrast_of_at_least_4_5(color):
    assert contrast(color, text_on(color)) >= 4.5


def test_contrast_as_measured_here_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_no_colour_is_there_twice():
    assert len(set(PALETTE)) == len(PALETTE)
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in PALETTE)


def test_spelling_in_capitals_changes_no_colour():
    assert color_of("Dog") == color_of("dog") == color_of("DOG")
    assert color_of("STRASSE") == color_of("straße")


def test_the_labels_of_the_shipped_model_differ_in_colour():
    assert len({color_of(label) for label in ("RBC", "WBC", "Platelets")}) == 3


@pytest.mark.parametrize("label", ["", "RBC", "고양이", "a label with spaces", "x" * 1000])
def test_every_label_has_a_colour(label):
    assert color_of(label) == PALETTE[color_index(label)]


def test_colours_are_the_same_in_every_process():
    labels = ["RBC", "WBC", "Platelets", "dog", "고양이"]
    code = (
        f"from apps.vision.colors import color_index; print([color_index(x) for x in {labels!a}])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {str([color_index(label) for label in labels])}


def test_colours_stay_what_they_were_in_earlier_versions():
    assert [color_index(label) for label in ("RBC", "WBC", "Platelets", "dog")] == [3, 16, 8, 13]
