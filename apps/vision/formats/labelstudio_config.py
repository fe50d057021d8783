"""Which boxes a Label Studio project wants: its label config, read as the XML that it is."""

import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from apps.errors import N_, InvalidInput
from apps.vision.types import Box

MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Control:
    """One tag that takes boxes."""

    from_name: str
    to_name: str
    data_key: str  # where a task names its picture
    labels: dict[str, str]  # a class of ours, folded -> what the project keeps for its label
    min_score: float | None  # model_score_threshold


def controls_of(text: str) -> list[Control]:
    """Every ``RectangleLabels`` of a config that is about an ``Image``, in its order.

    Raises:
        InvalidInput: no config, or one that has no such tag; the text says what it lacks.
    """
    root = _parsed(text)
    pictures = {
        tag.get("name", ""): tag.get("value", "").lstrip("$")
        for tag in root.iter("Image")
        if tag.get("value", "").startswith("$")
    }
    found = []
    for tag in root.iter("RectangleLabels"):
        name, to_name = tag.get("name", ""), tag.get("toName", "")
        if name and to_name in pictures:
            score = _score(tag.get("model_score_threshold") or tag.get("score_threshold"))
            found.append(Control(name, to_name, pictures[to_name], _labels(tag), score))
    if not found:
        raise InvalidInput(
            N_("The labeling config has no RectangleLabels tag for an Image tag. Add one.")
        )
    return found


def result_of(
    box: Box, control: Control, size: tuple[int, int], number: str
) -> dict[str, Any] | None:
    """``box`` as a region of ``control``; None if the project has no label for it.

    Args:
        size: width and height of the picture, in pixels.
        number: what tells this region from others.
    """
    label = control.labels.get(box.label.casefold())
    if label is None or (control.min_score is not None and box.score < control.min_score):
        return None
    width, height = size
    return {
        "id": number,
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": round(box.score, 6),
        "value": {
            "x": 100 * box.x1 / width,  # percent, as the rest
            "y": 100 * box.y1 / height,
            "width": 100 * (box.x2 - box.x1) / width,
            "height": 100 * (box.y2 - box.y1) / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }


def _parsed(text: str) -> ElementTree.Element:
    if len(text) > MOST_CHARACTERS:
        raise InvalidInput(N_("The labeling config is too long."))
    # Entities can unfold to any size, and no config needs them.
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise InvalidInput(N_("The labeling config may not declare a document type."))
    try:
        return ElementTree.fromstring(text)  # noqa: S314 (no entities, see above)
    except (ElementTree.ParseError, ValueError):
        raise InvalidInput(N_("The labeling config is not XML that can be read.")) from None


def _labels(tag: ElementTree.Element) -> dict[str, str]:
    """Classes by value, alias and ``predicted_values``; the value itself always wins.

    Label Studio keeps the alias of a label that has one; it shows the value.
    """
    named: dict[str, str] = {}
    others: dict[str, str] = {}
    for label in tag.iter("Label"):
        value = label.get("value", "").strip()
        if not value:
            continue
        alias = label.get("alias", "").strip()
        named.setdefault(value.casefold(), alias or value)
        for also in [alias, *label.get("predicted_values", "").split(",")]:
            if also.strip():
                others.setdefault(also.strip().casefold(), alias or value)
    return others | named


def _score(text: str | None) -> float | None:
    try:
        score = float(text) if text else None
    except ValueError:
        return None
    return score if score is not None and 0 <= score <= 1 else None
