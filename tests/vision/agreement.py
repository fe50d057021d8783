"""When two results say the same: the tolerance that docs/performance.md promises."""

from collections.abc import Sequence

from apps.vision.types import Box

IOU = 0.99  # at least
SCORE = 0.005  # difference at most


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2), 0..1."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def strangers(boxes: Sequence[Box], others: Sequence[Box], floor: float) -> list[Box]:
    """Those of ``boxes`` that have no partner among ``others``; each partner counts once.

    A box within the tolerance of ``floor`` may be missing: it may be just below it on the other
    side.
    """
    left = list(others)
    alone = []
    for box in boxes:
        partner = next(
            (
                other
                for other in left
                if other.label == box.label
                and abs(other.score - box.score) <= SCORE
                and overlap(corners(other), corners(box)) >= IOU
            ),
            None,
        )
        if partner is not None:
            left.remove(partner)
        elif box.score > floor + SCORE:
            alone.append(box)
    return alone


def assert_same(boxes: Sequence[Box], others: Sequence[Box], floor: float = 0.05) -> None:
    assert strangers(boxes, others, floor) == []
    assert strangers(others, boxes, floor) == []
