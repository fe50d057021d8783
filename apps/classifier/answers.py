"""Answers of networks as what pages and programs show."""

import base64
import io
from collections.abc import Iterable
from typing import Any

from PIL.Image import Image as Picture

from apps.i18n import stored_text
from apps.services.classifications import Answer
from apps.vision.decode import encode_jpeg, shrunk
from apps.vision.types import Step

SIDE = 480  # pixels, longest side of what is shown
EXACT_SIDE = 128  # pixels; smaller pictures are shown as they are, each pixel counts


def picture_uri(picture: Picture) -> str:
    """``picture`` as a ``data:`` address: no answer is kept anywhere."""
    if max(picture.size) > EXACT_SIDE:
        kind, data = "jpeg", encode_jpeg(shrunk(picture.convert("RGB"), SIDE), quality=88)
    else:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        kind, data = "png", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def answer_json(answer: Answer) -> dict[str, Any]:
    """One answer; probabilities 0..1, pictures as ``data:`` addresses."""
    found, why = answer.classification, answer.explanation
    return {
        "model": found.model,
        "guesses": [
            {
                "label": guess.label,
                "text": stored_text(guess.label),
                "probability": round(guess.probability, 6),
            }
            for guess in found.guesses
        ],
        "steps": _steps_json(found.steps),
        "explanation": None
        if why is None
        else {
            "label": why.label,
            "heat": picture_uri(why.heat),
            "maps": _steps_json(why.maps),
        },
    }


def _steps_json(steps: Iterable[Step]) -> list[dict[str, str]]:
    return [
        {"text": stored_text(step.text), "picture": picture_uri(step.picture)} for step in steps
    ]
