"""The REST interface, as programs use it."""

import io
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from apps.api.rest import PREFIX
from apps.container import services
from apps.extensions import db
from apps.models import Image, KeptAnswer, Role, utcnow
from apps.services.idempotency import GIVEN_UP
from tests.conftest import picture_bytes

# In addresses.
NUMBERS = (
    *(
        "clip_id",
        "image_id",
        "tag_id",
        "user_id",
        "webhook_id",
        "delivery_id",
        "export_id",
        "import_id",
    ),
)


@pytest.fixture
def program(app, bearer):
    """program(method, path) asks as ann, who may all but administer."""
    client, headers = app.test_client(), bearer("ann")

    def ask(method: str, path: str, **options):
        given = headers | options.pop("headers", {})
        return client.open(PREFIX + path, method=method, headers=given, **options)

    return ask


@pytest.fixture
def stranger(app, bearer):
    client, headers = app.test_client(), bearer("bob")
    return lambda method, path, **options: client.open(
        PREFIX + path, method=method, headers=headers, **options
    )


def files(*contents: bytes, **fields: object) -> dict[str, object]:
    pairs = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(contents)]
    return {"image": pairs} | fields


def uploaded(program) -> int:
    answer = program("POST", "/images", data=files(picture_bytes((100, 80))))
    assert answer.status_code == 201, answer.text
    return answer.json["results"][0]["image"]["id"]


def is_problem(answer, status: int, code: str | None = None) -> bool:
    body = answer.json
    assert answer.mimetype == "application/problem+json"
    assert answer.status_code == body["status"] == status
    assert body["title"]
    assert body["detail"]
    return code is None or body["code"] == code


# -- pictures ------------------------------------------------------------------------------


def test_uploaded_pictures_are_looked_at_and_a_bad_file_stops_no_other(program):
    answer = program("POST", "/images", data=files(picture_bytes(), b"no picture"))
    assert answer.status_code == 201
    good, bad = answer.json["results"]
    assert good["error"] is None
    assert good["image"]["status"] == "done"
    assert good["image"]["tags"] == ["dog"]
    assert bad["image"] is None
    assert bad["error"]["code"] == "not_a_picture"
    found = program("GET", f"/images/{good['image']['id']}").json
    assert found == good["image"]


def test_an_upload_that_is_refused_as_a_whole_is_a_problem(program):
    answer = program("POST", "/images", data=files(b"no picture"))
    assert is_problem(answer, 422, "not_a_picture")
    assert answer.json["errors"][0]["file"] == "0.jpg"
    assert is_problem(program("POST", "/images", data={"image": "text"}), 422, "invalid")
    assert is_problem(program("POST", "/images"), 422)
    assert is_problem(program("POST", "/images", json={"image": "x"}), 415)


