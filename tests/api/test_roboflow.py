"""Roboflow inference v1: what ``inference-sdk`` sends and reads, recorded, and what is refused.

The client itself wants older libraries than the application: test_inference_sdk.py runs it in an
environment of its own.
"""

import base64
import io
import json
import threading
from types import SimpleNamespace

import pytest

from apps import outbound
from apps.api import roboflow_pictures
from apps.web import FORM_BYTES
from tests.conftest import picture_bytes

INFER = "/infer/object_detection"
MODEL = "fasterrcnn_mobilenet_v3_large_fpn128.blood_cells"


@pytest.fixture
def program(app):
    return app.test_client()


def request_of(key: str | None, model: str = "fast/1", **values: object) -> dict[str, object]:
    """As inference-sdk 1.8.3 sends it."""
    value = base64.b64encode(picture_bytes((100, 80))).decode()
    return {
        "api_key": key,
        "model_id": model,
        "image": {"type": "base64", "value": value},
        "visualize_predictions": False,
        "disable_active_learning": False,
    } | values


def test_a_client_learns_who_answers_and_which_models_there_are(program, token_of):
    assert {"name", "version", "uuid"} == set(program.get("/info").json)
    key = token_of()
    models = program.get("/model/registry", query_string={"api_key": key}).json["models"]
    assert {"fast/1", f"{MODEL}/1"} <= {model["model_id"] for model in models}
    assert {model["task_type"] for model in models} == {"object-detection"}
    body = {"model_id": f"{MODEL}/1", "api_key": key}
    assert program.post("/model/add", json=body).json["models"] == models
    for path in ("/model/remove", "/model/clear"):  # without a key
        assert program.post(path, json={"model_id": "fast/1"}).json == {"models": []}


def test_boxes_have_their_middle_and_their_size(program, token_of):
    body = program.post(INFER, json=request_of(token_of())).json
    assert body["image"] == {"width": 100, "height": 80}
    [dog] = body["predictions"]
    assert [dog[k] for k in ("x", "y", "width", "height")] == [35, 32, 50, 48]
    assert (dog["class"], dog["confidence"]) == ("dog", 0.9)


def test_supervision_reads_the_answer(program, token_of):
    supervision = pytest.importorskip("supervision")
    body = program.post(INFER, json=request_of(token_of(), confidence=0.1)).json
    found = supervision.Detections.from_inference(body)
    assert found.xyxy[0].tolist() == [10, 8, 60, 56]
    assert found.data["class_name"].tolist() == ["dog", "cat"]


def test_a_list_of_pictures_gets_a_list_of_answers(program, token_of):
    one = request_of(token_of())
    answer = program.post(INFER, json=one | {"image": [one["image"], one["image"]]}).json
    assert [len(each["predictions"]) for each in answer] == [1, 1]


def test_what_is_found_can_be_narrowed(program, token_of):
    key = token_of()
    for wish, labels in (
        ({"confidence": 0.1, "class_filter": ["cat"]}, ["cat"]),
        ({"confidence": 0.1, "max_detections": 1}, ["dog"]),
        ({"confidence": 0.95}, []),
    ):
        found = program.post(INFER, json=request_of(key, **wish)).json["predictions"]
        assert [one["class"] for one in found] == labels


def test_a_form_may_carry_the_picture(program, token_of):
    data = {"image": (io.BytesIO(picture_bytes()), "x"), "model_id": "fast/1"}
    answer = program.post(INFER, data=data | {"api_key": token_of()})
    assert len(answer.json["predictions"]) == 1


def test_the_key_may_be_a_header_and_the_word_none_is_no_key(program, bearer):
    assert program.post(INFER, json=request_of(None), headers=bearer()).status_code == 200
    answer = program.get("/model/registry?api_key=None")
    assert (answer.status_code, answer.is_json) == (401, True)
    assert "Send a token" in answer.json["message"]


