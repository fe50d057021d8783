"""Average precision on cases whose result can be worked out by hand."""

import pytest
import torch

from apps.vision.train.detection.measure import Accuracy, Found, average_precision
from apps.vision.train.detection.pictures import Truth
from apps.vision.train.detection.recipe import COCO, VOC

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
NEAR_A = (0, 0, 10, 8)  # IoU 0.8 with A
FAR = (80, 80, 90, 90)


def truth(*boxes, difficult=(), labels=None):
    """``difficult``: places of ``boxes``."""
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels or [1] * len(boxes), dtype=torch.int64),
        torch.tensor([place in difficult for place in range(len(boxes))], dtype=torch.bool),
    )


def found(*rows, label=1):
    """(box, score) pairs."""
    return Found(
        torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4),
        torch.full((len(rows),), label),
        torch.tensor([score for _, score in rows], dtype=torch.float32),
    )


def ap(truths, answers, iou=0.5):
    return average_precision(truths, answers, 1, iou)


def test_everything_found_is_one_and_nothing_is_zero():
    assert ap([truth(A, B)], [found((A, 0.9), (B, 0.8))]) == 1
    assert ap([truth(A, B)], [found()]) == 0
    assert ap([truth()], [found((A, 0.9))]) == 0


def test_half_found_is_half():
    assert ap([truth(A, B)], [found((A, 0.9))]) == 0.5


def test_a_wrong_box_before_the_right_one_halves_the_precision():
    assert ap([truth(A)], [found((FAR, 0.9), (A, 0.8))]) == 0.5
    assert ap([truth(A)], [found((A, 0.9), (FAR, 0.8))]) == 1


def test_a_second_box_on_the_same_object_is_wrong():
    # right, wrong (again A), right: precision 1 up to recall 1/2, then 2/3
    answer = found((A, 0.9), (NEAR_A, 0.8), (B, 0.7))
    assert ap([truth(A, B)], [answer]) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_scores_are_compared_over_all_pictures():
    truths = [truth(A), truth(A)]
    answers = [found((A, 0.5)), found((FAR, 0.9), (A, 0.4))]
    # wrong, right, right: precision after the falling envelope is 2/3 everywhere
    assert ap(truths, answers) == pytest.approx(2 / 3)


def test_a_difficult_object_need_not_be_found():
    assert ap([truth(A, B, difficult=[1])], [found((A, 0.9))]) == 1


def test_boxes_on_a_difficult_object_count_neither_way():
    alone = ap([truth(A, B, difficult=[1])], [found((A, 0.5))])
    with_hard = ap([truth(A, B, difficult=[1])], [found((B, 0.9), (B, 0.8), (A, 0.5))])
    assert alone == with_hard == 1


def test_a_box_belongs_to_the_object_that_it_overlaps_most_even_if_difficult():
    wide = (0, 0, 10, 16)  # IoU with A: 0.625
    assert ap([truth(A, wide, difficult=[1])], [found((wide, 0.9), (A, 0.8))]) == 1
    # the same two objects, none difficult: both boxes are right
    assert ap([truth(A, wide)], [found((wide, 0.9), (A, 0.8))]) == 1


def test_the_overlap_that_is_asked_for_decides():
    assert ap([truth(A)], [found((NEAR_A, 0.9))], iou=0.75) == 1
    assert ap([truth(A)], [found((NEAR_A, 0.9))], iou=0.85) == 0


def test_other_classes_do_not_count():
    assert ap([truth(A, B, labels=[1, 2])], [found((A, 0.9))]) == 1
    assert ap([truth(A, labels=[2])], [found((A, 0.9))]) == 0


@pytest.mark.parametrize("rule", [COCO, VOC])
def test_means_are_over_overlaps_and_over_the_classes_that_have_boxes(rule):
    accuracy = Accuracy(("one", "two", "none"), rule)
    accuracy.add(found((NEAR_A, 0.9)), truth(A, B, labels=[1, 2]))
    score = accuracy.compute()
    one, two, none = score.classes
    # IoU 0.8 is enough for 0.50 to 0.80: seven of ten
    assert one.ap == pytest.approx(0.7, abs=0.11)
    assert one.ap50 == pytest.approx(1)
    assert (two.ap, two.boxes, none.boxes) == (0, 1, 0)
    assert score.ap50 == pytest.approx(0.5)
    assert score.pictures == 1


def scored(rule, answer, *truths):
    accuracy = Accuracy(("one",), rule)
    for each in truths:
        accuracy.add(answer, each)
    return accuracy.compute()


@pytest.mark.parametrize("rule", [COCO, VOC])
def test_difficult_boxes_count_neither_way(rule):
    """Not found, found, and found twice before the others: always the same score."""
    there = truth(A, B, difficult=[1])
    for rows in ([], [(B, 0.95)], [(B, 0.95), (B, 0.92)]):
        score = scored(rule, found(*rows, (A, 0.9)), there)
        assert (score.ap50, score.ap) == (pytest.approx(1), pytest.approx(1))
        assert score.classes[0].boxes == 1
    # what is found nowhere is as wrong as ever: precision 1/2 at the only recall
    assert scored(rule, found((FAR, 0.95), (A, 0.9)), there).ap50 == pytest.approx(0.5)


def test_what_is_found_in_a_crowd_is_not_wrong_however_small_it_is():
    crowd = (20, 20, 70, 70)
    person = (30, 30, 40, 50)  # a twelfth of the crowd, all of it inside
    outside = (60, 30, 80, 50)  # half of it inside
    there = truth(A, crowd, difficult=[1])
    assert scored(COCO, found((person, 0.95), (A, 0.9)), there).ap50 == pytest.approx(1)
    assert scored(COCO, found((person, 0.95), (A, 0.9)), there).ap == pytest.approx(1)
    half = scored(COCO, found((outside, 0.95), (A, 0.9)), there)
    assert half.ap50 == pytest.approx(1)  # IoU 0.5 asks for half of the box
    assert half.ap == pytest.approx(0.55)  # from 0.55 on it is wrong: (1 + 9 * 0.5) / 10
    assert scored(VOC, found((person, 0.95), (A, 0.9)), there).ap50 == pytest.approx(0.5)


def test_a_class_with_nothing_but_difficult_boxes_is_in_no_mean():
    accuracy = Accuracy(("one", "crowds"), COCO)
    accuracy.add(found((A, 0.9)), truth(A, B, difficult=[1], labels=[1, 2]))
    score = accuracy.compute()
    assert score.ap == pytest.approx(1)
    assert (score.classes[1].boxes, score.classes[1].ap) == (0, 0)
