"""Which boxes of two results are the same object."""

import numpy as np
import pytest

from apps.vision.agreement import Match, Tally, became, compare, ious, match, tally
from apps.vision.types import Box


def box(x: float, score: float, label: str = "dog", width: float = 10) -> Box:
    return Box(label, score, x, 0, x + width, 10)


def random_boxes(chance: np.random.Generator, number: int) -> list[Box]:
    return [
        Box(str(chance.choice(["dog", "cat"])), float(chance.random()), x, y, x + w, y + h)
        for x, y, w, h in (chance.random((number, 4)) * [20, 20, 25, 25] + [0, 0, 1, 1]).tolist()
    ]


def test_the_overlap_is_that_of_torchvision():
    import torch
    from torchvision.ops import box_iou

    chance = np.random.default_rng(0)
    left, right = random_boxes(chance, 40), random_boxes(chance, 30)
    corners = [
        torch.tensor([(b.x1, b.y1, b.x2, b.y2) for b in boxes], dtype=torch.float64)
        for boxes in (left, right)
    ]
    assert ious(left, right) == pytest.approx(box_iou(*corners).numpy())


def test_half_is_enough_and_less_is_not():
    wide = box(0, 0.9, width=20)
    assert match([wide], [box(0, 0.9, width=10)]) == [Match(0, 0, 0.5)]
    assert match([wide], [box(0, 0.9, width=9.9)]) == []


def test_another_label_is_another_object():
    assert match([box(0, 0.9, "dog")], [box(0, 0.9, "cat")]) == []


def test_each_box_is_matched_once_and_the_surest_pair_first():
    left = [box(0, 0.9)]
    right = [box(0, 0.6), box(1, 0.8)]
    assert [(m.left, m.right) for m in match(left, right)] == [(0, 1)]


def test_of_equally_sure_pairs_the_better_overlap_is_taken():
    right = [box(0, 0.5)]
    left = [box(3, 0.9), box(1, 0.8)]  # the lower score is that of the right one, both times
    assert [(m.left, m.right) for m in match(left, right)] == [(1, 0)]


@pytest.mark.parametrize("sides", [([], []), ([box(0, 0.9)], []), ([], [box(0, 0.9)])])
def test_an_empty_side_matches_nothing(sides):
    assert match(*sides) == []
    assert len(compare(*sides)) == sum(map(len, sides))


@pytest.mark.parametrize("seed", range(8))
def test_left_and_right_can_change_places(seed):
    chance = np.random.default_rng(seed)
    left, right = random_boxes(chance, 50), random_boxes(chance, 50)
    there = {(m.left, m.right) for m in match(left, right)}
    back = {(m.right, m.left) for m in match(right, left)}
    assert there == back
    assert there


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(8))
def test_the_slider_needs_no_new_matching(seed, threshold):
    chance = np.random.default_rng(seed)
    left, right = random_boxes(chance, 50), random_boxes(chance, 50)
    pairs = compare(left, right)
    sure = [[b for b in boxes if b.score >= threshold] for boxes in (left, right)]
    anew = compare(*sure)

    def both(pairs) -> set[tuple[Box, Box]]:
        return {(p.left, p.right) for p in pairs if p.seen_by(threshold) == "both"}

    assert both(pairs) == both(anew)
    assert tally(pairs, threshold) == tally(anew, threshold)
    counts = tally(pairs, threshold)
    assert counts.both + counts.left == len(sure[0])
    assert counts.both + counts.right == len(sure[1])


def test_every_box_is_in_one_pair_the_surest_first():
    left, right = [box(0, 0.9), box(50, 0.3)], [box(1, 0.4), box(90, 0.7)]
    pairs = compare(left, right)
    assert [(p.left, p.right) for p in pairs] == [
        (left[0], right[0]), (None, right[1]), (left[1], None),
    ]  # fmt: skip
    assert [p.score for p in pairs] == [0.9, 0.7, 0.3]
    assert [p.label for p in pairs] == ["dog"] * 3
    assert [p.seen_by(0.5) for p in pairs] == ["left", "right", ""]
    assert [p.seen_by(0.3) for p in pairs] == ["both", "right", "left"]


def test_the_share_is_that_of_the_objects_seen_by_both():
    assert Tally(3, 1, 0).share == 0.75
    assert Tally(0, 0, 0).share is None


def test_a_changed_box_became_of_the_nearest_of_the_model_that_is_shown():
    words = [box(0, 1.0, "cat"), box(40, 1.0, "cat"), box(80, 1.0, "cat")]
    boxes = [
        box(0, 0.5, "cat"),  # of a model that is not shown
        box(2, 0.5, "dog"),
        box(1, 0.5, "dog"),
        box(41, 0.5, "Cat"),
        box(40, 0.5, "dog"),
    ]
    shown = [False, True, True, True, True]
    assert became(words, boxes, shown) == [2, 3, None]
    assert became(words[:2], boxes[:1], [False]) == [0, None]
    assert became([words[0], words[0]], boxes[:2], [False, True]) == [1, 0]  # each box once
    assert became([], boxes, shown) == []
    assert became(words, [], []) == [None, None, None]
