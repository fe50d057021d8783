"""What a person says about boxes: kept, never lost to a model, never to another tab."""

import json
import threading
import uuid

import pytest
from sqlalchemy import select

from apps.container import services
from apps.errors import AppError
from apps.extensions import db
from apps.models import Annotation, Detection, Image, Verdict
from apps.services.annotations import Outdated
from apps.services.changes import MAX_BYTES, MAX_SAID, clipped, read_change
from apps.vision.types import Box
from tests.conftest import DATABASES, app_on

USUAL, OTHER = "fake.test", "ssd300_vgg16.coco_v1"
JSON = "application/json"
DOG = Box("dog", 0.9, 4, 4, 40, 40)
CAT = Box("cat", 0.8, 30, 20, 60, 44)


@pytest.fixture(params=DATABASES)
def app(request):
    return app_on(request)


@pytest.fixture
def look(app):
    """look(image_id, box, …, model=…): that model looks once more and finds these boxes."""

    def look(image_id: int, *boxes: Box, model: str = USUAL) -> None:
        engine = services(app).detections.engine
        engine.script, engine.model = (lambda picture: boxes), model
        with app.app_context():
            services(app).requests.again(image_id)

    return look


@pytest.fixture
def picture(ann, upload, look) -> int:
    """A picture of ann's, 64 by 48, in which the model saw a dog and a cat."""
    image_id = upload(ann)
    look(image_id, DOG, CAT)
    return image_id


def new() -> str:
    return str(uuid.uuid4())


def state(client, image_id: int) -> dict:
    answer = client.get(f"/images/{image_id}/state.json")
    assert answer.status_code == 200
    return answer.json


def put(client, image_id: int, body: object, **headers: str):
    return client.put(f"/images/{image_id}/state.json", json=body, headers=headers)


def save(client, image_id: int, *said: dict, reviewed: bool = False, **fields: object):
    """The answer to saving ``said`` over the present version."""
    body = {"version": state(client, image_id)["version"], "batch": new(), "reviewed": reviewed}
    return put(client, image_id, body | {"annotations": list(said)} | fields)


def drawn(label: str = "hat", box: tuple = (1, 2, 11, 12), **fields: object) -> dict:
    return {"ref": new(), "verdict": "drawn", "label": label, "box": list(box)} | fields


def about(found: dict, verdict: str, **fields: object) -> dict:
    """A word about a model's box as the state tells of it."""
    said = {"ref": new(), "verdict": verdict, "label": found["label"], "box": found["box"]}
    return said | {"detection": found["id"]} | fields


def labels(client, image_id: int) -> list[str]:
    """What is left of the picture's boxes: of the model where nobody spoke, and of the person."""
    found = state(client, image_id)
    model = [box["label"] for box in found["detections"] if box["annotation"] is None]
    said = [word["label"] for word in found["annotations"] if word["verdict"] != "rejected"]
    return sorted(model) + sorted(said)


def tags(client, image_id: int) -> list[str]:
    return [tag["name"] for tag in state(client, image_id)["tags"]]


# -- read and saved ------------------------------------------------------------------------


def test_the_state_of_a_picture_is_what_the_editor_shows(ann, picture):
    answer = ann.get(f"/images/{picture}/state.json")
    found = answer.json
    assert answer.headers["ETag"] == f'"{found["version"]}"'
    assert (found["width"], found["height"], found["reviewed"]) == (64, 48, False)
    assert (found["status"], found["model"], found["annotations"]) == ("done", USUAL, [])
    dog = found["detections"][0]
    assert dog | {"id": 0} == {
        "id": 0, "label": "dog", "score": 0.9, "box": [4, 4, 40, 40], "annotation": None,
        "mask": None,
    }  # fmt: skip
    assert [(tag["name"], tag["source"]) for tag in found["tags"]] == [
        ("cat", "model"), ("dog", "model"),
    ]  # fmt: skip


def test_every_verdict_is_kept_with_what_the_model_had_found(ann, picture):
    dog, cat = state(ann, picture)["detections"]
    said = [about(dog, "accepted"), about(cat, "changed", label="lynx"), drawn()]
    answer = save(ann, picture, *said)
    assert answer.status_code == 200
    accepted, changed, own = answer.json["annotations"]
    assert accepted["verdict"] == "accepted"
    assert accepted["found"] == {"model": USUAL, "label": "dog", "score": 0.9, "box": dog["box"]}
    assert (changed["label"], changed["found"]["label"]) == ("lynx", "cat")
    assert (own["verdict"], own["found"], own["detection"]) == ("drawn", None, None)
    assert {word["author"] for word in answer.json["annotations"]} == {"ann"}
    boxes = answer.json["detections"]
    assert [box["annotation"] for box in boxes] == [said[0]["ref"], said[1]["ref"]]
    assert [word["detection"] for word in (accepted, changed)] == [dog["id"], cat["id"]]
    assert labels(ann, picture) == ["dog", "hat", "lynx"]
    assert answer.json == state(ann, picture)