class Sent(io.BytesIO):
    """A body that knows how much of it was wanted at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, len(self.getbuffer()) if size in (None, -1) else size)
        return super().read(size)


@pytest.mark.parametrize("path", [INFER, "/model/add", "/labelstudio/guessed/predict"])
@pytest.mark.parametrize("head", [b"", b'"api_key": "sb_guessed", '])
def test_of_a_strangers_body_little_is_kept_and_nothing_is_read_as_json(program, path, head):
    body = Sent(b"{" + head + b'"image": [' + b"[0]," * 10**6)
    length = str(len(body.getbuffer()))
    answer = program.post(path, input_stream=body, headers={"Content-Length": length})
    assert answer.status_code == 401
    assert body.most <= FORM_BYTES
    assert body.read() == b""  # or the client may not see the answer


def test_a_key_is_found_before_a_large_picture_and_with_a_header_anywhere(
    program, token_of, bearer
):
    early = json.dumps(request_of(token_of()) | {"padding": "x" * FORM_BYTES})
    late = json.dumps({"padding": "x" * FORM_BYTES} | request_of(token_of()))
    for body, headers, status in ((early, {}, 200), (late, {}, 401), (late, bearer(), 200)):
        assert program.post(INFER, data=body, headers=headers).status_code == status
    query = {"api_key": token_of()}
    assert program.post(INFER, query_string=query, json=request_of(None)).status_code == 200


def test_a_token_that_may_not_detect_is_refused(program, token_of):
    answer = program.post(INFER, json=request_of(token_of("ann", "read")))
    assert answer.status_code == 403


def test_pickles_are_never_read(program, token_of):
    image = {"type": "numpy", "value": base64.b64encode(b"cos\nsystem\n(S'x'\ntR.").decode()}
    answer = program.post(INFER, json=request_of(token_of(), image=image))
    assert answer.status_code == 422
    assert "NumPy pickles are not accepted" in answer.json["message"]


def test_addresses_inside_the_network_are_not_asked(program, token_of):
    for url in ("http://127.0.0.1:1/x.jpg", "http://169.254.169.254/", "file:///etc/passwd"):
        image = {"type": "url", "value": url}
        answer = program.post(INFER, json=request_of(token_of(), image=image))
        assert answer.status_code == 422
        assert answer.json["error"] == "address_refused"


def test_a_picture_at_a_public_address_is_fetched(program, token_of, monkeypatch):
    asked: list[tuple[str, bool]] = []

    def fetch(url: str, *, most_bytes: int, timeout: float, allow_private: bool) -> bytes:
        asked.append((url, allow_private))
        return picture_bytes()

    monkeypatch.setattr(outbound, "fetch", fetch)
    image = {"type": "url", "value": "https://example.org/x.jpg"}
    answer = program.post(INFER, json=request_of(token_of(), image=image))
    assert len(answer.json["predictions"]) == 1
    assert asked == [("https://example.org/x.jpg", False)]


def test_pictures_at_addresses_are_fetched_together_and_in_their_order(
    program, token_of, monkeypatch
):
    together = threading.Barrier(roboflow_pictures.AT_ONCE)  # broken if they come one by one

    def fetch(url: str, **_: object) -> bytes:
        together.wait(timeout=20)
        return picture_bytes((int(url.rpartition("/")[2]), 50))

    monkeypatch.setattr(outbound, "fetch", fetch)
    widths = range(100, 100 + 2 * roboflow_pictures.AT_ONCE)
    images = [{"type": "url", "value": f"https://example.org/{width}"} for width in widths]
    answer = program.post(INFER, json=request_of(token_of(), image=images)).json
    assert [one["image"]["width"] for one in answer] == list(widths)


def test_all_pictures_at_addresses_have_one_deadline(program, token_of, monkeypatch):
    now = iter(range(0, 1000, 9))  # seconds: each look at the clock is nine later
    waited: list[float] = []

    def fetch(_url: str, *, timeout: float, **_: object) -> bytes:
        waited.append(timeout)
        return picture_bytes()

    monkeypatch.setattr(outbound, "fetch", fetch)
    monkeypatch.setattr(roboflow_pictures, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(roboflow_pictures, "AT_ONCE", 1)
    images = [{"type": "url", "value": "https://example.org/x.jpg"}] * 5
    answer = program.post(INFER, json=request_of(token_of(), image=images))
    assert (answer.status_code, waited) == (422, [11, 2])
    assert "within 20 seconds" in answer.json["message"]


@pytest.mark.parametrize(
    "values",
    [
        {"image": None},
        {"image": []},
        {"image": {"type": "base64", "value": "a"}},
        {"image": {"type": "base64", "value": "bm8gcGljdHVyZQ=="}},
        {"image": {"type": "base64", "value": 7}},
        {"confidence": 3},
        {"confidence": "NaN"},
        {"max_detections": 0},
        {"class_filter": "dog"},
        {"model_id": ""},
        {"model_id": 7},
    ],
)
def test_garbage_is_refused_as_json(program, token_of, values):
    answer = program.post(INFER, json=request_of(token_of()) | values)
    assert answer.status_code == 422
    assert answer.json["message"]


def test_what_is_not_answered_and_what_is_ignored(program, token_of):
    key = token_of()
    assert program.post("/infer/classification", json=request_of(key)).status_code == 404
    v0 = {"query_string": {"api_key": key}, "content_type": "application/x-www-form-urlencoded"}
    data = base64.b64encode(picture_bytes())
    assert program.post("/blood-cells/1", data=data, **v0).status_code == 404
    drawn = program.post(INFER, json=request_of(key, visualize_predictions=True))
    assert (drawn.status_code, drawn.json["visualization"]) == (200, None)


def test_errors_of_every_kind_are_json(program, token_of, bearer, app, monkeypatch):
    assert program.post(INFER, json=request_of(token_of(), "nothing/1")).status_code == 404
    for answer, status in (
        (program.get(INFER), 405),
        (program.post("/infer/nothing"), 404),
        (program.post(INFER, data=b"{", headers=bearer()), 422),
    ):
        assert (answer.status_code, answer.is_json) == (status, True)
    body = request_of(token_of())
    monkeypatch.setitem(app.config, "MAX_CONTENT_LENGTH", 100)
    assert program.post(INFER, json=body).status_code == 413
