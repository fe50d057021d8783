"""Boxes of a picture, one at a time, as programs change them."""

import io

import pytest

from apps.api.rest import PREFIX
from tests.api.test_rest import is_problem, uploaded
from tests.conftest import picture_bytes

BOX = {"label": "bird", "box": [1, 2, 30, 40]}


@pytest.fixture
def program(app, bearer):
    """program(method, path) asks as ann."""
    return asks_as(app, bearer("ann"))


def asks_as(app, headers):
    client = app.test_client()

    def ask(method: str, path: str, **options):
        given = headers | options.pop("headers", {})
        return client.open(PREFIX + path, method=method, headers=given, **options)

    return ask


def version(answer) -> dict[str, str]:
    return {"If-Match": answer.headers["ETag"]}


def test_boxes_are_listed_drawn_changed_and_deleted(program):
    path = f"/images/{uploaded(program)}/boxes"
    found = program("GET", path)
    assert [(box["label"], box["source"], box["verdict"]) for box in found.json["boxes"]] == [
        ("dog", "model", None),
        ("cat", "model", None),
    ]
    drawn = program("POST", path, json=BOX, headers=version(found))
    assert drawn.status_code == 201
    assert drawn.json | BOX == drawn.json
    assert (drawn.json["verdict"], drawn.json["author"]) == ("drawn", "ann")
    here = drawn.headers["Location"].removeprefix(PREFIX)
    assert program("GET", here).json == drawn.json
    moved = program("PATCH", here, json={"box": [-5, 2, 31, 40]}, headers=version(drawn))
    assert moved.json == drawn.json | {"box": [0, 2, 31, 40]}
    gone = program("DELETE", here, headers=version(moved))
    assert (gone.status_code, gone.data) == (204, b"")
    assert is_problem(program("GET", here), 404, "not_found")
    assert program("POST", path, json=BOX).status_code == 201  # to whatever is there


def test_a_change_for_another_version_is_refused_and_one_for_none_too(program):
    path = f"/images/{uploaded(program)}/boxes"
    found = program("GET", path)
    drawn = program("POST", path, json=BOX)
    here = f"{path}/{drawn.json['id']}"
    for method, options in (("PATCH", {"json": {"label": "owl"}}), ("DELETE", {})):
        old = program(method, here, headers=version(found), **options)
        assert is_problem(old, 412, "changed_meanwhile")
        assert is_problem(program(method, here, **options), 428, "if_match_missing")
        for wrong in ("nonsense", '"nonsense"', '""', f"W/{drawn.headers['ETag']}"):
            assert program(method, here, headers={"If-Match": wrong}, **options).status_code == 412
    assert is_problem(program("POST", path, json=BOX, headers=version(found)), 412)
    assert program("GET", here).json["label"] == "bird"
    changed = program("PATCH", here, json={"label": "owl"}, headers={"If-Match": "*"})
    assert changed.json["label"] == "owl"


def test_what_was_read_already_is_not_sent_again(program):
    path = f"/images/{uploaded(program)}/boxes"
    tag = {"If-None-Match": program("GET", path).headers["ETag"]}
    same = program("GET", path, headers=tag)
    assert (same.status_code, same.data) == (304, b"")
    program("POST", path, json=BOX)
    assert program("GET", path, headers=tag).status_code == 200


