"""Clients of DeepStack and CodeProject.AI, unmodified, and what they cannot be trusted with."""

import io

import codeprojectai.core as codeproject
import deepstack.core as deepstack
import pytest
from deepstack_sdk import Detection as SdkDetection
from deepstack_sdk import ServerConfig
from PIL import Image as Picture
from PIL import ImageOps
from sqlalchemy import func, select

from apps.api.deepstack import MOST_NAMELESS
from apps.container import services
from apps.errors import Busy
from apps.extensions import db
from apps.models import Image
from apps.services.classifications import ClassifierState
from apps.vision.types import Box
from tests.conftest import picture_bytes, stored_files

DETECTION = "/v1/vision/detection"


def ask(client, path: str = DETECTION, data: bytes | None = None, **fields: str):
    picture = picture_bytes((100, 80)) if data is None else data
    return client.post(path, data={"image": (io.BytesIO(picture), "image")} | fields)


def all_are_here(monkeypatch) -> None:
    """The weights of every classifier."""
    monkeypatch.setattr(ClassifierState, "ready", True)


@pytest.fixture
def program(app):
    return app.test_client()


# -- the real clients ----------------------------------------------------------------------


def test_deepstack_python_finds_objects(server, token_of):
    port = server.rpartition(":")[2]
    client = deepstack.DeepstackObject("127.0.0.1", port, api_key=token_of())
    [dog] = client.detect(picture_bytes((100, 80)))
    assert dog == {
        "confidence": 0.9, "label": "dog", "x_min": 10, "y_min": 8, "x_max": 60, "y_max": 56
    }  # fmt: skip


def test_deepstack_python_asks_a_custom_model_and_for_the_scene(server, token_of, monkeypatch):
    port, key = server.rpartition(":")[2], token_of()
    model = "fasterrcnn_mobilenet_v3_large_fpn128.blood_cells"
    for name in (model, "fast", model.partition(".")[0].upper()):
        client = deepstack.DeepstackObject("127.0.0.1", port, api_key=key, custom_model=name)
        assert len(client.detect(picture_bytes())) == 1
    scene = deepstack.DeepstackScene("127.0.0.1", port, api_key=key)
    with pytest.raises(deepstack.DeepstackException, match="503"):
        scene.recognize(picture_bytes())  # no network of everyday things is here
    all_are_here(monkeypatch)
    found = scene.recognize(picture_bytes())
    assert found["label"]
    assert 0 < found["confidence"] <= 1


def test_deepstack_python_says_what_is_wrong_with_a_wrong_key(server):
    port = server.rpartition(":")[2]
    client = deepstack.DeepstackObject("127.0.0.1", port, api_key="wrong")
    with pytest.raises(deepstack.DeepstackException, match="401"):
        client.detect(picture_bytes())


def test_deepstack_sdk_finds_objects(server, token_of):
    client = SdkDetection(ServerConfig(server, api_key=token_of()))
    found = client.detectObject(picture_bytes((100, 80)), min_confidence=0.2)
    assert [(one.label, one.confidence) for one in found] == [("dog", 0.9), ("cat", 0.3)]
    assert (found[0].x_min, found[0].y_max) == (10, 56)


def test_codeproject_ai_api_finds_objects(app, server):
    app.config["API_OPEN_ON_LOOPBACK"] = True  # this client shows no key
    port = server.rpartition(":")[2]
    client = codeproject.CodeProjectAIObject("127.0.0.1", port)
    assert [one["label"] for one in client.detect(picture_bytes())] == ["dog"]


# -- answers -------------------------------------------------------------------------------


def test_an_answer_has_what_both_kinds_of_clients_expect(program, token_of):
    body = ask(program, api_key=token_of()).json
    assert body["success"] is True
    assert {"predictions", "duration", "message", "count", "inferenceMs", "code"} <= set(body)
    assert body["message"] == "Found dog"
    assert body["image"] == {"width": 100, "height": 80, "exif_applied": False}
    assert all(isinstance(body["predictions"][0][key], int) for key in ("x_min", "y_max"))


@pytest.mark.parametrize("where", ["field", "bearer", "header"])
def test_a_key_may_come_in_three_ways(program, token_of, where):
    key = token_of()
    headers = {"bearer": {"Authorization": f"Bearer {key}"}, "header": {"X-API-Key": key}}
    data = {"image": (io.BytesIO(picture_bytes()), "image")}
    if where == "field":
        data["api_key"] = key
    answer = program.post(DETECTION, data=data, headers=headers.get(where))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("least", "labels"), [("0.2", ["dog", "cat"]), ("", ["dog"]), ("0.95", []), ("0", 2)]
)
def test_min_confidence_keeps_what_is_at_least_as_sure(program, token_of, least, labels):
    found = ask(program, api_key=token_of(), min_confidence=least).json["predictions"]
    assert [one["label"] for one in found] == labels or len(found) == labels