def test_a_rejected_box_is_not_there_any_more_until_that_is_undone(ann, picture):
    dog, _ = state(ann, picture)["detections"]
    word = about(dog, "rejected")
    assert save(ann, picture, word).status_code == 200
    assert (labels(ann, picture), tags(ann, picture)) == (["cat"], ["cat"])
    assert save(ann, picture).status_code == 200  # undo: the whole layer without the word
    assert (labels(ann, picture), tags(ann, picture)) == (["cat", "dog"], ["cat", "dog"])
    assert save(ann, picture, word).status_code == 200  # redo
    assert labels(ann, picture) == ["cat"]


def test_what_is_moved_or_renamed_later_is_the_same_box(app, ann, picture):
    word = drawn()
    save(ann, picture, word)
    save(ann, picture, word | {"label": "  big   hat ", "box": [2, 2, 20, 20]})
    with app.app_context():
        [row] = db.session.scalars(select(Annotation))
        assert (row.ref, row.label, row.x2) == (word["ref"], "big hat", 20)
        assert row.updated_at > row.created_at


def test_what_is_sent_again_as_it_was_keeps_its_time_and_author(ann, picture):
    word = drawn()
    first = save(ann, picture, word).json["annotations"]
    second = save(ann, picture, word, drawn("coat")).json["annotations"]
    assert second[0] == first[0]


def test_an_accepted_box_that_differs_from_the_models_is_a_changed_one(ann, picture):
    dog, cat = state(ann, picture)["detections"]
    said = [about(dog, "accepted", box=[4, 4, 39, 40]), about(cat, "accepted", label="lynx")]
    found = save(ann, picture, *said).json["annotations"]
    assert [word["verdict"] for word in found] == ["changed", "changed"]


def test_reviewed_is_kept_with_its_first_time_and_taken_back(app, ann, picture):
    def time():
        with app.app_context():
            return db.session.get_one(Image, picture).reviewed_at

    assert save(ann, picture, reviewed=True).json["reviewed"] is True
    first = time()
    save(ann, picture, drawn(), reviewed=True)
    assert time() == first
    assert save(ann, picture).json["reviewed"] is False
    assert time() is None


CLIPPED: list[tuple] = [
    ([-5, -5, 1000, 1000], (0, 0, 64, 48)),
    ([20, 30, 10, 10], (10, 10, 20, 30)),
    ([5, 5, 5, 5], (4.5, 4.5, 5.5, 5.5)),
    ([100, 100, 200, 200], (63, 47, 64, 48)),
    ([-9, -9, -8, -8], (0, 0, 1, 1)),
    ([1.25, 2.5, 7.75, 9], (1.25, 2.5, 7.75, 9)),
]


def test_boxes_are_kept_inside_of_the_picture_and_at_least_a_pixel_large(ann, picture):
    answer = save(ann, picture, *(drawn(box=box) for box, _ in CLIPPED))
    kept = [tuple(word["box"]) for word in answer.json["annotations"]]
    assert kept == [inside for _, inside in CLIPPED]


def test_the_smallest_picture_has_room_for_a_box():
    assert clipped((0.2, 0.3, 0.4, 0.5), 1, 1) == (0, 0, 1, 1)


def test_a_persons_labels_become_tags_and_go_with_their_boxes(ann, picture):
    dog, cat = state(ann, picture)["detections"]
    word = drawn("Hat")
    save(ann, picture, word, about(cat, "changed", label="lynx"), about(dog, "accepted"))
    assert tags(ann, picture) == ["Hat", "dog", "lynx"]
    fields = {"username": "ann", "email": "ann@example.com", "threshold": "0.95"}
    assert ann.post("/auth/account", data=fields).status_code == 303
    assert tags(ann, picture) == ["Hat", "dog", "lynx"]  # certain, whatever the threshold
    save(ann, picture, word)
    assert tags(ann, picture) == ["Hat"]
    assert ann.post("/auth/account", data=fields | {"threshold": "0.5"}).status_code == 303
    assert tags(ann, picture) == ["Hat", "cat", "dog"]


