"""Clips of the REST interface: their list, their state, and the boxes of their frames."""

import pytest

from tests.api.test_boxes import asks_as
from tests.api.test_lists import parts
from tests.api.test_rest import is_problem
from tests.clips import clip_bytes
from tests.test_video import uploaded


@pytest.fixture
def program(app, bearer):
    return asks_as(app, bearer("ann", "read"))


def test_a_clip_tells_its_state_and_the_boxes_of_each_frame_in_parts(ann, program):
    clip_id = uploaded(ann, every=3)
    [told] = program("GET", "/clips").json["items"]
    assert told == program("GET", f"/clips/{clip_id}").json
    assert (told["id"], told["status"], told["every"], told["width"]) == (clip_id, "done", 3, 64)
    frames = parts(program, f"/clips/{clip_id}/frames")
    assert [frame["number"] for frame in frames] == [0, 3, 6, 9]
    assert [box["label"] for box in frames[0]["detections"]] == ["dog", "cat"]
    assert len(frames[0]["detections"][0]["box"]) == 4
    sure = program("GET", f"/clips/{clip_id}/frames?min_score=0.5").json["items"]
    assert [box["label"] for box in sure[0]["detections"]] == ["dog"]


def test_clips_come_in_parts_the_latest_first(ann, program):
    ids = [uploaded(ann, clip_bytes(frames=n + 3), every=9) for n in range(3)]
    assert [clip["id"] for clip in parts(program, "/clips")] == ids[::-1]


def test_somebody_elses_clip_is_not_there(app, ann, bearer):
    clip_id = uploaded(ann, every=9)
    stranger = asks_as(app, bearer("bob", "read"))
    assert stranger("GET", "/clips").json == {"items": [], "next": None}
    for path in ("/clips/{}", "/clips/{}/frames"):
        theirs, missing = (stranger("GET", path.format(n)) for n in (clip_id, 4711))
        assert is_problem(theirs, 404)
        assert theirs.json == missing.json
    writer = asks_as(app, bearer("ann", "write"))
    assert is_problem(writer("GET", f"/clips/{clip_id}"), 403)