@pytest.mark.parametrize("least", ["much", "1.5", "-1", "nan"])
def test_a_min_confidence_that_is_none_is_refused(program, token_of, least):
    answer = ask(program, api_key=token_of(), min_confidence=least)
    assert answer.status_code == 400
    assert answer.json["error"] == "Invalid value for min_confidence"


def test_a_token_may_cap_the_boxes_with_known_labels_first(app, program, token_of):
    boxes = [Box("blood cell", 0.99, 0, 0, 9, 9)]
    boxes += [Box("car", 0.5 + n / 100, 0, 0, 9, 9) for n in range(30)]
    services(app).instant.engine.script = lambda _: sorted(boxes, key=lambda box: -box.score)
    assert len(ask(program, api_key=token_of()).json["predictions"]) == 31
    found = ask(program, api_key=token_of(max_boxes=20)).json["predictions"]
    assert len(found) == 20
    assert {one["label"] for one in found} == {"car"}
    assert found[0]["confidence"] == 0.79


def sideways_picture() -> bytes:
    """A file of 80 x 100 pixels that viewers show as 100 x 80: EXIF orientation 6."""
    picture = Picture.new("RGB", (80, 100), "green")
    exif = Picture.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_boxes_are_of_the_picture_as_viewers_show_it_or_as_the_file_has_it(program, token_of):
    data, key = sideways_picture(), token_of()
    shown = ask(program, data=data, api_key=key).json
    assert shown["image"] == {"width": 100, "height": 80, "exif_applied": True}
    raw = ask(program, data=data, api_key=key, exif="raw").json
    assert raw["image"] == {"width": 80, "height": 100, "exif_applied": False}
    [box] = raw["predictions"]
    # (10, 8) to (60, 56) of the shown picture, turned back by a quarter
    assert [box[k] for k in ("x_min", "y_min", "x_max", "y_max")] == [8, 40, 56, 90]
    pixels = Picture.new("L", (80, 100))
    pixels.paste(255, (8, 40, 56, 90))
    exif = Picture.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", exif=exif)
    assert ImageOps.exif_transpose(Picture.open(buffer)).getbbox() == (10, 8, 60, 56)


def test_what_there_is(program, token_of):
    body = program.post("/v1/vision/custom/list", data={"api_key": token_of()}).json
    assert "fast" in body["models"]
    assert "fasterrcnn_mobilenet_v3_large_fpn128.blood_cells" in body["models"]
    assert "lenet5.mnist" in body["classifiers"]
    body = program.post("/v1/vision/listmodels", data={"admin_key": token_of()}).json
    assert {"name", "dateupdated", "size"} == set(body["models"][0])
    for path in ("/v1/status/ping", "/v1/server/status/ping"):
        assert program.get(path).json == {"success": True}
    body = program.get("/v1/status/updateavailable").json
    assert body["updateAvailable"] is False


def test_a_scene_is_named_by_a_network_of_everyday_things_or_not_at_all(
    program, token_of, monkeypatch
):
    key = token_of()
    answer = ask(program, "/v1/vision/scene", api_key=key)
    assert (answer.status_code, answer.json["success"]) == (503, False)
    assert "flask models fetch resnet50.imagenet1k_v2" in answer.json["error"]
    named = ask(program, "/v1/vision/scene", api_key=key, model="lenet5.mnist")
    assert named.status_code == 200
    all_are_here(monkeypatch)
    found = ask(program, "/v1/vision/scene", api_key=key)
    assert found.json["moduleName"] == "Classification (resnet50.imagenet1k_v2)"