def test_a_models_boxes_are_accepted_rejected_and_changed(program):
    path = f"/images/{uploaded(program)}/boxes"
    dog, cat = program("GET", path).json["boxes"]
    accepted = program("POST", f"{path}/{dog['id']}/accept", headers={"If-Match": "*"})
    assert (accepted.status_code, accepted.json["verdict"]) == (200, "accepted")
    assert accepted.json["score"] == dog["score"]
    # The number that the program knows still means the same box.
    changed = program(
        "PATCH", f"{path}/{dog['id']}", json={"label": "wolf"}, headers={"If-Match": "*"}
    )
    assert (changed.json["id"], changed.json["verdict"]) == (accepted.json["id"], "changed")
    rejected = program("DELETE", f"{path}/{cat['id']}", headers={"If-Match": "*"})
    assert rejected.status_code == 204
    assert [box["label"] for box in program("GET", path).json["boxes"]] == ["wolf"]
    everything = program("GET", f"{path}?rejected=true").json["boxes"]
    assert {box["label"]: box["verdict"] for box in everything} == {
        "wolf": "changed",
        "cat": "rejected",
    }
    back = next(box["id"] for box in everything if box["label"] == "cat")
    again = program("POST", f"{path}/{back}/accept", headers={"If-Match": "*"})
    assert again.json["verdict"] == "accepted"
    drawn = program("POST", path, json=BOX).json["id"]
    wrong = program("POST", f"{path}/{drawn}/reject", headers={"If-Match": "*"})
    assert is_problem(wrong, 422, "invalid")


def test_a_picture_is_marked_as_reviewed(program):
    image_id = uploaded(program)
    found = program("GET", f"/images/{image_id}/boxes")
    path = f"/images/{image_id}/reviewed"
    marked = program("PUT", path, json={"reviewed": True}, headers=version(found))
    assert marked.json["reviewed"] is True
    assert is_problem(program("PUT", path, json={"reviewed": False}, headers=version(found)), 412)
    assert program("POST", f"/images/{image_id}/boxes", json=BOX).status_code == 201
    assert program("GET", f"/images/{image_id}/boxes").json["reviewed"] is True
    assert program("PUT", path, json={"reviewed": False}).json["reviewed"] is False


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": "x"},
        {"label": " ", "box": [1, 2, 3, 4]},
        {"label": "x\n\x00", "box": [1, 2, 3, 4]},
        {"label": "x", "box": [1, 2, 3]},
        {"label": "x", "box": [3, 2, 1, 4]},
        {"label": "x", "box": [1000, 2, 1001, 4]},
        {"label": "x", "box": [1, 2, 3, "NaN"]},
        {"label": "x", "box": [1, 2, 3, 4], "other": 1},
        [],
    ],
)
def test_a_box_that_cannot_be_is_refused(program, body):
    path = f"/images/{uploaded(program)}/boxes"
    assert is_problem(program("POST", path, json=body), 422)


def test_boxes_of_somebody_else_are_not_there(app, program, bearer):
    path = f"/images/{uploaded(program)}/boxes"
    dog = program("GET", path).json["boxes"][0]["id"]
    stranger, reader = asks_as(app, bearer("bob")), asks_as(app, bearer("ann", "read"))
    tag = {"headers": {"If-Match": "*"}}
    for method, address, options in (
        ("GET", path, {}),
        ("POST", path, {"json": BOX}),
        ("GET", f"{path}/{dog}", {}),
        ("PATCH", f"{path}/{dog}", {"json": {"label": "x"}} | tag),
        ("DELETE", f"{path}/{dog}", tag),
        ("POST", f"{path}/{dog}/accept", tag),
        ("PUT", path.replace("boxes", "reviewed"), {"json": {"reviewed": True}}),
    ):
        assert is_problem(stranger(method, address, **options), 404)
        if method != "GET":
            assert is_problem(reader(method, address, **options), 403)


def test_every_error_below_the_interface_is_a_problem(make_app, program):
    assert is_problem(program("GET", "/nothing"), 404)
    assert is_problem(program("PUT", "/images"), 405)
    assert "POST" in program("PUT", "/images").headers["Allow"]
    text = {"data": "name=x", "content_type": "text/plain"}
    assert is_problem(program("POST", f"/images/{uploaded(program)}/tags", **text), 415)
    data = {"image": (io.BytesIO(picture_bytes()), "x.jpg")}
    assert is_problem(program("POST", "/images", json={"image": "x"}), 415)
    assert program("POST", "/images", data=data).status_code == 201