def test_the_same_idempotency_key_does_its_work_once(app, program):
    data, key = picture_bytes(), {"Idempotency-Key": "night-1"}
    first = program("POST", "/images", data=files(data), headers=key)
    again = program("POST", "/images", data=files(data), headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    other = program("POST", "/images", data=files(picture_bytes()), headers=key)
    assert is_problem(other, 422, "invalid")
    with app.app_context():
        assert db.session.scalar(select(func.count(Image.id))) == 1


def test_a_key_whose_request_was_refused_may_be_used_again(app, program):
    key = {"Idempotency-Key": "night-2"}
    assert program("POST", "/images", data=files(b"no"), headers=key).status_code == 422
    good = program("POST", "/images", data=files(picture_bytes()), headers=key)
    assert good.status_code == 201
    too_long = {"Idempotency-Key": "k" * 201}
    assert is_problem(program("POST", "/images", data=files(b"x"), headers=too_long), 422)


def test_a_key_whose_request_is_at_work_is_refused(app, program, make_user):
    data, key = picture_bytes(), {"Idempotency-Key": "night-3"}
    assert program("POST", "/images", data=files(data), headers=key).status_code == 201
    with app.app_context():
        db.session.scalars(select(KeptAnswer)).one().status = None
        db.session.commit()
    assert is_problem(program("POST", "/images", data=files(data), headers=key), 409, "conflict")


def test_a_duplicate_says_which_picture_is_there(program, stranger):
    data = picture_bytes()
    first, bad = program("POST", "/images", data=files(data, b"no")).json["results"]
    image_id = first["image"]["id"]
    assert "image" not in bad["error"]
    whole = program("POST", "/images", data=files(data))
    assert is_problem(whole, 422, "duplicate")
    assert whole.json["image"] == whole.json["errors"][0]["error"]["image"] == image_id
    twin, new = program("POST", "/images", data=files(data, picture_bytes())).json["results"]
    assert (twin["image"], twin["error"]["image"]) == (None, image_id)
    assert new["error"] is None
    theirs = stranger("POST", "/images", data=files(data))  # to them it is no duplicate
    assert theirs.json["results"][0]["image"]["id"] != image_id
    program("DELETE", f"/images/{image_id}")
    assert program("POST", "/images", data=files(data)).status_code == 201


def test_a_key_whose_holder_died_can_be_used_again_and_finds_what_was_stored(app, program):
    data, key = picture_bytes(), {"Idempotency-Key": "night-4"}
    [first] = program("POST", "/images", data=files(data), headers=key).json["results"]
    with app.app_context():
        kept = db.session.scalars(select(KeptAnswer)).one()
        kept.status, kept.created_at = None, utcnow() - GIVEN_UP - timedelta(seconds=1)
        db.session.commit()
    again = program("POST", "/images", data=files(data), headers=key)
    assert is_problem(again, 422, "duplicate")
    assert again.json["image"] == first["image"]["id"]


def test_keys_of_two_accounts_have_nothing_to_do_with_each_other(program, stranger):
    key = {"Idempotency-Key": "same"}
    assert program("POST", "/images", data=files(picture_bytes()), headers=key).status_code == 201
    assert uploaded(stranger)


def test_lists_come_in_parts_that_neither_repeat_nor_lose_a_picture(program):
    ids = [uploaded(program) for _ in range(5)]
    page = program("GET", "/images?limit=2").json
    seen = [image["id"] for image in page["items"]]
    uploaded(program)  # a new one moves nothing
    while page["next"]:
        page = program("GET", f"/images?limit=2&cursor={page['next']}").json
        seen += [image["id"] for image in page["items"]]
    assert seen == ids[::-1]
    assert is_problem(program("GET", "/images?cursor=nonsense"), 422, "invalid")
    assert is_problem(program("GET", "/images?limit=1000"), 422)


def test_search_is_that_of_the_gallery(program):
    first, second = uploaded(program), uploaded(program)
    assert program("POST", f"/images/{first}/tags", json={"name": "Kim’s"}).status_code == 201
    assert [i["id"] for i in program("GET", "/images?search=kim").json["items"]] == [first]
    found = [i["id"] for i in program("GET", "/images?search=dog&limit=1").json["items"]]
    assert found == [second]
    assert program("GET", "/images?search=nothing").json == {"items": [], "next": None}


def test_files_of_a_picture(program):
    image_id = uploaded(program)
    for kind in ("original", "display", "thumbnail"):
        answer = program("GET", f"/images/{image_id}/files/{kind}")
        assert answer.status_code == 200
        assert answer.mimetype == "image/jpeg"
    part = program("GET", f"/images/{image_id}/files/original", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.data)) == (206, 10)
    assert is_problem(program("GET", f"/images/{image_id}/files/other"), 404)


def test_a_deleted_picture_is_gone(program):
    image_id = uploaded(program)
    assert program("DELETE", f"/images/{image_id}").status_code == 204
    assert is_problem(program("GET", f"/images/{image_id}"), 404, "not_found")


def test_tags_are_put_on_and_taken_off(program):
    image_id = uploaded(program)
    tag = program("POST", f"/images/{image_id}/tags", json={"name": "holiday"}).json
    tags = program("GET", f"/images/{image_id}/tags").json
    assert {(one["name"], one["source"]) for one in tags} == {
        ("dog", "model"), ("holiday", "person"),
    }  # fmt: skip
    assert {"name": "holiday", "pictures": 1} in program("GET", "/tags").json["items"]
    assert program("DELETE", f"/images/{image_id}/tags/{tag['id']}").status_code == 204
    assert is_problem(program("DELETE", f"/images/{image_id}/tags/{tag['id']}"), 404)
    assert is_problem(program("POST", f"/images/{image_id}/tags", json={"name": " "}), 422)
    wrong = program("POST", f"/images/{image_id}/tags", json={"nme": "x"})
    assert is_problem(wrong, 422)
    assert set(wrong.json["errors"]["json"]) == {"name", "nme"}