@pytest.mark.parametrize("head", ["", "\r\nContent-Type: image/png", '; filename=""'])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_picture_may_lack_a_name_and_a_type(program, token_of, head, kind):
    data = picture_bytes((100, 80), kind)
    body = (
        f'--x\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n{token_of()}\r\n'
        f'--x\r\nContent-Disposition: form-data; name="image"{head}\r\n\r\n'
    ).encode() + data + b"\r\n--x--\r\n"  # fmt: skip
    answer = program.post(DETECTION, data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 200, answer.text
    assert answer.json["image"]["width"] == 100


def test_a_nameless_picture_that_strangers_send_fills_no_memory(program):
    head = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    body = head + bytes(MOST_NAMELESS + 1) + b"\r\n--x--\r\n"
    answer = program.post(DETECTION, data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.json["success"]) == (413, False)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"image": "a text, ü 강"}, "application/x-www-form-urlencoded"),
        ({"image": "a text, ü 강"}, "multipart/form-data"),
        (b"--x\r\nnothing", "multipart/form-data; boundary=x"),
        (b"--x\r\nnothing", "multipart/form-data; boundary=\xfc"),
        (b"nothing", "multipart/form-data"),
    ],
)
def test_what_is_no_picture_and_no_form_is_refused(program, token_of, data, kind):
    answer = program.post(
        DETECTION, data=data, content_type=kind, headers={"X-API-Key": token_of()}
    )
    assert (answer.status_code, answer.json["success"]) == (400, False)


def test_a_picture_that_is_too_large_in_a_body_that_is_not_is_413(app, program, bearer):
    limits = services(app).uploads.limits
    object.__setattr__(limits, "file_bytes", 1000)
    head = bearer()
    for path in (DETECTION, "/api/v1/detect", "/api/v1/images", "/api/v1/classify/lenet5.mnist"):
        data = {"image": (io.BytesIO(bytes(1001)), "x.jpg")}
        answer = program.post(path, data=data, headers=head)
        assert answer.status_code == 413, path
        assert "larger than" in (answer.json.get("error") or answer.json["detail"])


def test_a_classifier_by_name_answers_as_a_scene(program, token_of):
    body = ask(program, "/v1/vision/custom/lenet5.mnist", api_key=token_of()).json
    assert body["success"] is True
    assert body["label"]


# -- errors --------------------------------------------------------------------------------


def test_every_error_is_json_in_the_words_that_clients_know(app, program, token_of, monkeypatch):
    key = token_of()
    answers = {
        400: ask(program, data=b"no picture", api_key=key),
        401: ask(program, api_key="wrong"),
        404: ask(program, "/v1/vision/custom/nothing", api_key=key),
        405: program.get(DETECTION),
    }
    monkeypatch.setitem(app.config, "MAX_CONTENT_LENGTH", 1000)
    answers[413] = ask(program, data=bytes(2000), api_key=key)
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.is_json
        assert answer.json["success"] is False
        assert answer.json["error"]
    assert answers[401].json["error"] == "Incorrect api key"
    assert answers[400].json["error"] == "invalid image file"
    monkeypatch.undo()
    missing = program.post(DETECTION, data={"api_key": key})
    assert missing.json["error"] == "No valid image file found"
    for path in ("/v1/", "/v1/vision/face", "/v1/vision/detection/"):
        answer = program.post(path, data={"api_key": key})
        assert (answer.status_code, answer.is_json) == (404, True)


def test_a_crash_is_json_too(make_app, monkeypatch):
    app = make_app(PROPAGATE_EXCEPTIONS=False, API_OPEN_ON_LOOPBACK=True, LOG_LEVEL="CRITICAL")

    def crash(*_args, **_options):
        raise RuntimeError("no")

    monkeypatch.setattr(services(app).instant.engine, "detect", crash)
    answer = ask(app.test_client())
    assert answer.status_code == 500
    assert answer.json["success"] is False


def test_a_full_engine_says_when_to_come_again(app, program, token_of, monkeypatch):
    def full(*_args, **_options):
        raise Busy("Many pictures wait.")

    monkeypatch.setattr(services(app).instant.engine, "detect", full)
    answer = ask(program, api_key=token_of())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json["error"] == "Many pictures wait."


def test_the_answer_to_a_host_that_is_not_ours_is_json(make_app):
    app = make_app(TRUSTED_HOSTS=["boxes.example.org"])
    answer = app.test_client().get("/v1/status/ping")
    assert answer.status_code == 400
    assert answer.json["success"] is False


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("192.168.1.7", {}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "192.168.1.7"}, 401),
    ],
)
def test_only_programs_of_this_machine_may_go_without_a_key(app, address, headers, status):
    app.config["API_OPEN_ON_LOOPBACK"] = True
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    data = {"image": (io.BytesIO(picture_bytes()), "image")}
    assert client.post(DETECTION, data=data, headers=headers).status_code == status
    assert client.get("/api/v1/me").status_code == 401  # of the protocols of cameras alone


def test_without_the_setting_nobody_goes_without_a_key(program):
    assert ask(program).status_code == 401


def test_nothing_is_stored(app, program, token_of):
    ask(program, api_key=token_of())
    assert stored_files(app) == []
    with app.app_context():
        assert db.session.scalar(select(func.count(Image.id))) == 0
