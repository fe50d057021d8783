"""Cards: what is known of a model that an administrator added, as a small JSON file."""

import json
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from apps.errors import N_
from apps.vision.zoo.architectures import BUILDERS, Origin
from apps.vision.zoo.registry import Added, DetectorSpec, ModelCard
from apps.vision.zoo.store import WeightsFile

logger = logging.getLogger(__name__)

FOLDER = "custom"  # below the folder of weights
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])?")
MAX_CLASSES = 2000
MAX_LABEL = 60  # characters, as the column of boxes
MAX_TEXT = 500  # characters of a note
MAX_CARD = 2**20  # bytes
SUMMARY = N_("An administrator added these weights.")


def spec_of(
    name: str,
    added: Added,
    classes: tuple[str, ...],
    *,
    sha256: str,
    size: int,
    parameters: int,
    description: str = "",
    licence: str = "",
) -> DetectorSpec:
    """A model of somebody's own.

    Args:
        size: bytes of the file of weights.
        description: what it is for, in the administrator's words.
        licence: of the weights, and where they come from, in the administrator's words.
    """
    return DetectorSpec(
        name=name,
        builder=BUILDERS[added.architecture],
        classes=classes,
        weights=WeightsFile(f"{FOLDER}/{name}.safetensors", sha256, size, own=True),
        card=ModelCard(
            title=name,
            summary=description or SUMMARY,
            use="",
            limits=(N_("How good it is has not been measured."),),
            data="",
            split="",
            ap=None,
            parameters=parameters,
            licence=licence,
        ),
        added=added,
    )


def card_text(spec: DetectorSpec) -> str:
    """The card of an own model, as it stands in its file."""
    added = spec.added
    if added is None:
        raise ValueError(f"{spec.name} is not an own model")
    described = spec.card.summary
    fields = {
        "name": spec.name,
        "architecture": added.architecture,
        "origin": added.origin.value,
        "classes": list(spec.classes),
        "sha256": spec.weights.sha256,
        "size": spec.weights.size,
        "parameters": spec.card.parameters,
        "description": "" if described == SUMMARY else described,
        "licence": spec.card.licence,
        "added_at": added.at.isoformat(),
        "added_by": added.by,
        "file": added.file,
    }
    return json.dumps(fields, ensure_ascii=False, indent=1)


def read_card(path: Path, name: str) -> DetectorSpec | None:
    """The model of a card, or None if it is missing or not a card."""
    try:
        if path.stat().st_size > MAX_CARD:
            raise ValueError("too long")
        return _parse(json.loads(path.read_text(encoding="utf-8")), name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("not a model card file=%s reason=%r", path, error)
        return None


def _parse(card: dict[str, Any], name: str) -> DetectorSpec:
    """Raises KeyError, TypeError or ValueError for anything that :func:`card_text` would not
    have written."""
    classes = card["classes"]
    texts = [card[key] for key in ("description", "licence", "added_by", "file")]
    at = datetime.fromisoformat(card["added_at"])
    for right in (
        card["name"] == name and NAME.fullmatch(name),
        card["architecture"] in BUILDERS,
        isinstance(classes, list) and 0 < len(classes) <= MAX_CLASSES,
        all(isinstance(label, str) and 0 < len(label) <= MAX_LABEL for label in classes),
        all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts),
        re.fullmatch("[0-9a-f]{64}", card["sha256"]),
        all(type(card[key]) is int and card[key] >= 0 for key in ("size", "parameters")),
        at.tzinfo is not None,
    ):
        if not right:
            raise ValueError("a value that no card has")
    return spec_of(
        name,
        Added(card["architecture"], Origin(card["origin"]), at, card["added_by"], card["file"]),
        tuple(classes),
        sha256=card["sha256"],
        size=card["size"],
        parameters=card["parameters"],
        description=card["description"],
        licence=card["licence"],
    )