# -- detections ----------------------------------------------------------------------------


def test_detections_are_listed_and_made_again(app, program):
    image_id = uploaded(program)
    found = program("GET", f"/images/{image_id}/detections").json
    assert [one["label"] for one in found["detections"]] == ["dog", "cat"]
    assert found["detections"][0]["box"] == [10, 8, 60, 56]
    sure = program("GET", f"/images/{image_id}/detections?min_score=0.5").json
    assert len(sure["detections"]) == 1
    other = program("GET", f"/images/{image_id}/detections?model=other")
    assert is_problem(other, 404)
    again = program("POST", f"/images/{image_id}/detections", json={"wait": 5})
    assert again.status_code == 200
    assert again.json["status"] == "done"
    assert again.headers["Location"] == f"/api/v1/jobs/{image_id}"
    many = program("POST", "/detections", json={"images": [image_id, 4711]})
    assert many.status_code == 202
    assert many.json == {"queued": 1, "waiting": 0, "missing": 1}
    unknown = program("POST", f"/images/{image_id}/detections", json={"model": "none"})
    assert is_problem(unknown, 404)


def test_a_job_can_be_waited_for(app, program, monkeypatch):
    queue = services(app).queue
    monkeypatch.setattr(queue, "enqueue", lambda image_id: None)
    image_id = uploaded(program)
    assert program("GET", f"/jobs/{image_id}").json["status"] == "queued"
    waiting = program("GET", "/jobs").json
    assert (waiting["waiting"], waiting["items"][0]["id"]) == (1, image_id)
    answer = program("POST", f"/images/{image_id}/detections")
    assert is_problem(answer, 409, "conflict")

    def work() -> None:
        with app.app_context():
            services(app).detections.run(image_id)

    thread = threading.Thread(target=work)
    thread.start()
    ended = program("GET", f"/jobs/{image_id}?wait=30")
    thread.join()
    assert ended.json["status"] == "done"
    assert ended.json["model"] == "fake.test"
    assert program("GET", "/jobs").json == {"waiting": 0, "items": [], "next": None}


def test_pictures_are_looked_at_without_being_stored(app, program):
    data = files(picture_bytes((100, 80)), b"no", picture_bytes((50, 50)), min_score="0.2")
    answer = program("POST", "/detect", data=data)
    assert answer.status_code == 200
    first, bad, last = answer.json["results"]
    assert [one["label"] for one in first["detections"]] == ["dog", "cat"]
    assert (first["width"], first["height"], first["model"]) == (100, 80, "fake.test")
    assert bad["error"]["code"] == "not_a_picture"
    assert last["detections"][0]["box"] == [5, 5, 30, 35]
    with app.app_context():
        assert db.session.scalar(select(func.count(Image.id))) == 0
    assert is_problem(program("POST", "/detect", data=files(b"no")), 422, "not_a_picture")
    unknown = program("POST", "/detect", data=files(picture_bytes(), model="none"))
    assert is_problem(unknown, 404)
    many = files(*[b"x"] * 17)
    assert is_problem(program("POST", "/detect", data=many), 422)


def test_a_classifier_says_what_a_picture_shows(program):
    one = {"image": (io.BytesIO(picture_bytes()), "x.jpg"), "top": "3"}
    answer = program("POST", "/classify/lenet5.mnist", data=one)
    assert answer.status_code == 200
    assert len(answer.json["guesses"]) == 3
    one = {"image": (io.BytesIO(b"no"), "x.jpg")}
    assert is_problem(program("POST", "/classify/lenet5.mnist", data=one), 422)
    one = {"image": (io.BytesIO(picture_bytes()), "x.jpg")}
    assert is_problem(program("POST", "/classify/none", data=one), 404)


def test_models_and_what_they_know(program):
    models = program("GET", "/models").json["items"]
    assert {model["kind"] for model in models} == {"detector", "classifier"}
    assert sum(model["default"] for model in models) == 1
    for name in ("lenet5.mnist", "fasterrcnn_mobilenet_v3_large_320_fpn"):
        model = program("GET", f"/models/{name}").json
        assert model["name"].startswith(name)
        labels = program("GET", f"/models/{name}/labels").json
        assert len(labels) == model["labels"]
    assert is_problem(program("GET", "/models/none/labels"), 404)


