"""How unsure a model is of a picture."""

import pytest

from apps.vision.uncertainty import uncertainty


def test_a_box_counts_most_where_it_could_as_well_not_be_there():
    values = [uncertainty([score]) for score in (0.99, 0.9, 0.7, 0.5)]
    assert values == sorted(values)
    assert uncertainty([0.5]) == 0.5  # (1 - 0)², as a part of itself and one
    assert uncertainty([0.3]) == pytest.approx(uncertainty([0.7]))
    assert uncertainty([1.0]) == uncertainty([0.0]) == 0


def test_more_unsure_boxes_count_more_and_never_reach_one():
    values = [uncertainty([0.4] * number) for number in (1, 2, 10, 1000)]
    assert values == sorted(values)
    assert values[-1] < 1
    assert uncertainty([0.4, 0.99]) > uncertainty([0.4])


def test_a_picture_without_boxes_is_asked_about_after_unsure_and_before_sure_ones():
    assert uncertainty([0.97]) < uncertainty([]) < uncertainty([0.9])
