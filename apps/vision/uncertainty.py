"""How unsure a detector is of a picture, so that people look first where it helps most."""

from collections.abc import Iterable

from apps.vision.types import SCORE_FLOOR


def uncertainty(scores: Iterable[float]) -> float:
    """0..1: how much a person's look at a picture can teach; a higher one comes first.

    "1-vs-2" of Brust, Käding, Denzler 2019, "Active Learning for Deep Object Detection"
    (https://arxiv.org/abs/1809.09875): one box counts (1 - margin)², where the margin is that
    between the two most probable classes, and a picture counts the sum of its boxes, which learned
    fastest there. Two things are our own. A detector keeps one score for a box, so the second class
    is that there is no such object, and the margin is |2 * score - 1|. And the sum, which has no
    upper end, is told as sum / (1 + sum), which leaves the order as it is.

    Args:
        scores: 0..1 of the boxes that nobody has decided yet. Without any the picture counts as
            one box at the engine's floor would: what the model left out may be just below it.
    """
    total, boxes = 0.0, 0
    for score in scores:
        boxes += 1
        total += (1.0 - abs(2.0 * score - 1.0)) ** 2
    if not boxes:
        total = (2.0 * SCORE_FLOOR) ** 2
    return total / (1.0 + total)
