"""Two kept results of one picture side by side, and the choice of the present one."""

from dataclasses import dataclass

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.detector.results import boxes_of, threshold_of
from apps.models import Image, Result
from apps.vision.agreement import Pair, Tally, tally
from apps.vision.agreement import compare as pairs_of


@dataclass(frozen=True)
class Side:
    """One of the two pictures of the page."""

    name: str  # "left" or "right", as in the address
    result: Result
    places: list[int]  # of its boxes among the pairs, the largest box first
    total: int  # boxes at and above the threshold


@bp.get("/images/<int:image_id>/compare")
@login_required
def compare(image_id: int) -> ResponseReturnValue:
    image = services().images.get_owned(current_user.id, image_id)
    kept = services().results.kept(image_id)
    context: dict[str, object] = {"image": image, "kept": kept}
    if len(kept) > 1:
        left, right = _chosen(image, [result.model for result in kept])
        context |= _comparison(image_id, left, right)
    return render_template("detector/compare.html", **context)


def _chosen(image: Image, models: list[str]) -> tuple[str, str]:
    """The two models that the address names; else the present one, and the latest other one."""
    right = request.args.get("right") or image.model or models[0]
    left = request.args.get("left") or next(name for name in models if name != right)
    return left, right


def _comparison(image_id: int, left: str, right: str) -> dict[str, object]:
    """What the template shows of two results.

    Raises:
        NotFound: one of the two models has not looked at this picture.
    """
    threshold = threshold_of(request.args, current_user.threshold)
    results = [services().results.find(image_id, model) for model in (left, right)]
    found = [boxes_of(services().results.boxes(image_id, model)) for model in (left, right)]
    pairs = pairs_of(*found)
    counts = tally(pairs, threshold)
    return {
        "threshold": threshold,
        "pairs": pairs,
        "counts": counts,
        "masks": any(box.mask for boxes in found for box in boxes),
        "sides": [
            _side(name, result, pairs, counts)
            for name, result in zip(("left", "right"), results, strict=True)
        ],
    }


def _side(name: str, result: Result, pairs: list[Pair], counts: Tally) -> Side:
    areas = {}
    for place, pair in enumerate(pairs):
        box = getattr(pair, name)
        if box is not None:
            areas[place] = (box.x2 - box.x1) * (box.y2 - box.y1)
    largest_first = sorted(areas, key=lambda place: -areas[place])
    return Side(name, result, largest_first, counts.both + getattr(counts, name))


@bp.post("/images/<int:image_id>/result")
@login_required
def use_result(image_id: int) -> ResponseReturnValue:
    """Make a kept result the present one."""
    services().results.use(image_id, current_user.id, request.form.get("model", ""))
    return redirect(url_for("detector.show", image_id=image_id), 303)
