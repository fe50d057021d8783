"""Which boxes of two results are the same object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.vision.types import Box

SAME = 0.5  # intersection over union from which two boxes of one label are the same object


@dataclass(frozen=True, slots=True)
class Match:
    """Places of two boxes that are the same object, and how well they overlap."""

    left: int
    right: int
    iou: float  # SAME..1


def match(left: Sequence[Box], right: Sequence[Box], least: float = SAME) -> list[Match]:
    """Pairs of boxes with the same label and an overlap of at least ``least``, each box once.

    Greedy by score, as COCO's evaluation pairs boxes with the truth (Lin et al. 2014,
    "Microsoft COCO: Common Objects in Context"; ``evaluateImg`` of pycocotools/cocoeval.py), but
    neither side is the truth here. So pairs are taken in the order of the lower of their two
    scores, then of their overlap. Two things follow: left and right can change places, and the
    pairs among the boxes at and above a score are simply those of all boxes in which both scores
    are, so a slider needs no new matching.
    """
    if not left or not right:
        return []
    overlap = ious(left, right)
    labels = np.array([box.label for box in left])[:, None] == [box.label for box in right]
    rows, columns = np.nonzero(labels & (overlap >= least))
    scores = [np.array([box.score for box in boxes]) for boxes in (left, right)]
    lower = np.minimum(scores[0][rows], scores[1][columns])
    free = [np.ones(len(boxes), np.bool_) for boxes in (left, right)]
    found = []
    for place in np.lexsort((-overlap[rows, columns], -lower)).tolist():
        row, column = int(rows[place]), int(columns[place])
        if free[0][row] and free[1][column]:
            free[0][row] = free[1][column] = False
            found.append(Match(row, column, float(overlap[row, column])))
    return found


def ious(left: Sequence[Box], right: Sequence[Box]) -> NDArray[np.float64]:
    """(left, right) intersection over union of every two boxes, 0..1."""
    one, other = (
        np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float64).reshape(-1, 4)
        for boxes in (left, right)
    )
    low = np.maximum(one[:, None, :2], other[:, :2])
    high = np.minimum(one[:, None, 2:], other[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    found: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1] - shared)
    return found


def claims(
    boxes: Sequence[Box], words: Sequence[Sequence[Box]], least: float = SAME
) -> list[int | None]:
    """For each box the word that speaks of the same object; None where there is none.

    Unlike ``match``, one word may claim several boxes: what a person has decided does not come
    back because a model found it twice.

    Args:
        words: for each word the boxes that stand for it; their scores mean nothing. It claims a
            box with the label of one of them, in any case, and an overlap of at least ``least``.
            Where several words do, the one that overlaps most.
    """
    owners = [place for place, word in enumerate(words) for _ in word]
    standing = [box for word in words for box in word]
    if not boxes or not standing:
        return [None] * len(boxes)
    names = np.array([box.label.casefold() for box in standing])
    same = np.array([box.label.casefold() for box in boxes])[:, None] == names
    overlap = np.where(same, ious(boxes, standing), 0.0)
    best = overlap.argmax(axis=1)
    claimed = overlap[np.arange(len(boxes)), best] >= least
    return [
        owners[place] if yes else None
        for place, yes in zip(best.tolist(), claimed.tolist(), strict=True)
    ]


def became(
    words: Sequence[Box], boxes: Sequence[Box], shown: Sequence[bool], least: float = SAME
) -> list[int | None]:
    """For each word the box of a model that a person made it of; None where there is none.

    A person may have changed the label, so the place alone tells, and each box is taken once.

    Args:
        words: boxes of a person of which only that is known: each became of a model's box.
        shown: for each of ``boxes`` whether it is of the model that people see. Those come first,
            then boxes with the word's own label, in any case, then the one that overlaps most.
        least: intersection over union below which a box is another object.
    """
    found: list[int | None] = [None] * len(words)
    if not words or not boxes:
        return found
    overlap = ious(words, boxes)
    names = np.array([box.label.casefold() for box in boxes])
    same = np.array([word.label.casefold() for word in words])[:, None] == names
    seen = np.array(shown, np.bool_)
    for allowed in (same & seen, np.broadcast_to(seen, same.shape), same, np.ones_like(same)):
        for place in (place for place, box in enumerate(found) if box is None):
            row = np.where(allowed[place], overlap[place], 0.0)
            best = int(row.argmax())
            if row[best] >= least:
                found[place] = best
                overlap[:, best] = 0.0
    return found


@dataclass(frozen=True, slots=True)
class Pair:
    """One object in two results; a side that has no box of it is None."""

    left: Box | None
    right: Box | None
    iou: float | None = None  # of the two boxes

    @property
    def label(self) -> str:
        return (self.left or self.right).label  # type: ignore[union-attr]  # one of them is there

    @property
    def score(self) -> float:
        """The higher of the two."""
        return max(box.score for box in (self.left, self.right) if box is not None)

    def seen_by(self, threshold: float) -> str:
        """``both``, ``left``, ``right``, or nothing: who has a box at and above ``threshold``."""
        left, right = (
            box is not None and box.score >= threshold for box in (self.left, self.right)
        )
        if left and right:
            return "both"
        return "left" if left else "right" if right else ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many objects were seen by both and by one alone."""

    both: int
    left: int
    right: int

    @property
    def share(self) -> float | None:
        """Seen by both, as a fraction of all, 0..1; None if there is nothing."""
        total = self.both + self.left + self.right
        return self.both / total if total else None


def compare(left: Sequence[Box], right: Sequence[Box]) -> list[Pair]:
    """Every box of both sides once, alone or with its match, by the higher score."""
    matches = match(left, right)
    pairs = [Pair(left[found.left], right[found.right], found.iou) for found in matches]
    taken = [{found.left for found in matches}, {found.right for found in matches}]
    pairs += [Pair(box, None) for place, box in enumerate(left) if place not in taken[0]]
    pairs += [Pair(None, box) for place, box in enumerate(right) if place not in taken[1]]
    return sorted(pairs, key=lambda pair: -pair.score)


def tally(pairs: Sequence[Pair], threshold: float) -> Tally:
    """The numbers of ``pairs`` at and above ``threshold``."""
    seen = [pair.seen_by(threshold) for pair in pairs]
    return Tally(seen.count("both"), seen.count("left"), seen.count("right"))