def test_a_tag_that_a_person_took_off_does_not_come_back_with_a_box(ann, picture):
    hat = drawn("hat")
    [tag] = [tag for tag in save(ann, picture, hat).json["tags"] if tag["name"] == "hat"]
    assert tag["source"] == "model"
    ann.post(f"/images/{picture}/tags/{tag['id']}/delete")
    save(ann, picture, hat, drawn("hat"))
    assert "hat" not in tags(ann, picture)


# -- two writers ---------------------------------------------------------------------------


def test_another_tab_that_saved_first_is_told_with_what_is_there_now(ann, picture):
    before = state(ann, picture)["version"]
    save(ann, picture, drawn("hat"))
    answer = save(ann, picture, drawn("coat"), version=before)
    assert answer.status_code == 409
    assert answer.json["error"]["code"] == "conflict"
    assert "another tab" in answer.json["error"]["message"]
    assert answer.json["state"] == state(ann, picture)
    assert [word["label"] for word in answer.json["state"]["annotations"]] == ["hat"]
    again = save(ann, picture, drawn("coat"), version=answer.json["state"]["version"])
    assert again.status_code == 200


def test_a_change_that_comes_twice_is_done_once(app, ann, picture):
    body = {"version": state(ann, picture)["version"], "batch": new(), "reviewed": True}
    body["annotations"] = [drawn()]
    first, second = put(ann, picture, body), put(ann, picture, body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json == second.json
    assert second.json["version"] == body["version"] + 1


def test_of_many_writers_at_once_one_wins(app, ann, picture, make_user):
    version, owner_id = state(ann, picture)["version"], make_user("ann")
    won: list[str] = []
    lost: list[str] = []
    together = threading.Barrier(6)

    def write(label: str) -> None:
        body = {"version": version, "batch": new(), "reviewed": False}
        change = read_change(json.dumps(body | {"annotations": [drawn(label)]}).encode())
        together.wait(20)
        with app.app_context():
            try:
                services(app).annotations.save(owner_id, picture, change)
                won.append(label)
            except Outdated:
                lost.append(label)

    threads = [threading.Thread(target=write, args=(f"hat {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, 5)
    found = state(ann, picture)
    assert [word["label"] for word in found["annotations"]] == won
    assert found["version"] == version + 1


def test_one_change_sent_twice_at_once_is_done_once(app, ann, picture, make_user):
    owner_id = make_user("ann")
    body = {"version": state(ann, picture)["version"], "batch": new(), "reviewed": False}
    change = read_change(json.dumps(body | {"annotations": [drawn()]}).encode())
    done: list[bool] = []
    together = threading.Barrier(4)

    def write() -> None:
        together.wait(20)
        with app.app_context():
            done.append(services(app).annotations.save(owner_id, picture, change))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [False, False, False, True]
    assert len(state(ann, picture)["annotations"]) == 1


def test_a_detection_meanwhile_is_a_conflict_too(ann, picture, look):
    before = state(ann, picture)["version"]
    look(picture, DOG)
    assert save(ann, picture, drawn(), version=before).status_code == 409


# -- refused -------------------------------------------------------------------------------

GOOD = {"version": 1, "batch": new(), "reviewed": False, "annotations": []}


BROKEN_CHANGES = [
    {"version": None}, {"version": "1"}, {"version": True}, {"version": 0}, {"version": 10**30},
    {"version": 1.0}, {"batch": None}, {"batch": "x"}, {"batch": new() + "\n"}, {"batch": 5},
    {"reviewed": None}, {"reviewed": 1}, {"annotations": None}, {"annotations": {}},
    {"annotations": [None]}, {"annotations": ["x"]}, {"annotations": [[]]},
]  # fmt: skip


def test_a_change_that_is_not_whole_is_refused(ann, picture):
    for change in BROKEN_CHANGES:
        answer = put(ann, picture, GOOD | change)
        assert answer.status_code == 422, change
        assert answer.json["error"]["code"] == "invalid"
        assert "missing or wrong" in answer.json["error"]["message"]


BROKEN_BOXES = [
    {"ref": None}, {"ref": "1"}, {"ref": "g" * 36}, {"ref": 7}, {"verdict": "DRAWN"},
    {"verdict": None}, {"verdict": ["drawn"]}, {"verdict": {}}, {"label": None}, {"label": 5},
    {"label": ""}, {"label": " \t "}, {"label": "a\0b"}, {"label": "a\u202eb"},
    {"label": "\ud800"}, {"label": "x" * 41}, {"box": None}, {"box": [1, 2, 3]},
    {"box": [1, 2, 3, "4"]}, {"box": [1, 2, 3, True]}, {"box": [1, 2, 3, None]},
    {"box": [1, 2, 3, 10**400]}, {"box": [1, 2, 3, 1e300]}, {"box": "1234"}, {"box": {}},
    {"detection": "1"}, {"detection": True}, {"detection": 0}, {"detection": 2**31},
    {"detection": [1]}, {"found": []}, {"found": {}}, {"found": "dog"},
]  # fmt: skip


def test_a_box_that_is_not_whole_is_refused_and_nothing_is_kept(ann, picture):
    for fields in BROKEN_BOXES:
        answer = save(ann, picture, drawn("coat"), drawn() | fields)
        assert answer.status_code == 422, fields
        assert answer.json["error"]["message"]
    assert state(ann, picture)["annotations"] == []


BROKEN_FOUND = [
    {"score": 2}, {"score": None}, {"score": -1}, {"model": ""}, {"model": "m" * 81},
    {"model": "a\0"}, {"label": None}, {"label": "x" * 61}, {"box": [1, 2, 3]}, {"box": None},
]  # fmt: skip


def test_what_a_model_is_said_to_have_found_is_checked_too(ann, picture):
    good = {"model": USUAL, "label": "dog", "score": 0.5, "box": [1, 1, 9, 9]}
    for found in BROKEN_FOUND:
        word = drawn() | {"verdict": "accepted", "found": good | found}
        assert save(ann, picture, word).status_code == 422, found


GARBAGE = [
    b"", b"x", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"[" * 50_000,
    b'{"a":' * 50_000, b'{"version":' + b"9" * 5000 + b"}", b'{"annotations": NaN}',
]  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
def test_garbage_is_refused(ann, picture, kind):
    for body in GARBAGE:
        answer = ann.put(f"/images/{picture}/state.json", data=body, content_type=kind)
        assert answer.status_code == 422, body[:20]
        assert answer.json["error"]["message"]


def test_numbers_that_are_none_are_refused(ann, picture):
    body = json.dumps(GOOD | {"annotations": [drawn(box=(1, 2, 3, 4711))]})
    for number in ("NaN", "Infinity", "-Infinity"):
        data = body.replace("4711", number)
        answer = ann.put(f"/images/{picture}/state.json", data=data, content_type=JSON)
        assert answer.status_code == 422, number


def test_too_many_boxes_or_bytes_are_told_so(ann, picture):
    many = save(ann, picture, *(drawn() for _ in range(MAX_SAID + 1)))
    assert (many.status_code, many.json["error"]["code"]) == (413, "too_large")
    assert "2000" in many.json["error"]["message"]
    for size in (MAX_BYTES + 1, 3 * MAX_BYTES):
        body = json.dumps(GOOD).encode().ljust(size)
        large = ann.put(f"/images/{picture}/state.json", data=body, content_type=JSON)
        assert (large.status_code, large.json["error"]["code"]) == (413, "too_large")


def test_as_many_boxes_as_may_be_are_kept(ann, picture):
    answer = save(ann, picture, *(drawn() for _ in range(MAX_SAID)))
    assert answer.status_code == 200
    assert len(answer.json["annotations"]) == MAX_SAID


def test_nothing_is_named_twice(ann, picture):
    dog, _ = state(ann, picture)["detections"]
    word = drawn()
    twice = save(ann, picture, word, word)
    assert twice.status_code == 422
    assert word["ref"] in twice.json["error"]["message"]
    assert save(ann, picture, about(dog, "accepted"), about(dog, "rejected")).status_code == 422
    first = about(dog, "accepted")
    assert save(ann, picture, first).status_code == 200
    taken = save(ann, picture, first | {"detection": None}, about(dog, "rejected"))
    assert taken.status_code == 422
    assert "already" in taken.json["error"]["message"]
    instead = about(dog, "rejected")  # in place of the first word
    assert save(ann, picture, instead).json["detections"][0]["annotation"] == instead["ref"]


def test_a_word_about_a_box_that_is_not_there_is_refused(ann, bob, upload, picture):
    others = state(bob, upload(bob))["detections"][0]
    for detection in (others["id"], 4711):
        answer = save(ann, picture, about(others, "accepted", detection=detection))
        assert answer.status_code == 422
        assert "not there any more" in answer.json["error"]["message"]
    assert save(ann, picture, drawn() | {"verdict": "accepted"}).status_code == 422


def test_a_models_box_never_turns_into_a_drawn_one_nor_the_other_way_round(ann, picture):
    dog, _ = state(ann, picture)["detections"]
    word, own = about(dog, "accepted"), drawn()
    assert save(ann, picture, word, own).status_code == 200
    assert save(ann, picture, word | {"verdict": "drawn"}, own).status_code == 422
    assert save(ann, picture, word, own | {"verdict": "changed"}).status_code == 422


def test_only_the_owner_who_is_logged_in_reads_and_saves(app, ann, bob, admin, picture):
    address = f"/images/{picture}/state.json"
    assert app.test_client().get(address).status_code == 401
    assert app.test_client().put(address, json=GOOD).status_code == 401
    for client in (bob, admin):
        assert client.get(address).status_code == 404
        assert client.put(address, json=GOOD).status_code == 404
        assert client.put(address, data=b"garbage").status_code == 404
    for method in ("POST", "DELETE", "PATCH"):
        assert ann.open(address, method=method).status_code == 405
    assert ann.get("/images/4711/state.json").json["error"]["code"] == "not_found"


def test_a_change_needs_the_token_of_the_page(app, ann, picture):
    app.config["WTF_CSRF_ENABLED"] = True
    answer = put(ann, picture, GOOD)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "csrf")
    page = ann.get("/review").text
    token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
    body = GOOD | {"version": state(ann, picture)["version"]}
    assert put(ann, picture, body, **{"X-CSRFToken": token}).status_code == 200


# -- detected again ------------------------------------------------------------------------


@pytest.mark.parametrize("model", [USUAL, OTHER])
def test_detecting_again_keeps_a_persons_boxes_and_brings_back_no_rejected_one(
    ann, picture, look, model
):
    dog, cat = state(ann, picture)["detections"]
    said = [about(dog, "rejected"), about(cat, "changed", label="lynx"), drawn("hat")]
    version = save(ann, picture, *said, reviewed=True).json["version"]
    look(
        picture,
        Box("dog", 0.95, 5, 5, 41, 40),  # moved a little
        Box("cat", 0.7, 30, 21, 60, 44),
        Box("hat", 0.6, 1, 2, 11, 13),  # what the person drew
        Box("bird", 0.6, 1, 30, 9, 40),
        model=model,
    )
    assert labels(ann, picture) == ["bird", "hat", "lynx"]
    assert tags(ann, picture) == ["bird", "hat", "lynx"]
    found = state(ann, picture)
    assert found["version"] == version + 1
    assert found["reviewed"] is True
    refs = {box["label"]: box["annotation"] for box in found["detections"]}
    assert refs == dict(zip(("dog", "cat", "hat"), (w["ref"] for w in said), strict=True)) | {
        "bird": None
    }
    assert [word["found"] and word["found"]["score"] for word in found["annotations"]] == [
        0.9, 0.8, None,
    ]  # fmt: skip  # what was found then, not now


def test_a_box_elsewhere_or_of_another_label_is_a_new_one(ann, picture, look):
    dog, _ = state(ann, picture)["detections"]
    save(ann, picture, about(dog, "rejected"))
    look(picture, Box("dog", 0.9, 40, 4, 64, 40), Box("wolf", 0.9, 4, 4, 40, 40))
    assert labels(ann, picture) == ["dog", "wolf"]


def test_a_moved_box_is_known_where_the_model_had_it_and_where_it_is_now(ann, picture, look):
    dog, _ = state(ann, picture)["detections"]
    save(ann, picture, about(dog, "changed", label="wolf", box=[20, 4, 60, 40]))
    for box in (DOG, Box("wolf", 0.9, 21, 4, 60, 40), Box("Wolf", 0.9, 4, 4, 40, 40)):
        look(picture, box)
        assert labels(ann, picture) == ["wolf"]


def test_an_earlier_result_that_is_used_again_respects_what_was_said_since(ann, picture, look):
    look(picture, Box("dog", 0.9, 5, 4, 40, 40), Box("bird", 0.9, 1, 1, 9, 9), model=OTHER)
    dog, _ = state(ann, picture)["detections"]
    version = save(ann, picture, about(dog, "rejected")).json["version"]
    assert ann.post(f"/images/{picture}/result", data={"model": USUAL}).status_code == 303
    found = state(ann, picture)
    assert (found["model"], found["version"]) == (USUAL, version + 1)
    assert (labels(ann, picture), tags(ann, picture)) == (["cat"], ["cat"])
    ann.post(f"/images/{picture}/result", data={"model": OTHER})
    assert labels(ann, picture) == ["bird"]


def test_an_undo_after_another_detection_brings_back_what_the_model_had_found(ann, picture, look):
    dog, _ = state(ann, picture)["detections"]
    kept = save(ann, picture, about(dog, "rejected")).json["annotations"][0]
    save(ann, picture)
    look(picture, CAT, DOG)  # the ids of the two may have changed places
    assert labels(ann, picture) == ["cat", "dog"]
    answer = save(ann, picture, kept)  # as the browser had it, with the old box and what was found
    assert answer.status_code == 200
    assert answer.json["annotations"][0]["found"] == kept["found"]
    assert labels(ann, picture) == ["cat"]
    there = {box["label"]: box["id"] for box in answer.json["detections"]}
    assert answer.json["annotations"][0]["detection"] == there["dog"]


def test_people_who_leave_take_their_names_along_and_deleted_pictures_their_words(
    app, ann, picture
):
    save(ann, picture, drawn())
    assert ann.post(f"/images/delete/{picture}").status_code == 303
    with app.app_context():
        assert db.session.scalars(select(Annotation)).all() == []
        assert db.session.scalars(select(Detection)).all() == []


# -- what reads boxes elsewhere ------------------------------------------------------------


def test_downloads_are_of_the_boxes_as_people_left_them(ann, picture):
    dog, cat = state(ann, picture)["detections"]
    before = ann.get(f"/images/{picture}/annotated").data
    save(ann, picture, about(dog, "rejected"), about(cat, "changed", label="lynx"), drawn())
    found = ann.get(f"/images/{picture}/boxes.json").json
    told = [(box["label"], box["score"], box.get("by_person")) for box in found["boxes"]]
    assert told == [("lynx", None, True), ("hat", None, True)]
    words = [(word["verdict"], word["label"], word["author"]) for word in found["annotations"]]
    assert words == [
        ("rejected", "dog", "ann"), ("changed", "lynx", "ann"), ("drawn", "hat", "ann"),
    ]  # fmt: skip
    assert found["reviewed"] is False
    assert ann.get(f"/images/{picture}/annotated").data != before
    own = ann.get(f"/images/{picture}/boxes.json?model={USUAL}").json  # what the model said alone
    assert [box["label"] for box in own["boxes"]] == ["dog", "cat"]


def test_what_a_person_sees_is_their_word_and_then_the_model(app, ann, upload, look):
    ids = [upload(ann) for _ in range(2)]
    for image_id in ids:
        look(image_id, DOG, CAT, Box("bird", 0.2, 1, 1, 9, 9))
    dog, _, _ = state(ann, ids[0])["detections"]
    save(ann, ids[0], about(dog, "rejected"), drawn("hat"), reviewed=True)
    save(ann, ids[1], drawn("hat"))
    with app.app_context():
        effective = services(app).boxes.effective(ids, 0.1)
        assert [box.label for box in effective[ids[0]]] == ["hat", "cat", "bird"]
        hat = effective[ids[0]][0]
        assert (hat.x1, hat.y1, hat.x2, hat.y2, hat.by_person) == (1, 2, 11, 12, True)
        assert [box.label for box in effective[ids[1]]] == ["hat", "dog", "cat", "bird"]


def test_boxes_that_people_drew_are_counted_with_what_a_deletion_takes(app, ann, picture):
    dog, _ = state(ann, picture)["detections"]
    save(ann, picture, about(dog, "accepted"), drawn())
    with app.app_context():
        assert services(app).image_admin.holdings([picture]).boxes == 3


def test_saving_needs_no_more_queries_for_more_boxes(ann, picture, count_queries):
    counts = []
    for number in (2, 60):
        said = [drawn() for _ in range(number)]
        version = state(ann, picture)["version"]
        body = {"version": version, "batch": new(), "reviewed": False, "annotations": said}
        with count_queries() as statements:
            assert put(ann, picture, body).status_code == 200
        counts.append(len(statements))
    assert counts[1] <= counts[0] + 1  # the rows of before are deleted too


def test_every_error_of_a_change_has_a_text_for_people():
    with pytest.raises(AppError, match="JSON"):
        read_change(b"{")
    assert set(Verdict) == {"drawn", "accepted", "changed", "rejected"}