# -- whose ---------------------------------------------------------------------------------


def test_what_is_somebody_elses_looks_like_what_does_not_exist(program, stranger):
    image_id = uploaded(program)
    for method, path, body in (
        ("GET", "/images/{}", None),
        ("DELETE", "/images/{}", None),
        ("GET", "/images/{}/files/original", None),
        ("GET", "/images/{}/tags", None),
        ("POST", "/images/{}/tags", {"name": "mine"}),
        ("DELETE", "/images/{}/tags/1", None),
        ("GET", "/images/{}/detections", None),
        ("POST", "/images/{}/detections", {}),
        ("GET", "/jobs/{}", None),
    ):
        options = {} if body is None else {"json": body}
        theirs = stranger(method, path.format(image_id), **options)
        missing = stranger(method, path.format(4711), **options)
        assert is_problem(theirs, 404)
        assert theirs.json == missing.json
    assert program("GET", f"/images/{image_id}").status_code == 200
    many = stranger("POST", "/detections", json={"images": [image_id]})
    assert many.json == {"queued": 0, "waiting": 0, "missing": 1}
    assert stranger("GET", "/images").json["items"] == []


def test_every_operation_refuses_who_shows_no_token(app):
    client = app.test_client()
    document = client.get(PREFIX + "/openapi.json").json
    asked = 0
    for path, operations in document["paths"].items():
        address = path.format(
            **dict.fromkeys(NUMBERS, 1), box_id="m1", kind="original", name="x", verdict="accept"
        )
        for method in operations.keys() & {"get", "post", "patch", "delete", "put"}:
            answer = client.open(address, method=method.upper())
            assert is_problem(answer, 401, "token"), (method, path)
            asked += 1
    assert asked > 20


def test_administrators_manage_accounts(app, bearer, make_user, client_of):
    client_of("root", role=Role.ADMIN)
    with app.app_context():
        root = make_user("root")
        text = services(app).tokens.create(root, "x", ["admin"])[1]
    client, headers = app.test_client(), {"Authorization": f"Bearer {text}"}

    def ask(method, path, **options):
        return client.open(PREFIX + path, method=method, headers=headers, **options)

    new = {"username": "kim", "email": "kim@example.com", "password": "plain long words"}
    made = ask("POST", "/users", json=new)
    assert made.status_code == 201, made.text
    assert "password" not in made.json
    kim = made.json["id"]
    assert is_problem(ask("POST", "/users", json=new), 409)
    page = ask("GET", "/users?limit=1").json
    assert [user["username"] for user in page["items"]] == ["root"]
    page = ask("GET", f"/users?limit=1&cursor={page['next']}").json
    assert [user["username"] for user in page["items"]] == ["kim"]
    assert page["next"] is None
    changed = ask("PATCH", f"/users/{kim}", json={"active": False, "quota_bytes": 10})
    assert (changed.json["active"], changed.json["quota_bytes"]) == (False, 10)
    assert is_problem(ask("PATCH", f"/users/{root}", json={"role": "user"}), 409)
    assert is_problem(ask("DELETE", f"/users/{root}"), 409)
    assert ask("DELETE", f"/users/{kim}").status_code == 204
    assert is_problem(ask("GET", f"/users/{kim}"), 404)
    ann = app.test_client().get(PREFIX + "/users", headers=bearer("ann"))
    assert is_problem(ann, 403)


# -- errors --------------------------------------------------------------------------------


def test_every_error_is_a_problem(app, program):
    assert is_problem(program("GET", "/nothing"), 404)
    assert is_problem(program("PUT", "/images"), 405)
    assert is_problem(program("GET", "/images/99999999999999999999"), 404)
    broken = program("POST", "/detections", data="{", headers={"Content-Type": "application/json"})
    assert is_problem(broken, 400)
    app.config["MAX_CONTENT_LENGTH"] = 100
    assert is_problem(program("POST", "/detect", data=files(picture_bytes())), 413)


def test_nobody_sends_much_without_a_token(app):
    app.config["MAX_CONTENT_LENGTH"] = 100
    answer = app.test_client().post(PREFIX + "/detect", data=files(picture_bytes()))
    assert is_problem(answer, 401)
