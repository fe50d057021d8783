"""Lists of classes as people paste them."""

import pytest

from apps.errors import InvalidInput
from apps.models import MAX_TAG_LENGTH
from apps.services.labels import MAX_CLASSES, parse_classes

TWO = ("person", "traffic light")


@pytest.mark.parametrize(
    "text",
    [
        "person\ntraffic light\n",
        "\ufeffperson\r\n  traffic   light,\r\n\r\n",
        "person, traffic light",
        "- person\n- 'traffic light'",
        "names:\n  0: person\n  1: traffic light\n",
        "train: images/train\nnc: 2\nnames: ['person', \"traffic light\"]\nval: x\n",
        "names:\n- person\n- traffic light\n\ndownload: https://example.com\n",
        "1: person\n2: traffic light",
        '["person", "traffic light"]',
        "['person', 'traffic light']",
        "{0: person, 1: 'traffic light'}",
        '{"names": {"0": "person", "1": "traffic light"}}',
        '[{"id": 2, "name": "traffic light"}, {"id": 1, "name": "person"}]',
        '{"images": [], "categories": [{"id": 1, "name": "person", "supercategory": "x"},'
        ' {"id": 2, "name": "traffic light"}]}',
    ],
)
def test_lists_in_many_forms_are_read(text):
    assert parse_classes(text) == TWO


def test_labels_of_any_language_are_composed_and_keep_commas_within_a_line():
    assert parse_classes("적혈구\n\u1112\u1161\u11ab\nbolts, nuts") == (
        "적혈구",
        "한",
        "bolts, nuts",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "one a line"),
        (" \n , \n", "one a line"),
        ("a\nb\nA", "“A” is there twice"),
        ("__background__\ncat", "Leave the background out"),
        ("cat\nN/A\ndog", "Class 2 is not a class"),
        ("x" * (MAX_TAG_LENGTH + 1), "at most 40 characters"),
        ("cat\nd\x00g", "Class 2 holds control characters"),
        ("c\u202eat", "control characters"),
        ("\n".join(f"c{n}" for n in range(MAX_CLASSES + 1)), "at most 2000 classes"),
        ("names:\n  0: a\n  2: b", "leave none out"),
        ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "leave none out"),
        ('[{"id": 90, "name": "a"}]', "begin at 0 or 1"),
        ('[{"name": "a"}]', "cannot be read"),
        ('{"a": "b"}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{'a', ['b']}", "cannot be read"),
    ],
)
def test_what_cannot_be_labels_says_why(text, reason):
    with pytest.raises(InvalidInput, match=reason):
        parse_classes(text)
