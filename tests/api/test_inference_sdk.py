"""``inference-sdk`` and ``supervision`` themselves, unchanged, against a server here."""

import functools
import http.server
import io
import threading
from pathlib import Path

import pytest
from PIL import Image as Picture

from apps.container import services
from apps.vision.types import Box
from tests.clients import run_client

pytestmark = pytest.mark.clients
MODEL = "fasterrcnn_mobilenet_v3_large_fpn128.blood_cells"
ANY = {"confidence_threshold": 0.1}
# Corners on multiples of 16 pixels, where JPEG again and again moves nothing.
PICTURES = {"wide.jpg": ((320, 160), (16, 32, 112, 96)), "tall.png": ((64, 192), (0, 0, 48, 176))}


def white(picture: Picture.Image) -> list[Box]:
    """A dog where it is white, and an unsure cat; nothing in black pictures."""
    corners = picture.convert("L").point(lambda level: 255 * (level > 128)).getbbox()
    return [] if corners is None else [Box("dog", 0.9, *corners), Box("cat", 0.3, 0, 0, 9.5, 9.25)]


def draw(size: tuple[int, int], corners: tuple[int, int, int, int]) -> Picture.Image:
    picture = Picture.new("RGB", size)
    picture.paste("white", corners)
    return picture


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    for name, (size, corners) in PICTURES.items():
        draw(size, corners).save(tmp_path / name, quality=95)
    exif = Picture.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    draw((320, 160), (16, 32, 112, 96)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Picture.new("RGB", (50, 40)).save(tmp_path / "black.jpg")
    return [str(tmp_path / name) for name in (*PICTURES, "turned.jpg", "black.jpg")]


@pytest.fixture
def steps(app, server, token_of):
    """steps({"do": …}, …) -> what inference-sdk answers to each; ``key`` is the token's text."""
    services(app).instant.engine.script = white
    good = token_of()

    def steps(*each, key: str | None = good):
        return run_client("roboflow", {"server": server, "key": key, "steps": each})

    return steps


@pytest.fixture
def ours(app, bearer):
    """ours(path, least) -> what the REST interface says about that picture, in the same shape."""
    headers = bearer()

    def ours(path: str, least: float) -> dict[str, object]:
        image = (io.BytesIO(Path(path).read_bytes()), "x")
        fields = {"image": image, "min_score": least, "model": "fast"}
        answer = app.test_client().post("/api/v1/detect", data=fields, headers=headers)
        [found] = answer.json["results"]
        return {
            "size": [found["width"], found["height"]],
            "boxes": [one["box"] for one in found["detections"]],
            "scores": [one["score"] for one in found["detections"]],
            "labels": [one["label"] for one in found["detections"]],
        }

    return ours


def close(found: dict[str, object], wanted: dict[str, object]) -> bool:
    """Equal but for 32 bits in ``supervision``, and the number of each class, which it adds."""
    kept = {key: value for key, value in found.items() if key != "numbers"}
    flat = [number for box in kept.pop("boxes") for number in box]
    wanted_flat = [number for box in wanted["boxes"] for number in box]
    return (
        flat == pytest.approx(wanted_flat, abs=1e-3)
        and kept.pop("scores") == pytest.approx(wanted["scores"], abs=1e-6)
        and kept == {"size": wanted["size"], "labels": wanted["labels"]}
    )


def test_the_client_learns_who_answers_and_which_models_there_are(steps):
    info, models, loaded, described, unloaded = steps(
        {"do": "info"},
        {"do": "models"},
        {"do": "load", "model": f"{MODEL}/1"},
        {"do": "describe", "model": "fast/1"},
        {"do": "unload", "model": "fast/1"},
    )
    assert info == {"answer": "Sightbox"}
    kind = "object-detection"
    assert ["fast/1", kind] in models["answer"]
    assert [f"{MODEL}/1", kind] in models["answer"]
    assert loaded == models
    assert described == {"answer": ["fast/1", kind]}
    assert unloaded == {"answer": []}


def test_supervision_has_the_boxes_of_the_rest_interface_however_pictures_are_given(
    steps, ours, pictures
):
    ask = {"do": "infer", "model": "fast/1", "wishes": ANY}
    paths = steps(*({**ask, "pictures": [path]} for path in pictures))
    for found, path in zip(paths, pictures, strict=True):
        assert close(found["answer"], ours(path, 0.1)), path
    assert paths[0]["answer"]["boxes"][0] == list(PICTURES["wide.jpg"][1])
    assert paths[2]["answer"]["size"] == [160, 320]
    assert paths[3]["answer"]["boxes"] == []
    for kind in ("pil", "numpy"):
        [found] = steps({**ask, "pictures": pictures[:2], "kind": kind})
        for one, path in zip(found["answer"], pictures, strict=False):
            assert close(one, ours(path, 0.1)), (kind, path)


def test_several_pictures_in_one_request_or_in_one_each_have_answers_in_their_order(
    steps, ours, pictures
):
    ask = {"do": "infer", "model": "fast/1", "pictures": pictures}
    answers = steps(
        ask,
        ask | {"wishes": {"max_batch_size": 16}},
        ask | {"wishes": {"max_concurrent_requests": 4}},
        ask | {"asynchronous": True},
    )
    wanted = [ours(path, 0.4) for path in pictures]  # 0.4: of those who name no score
    for answer in answers:
        assert [close(*pair) for pair in zip(answer["answer"], wanted, strict=True)] == [True] * 4


def test_what_the_client_can_be_told_to_wish_counts(steps, pictures):
    ask = {"do": "infer", "model": "fast/1", "pictures": pictures[:1]}
    sure, cats, one, shrunk = steps(
        ask | {"wishes": {"confidence_threshold": 0.95}},
        ask | {"wishes": ANY | {"class_filter": ["cat"]}},
        ask | {"wishes": ANY | {"max_detections": 1}},
        ask | {"wishes": {"client_downsizing_disabled": False, "default_max_input_size": 160}},
    )
    assert sure["answer"]["labels"] == []
    assert cats["answer"]["labels"] == ["cat"]
    assert one["answer"]["labels"] == ["dog"]
    # The client makes the picture half as large, and the boxes twice as large again.
    assert shrunk["answer"]["boxes"][0] == pytest.approx(PICTURES["wide.jpg"][1], abs=4)


@pytest.mark.parametrize("way", ["legacy", "header", "both"])
def test_the_token_may_come_in_each_way_that_the_client_knows(steps, pictures, way):
    wishes = {"api_key_transport": way}
    for found in steps(
        {"do": "models", "wishes": wishes},
        {"do": "infer", "model": "fast/1", "pictures": pictures[:1], "wishes": wishes},
    ):
        assert "answer" in found


@pytest.mark.parametrize("key", ["sb_wrong", None])
def test_a_token_that_is_none_is_refused_with_our_reason(steps, pictures, key):
    ask = {"do": "infer", "model": "fast/1", "pictures": pictures[:1]}
    for found in steps(ask, {"do": "models"}, {"do": "load", "model": "fast/1"}, key=key):
        assert (found["error"], found["status"]) == ("HTTPCallErrorError", 401)
        assert "token" in found["message"]


def test_a_token_that_may_not_detect_is_refused(steps, pictures, token_of):
    ask = {"do": "infer", "model": "fast/1", "pictures": pictures[:1]}
    [found] = steps(ask, key=token_of("ann", "read"))
    assert (found["error"], found["status"]) == ("HTTPCallErrorError", 403)


def test_a_model_that_is_none_and_a_file_that_is_no_picture_come_with_our_reason(
    steps, pictures, tmp_path
):
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    ask = {"do": "infer", "pictures": pictures[:1]}
    missing, described, broken = steps(
        ask | {"model": "coco/3"},
        {"do": "describe", "model": "nothing/1"},
        {"do": "infer", "model": "fast/1", "pictures": [str(text)]},
    )
    for found in (missing, described):
        assert (found["error"], found["status"]) == ("HTTPCallErrorError", 404)
        assert "model" in found["message"]
    assert (broken["error"], broken["status"]) == ("HTTPCallErrorError", 422)
    assert "not a picture" in broken["message"]


def test_pictures_at_addresses_are_fetched_by_the_client_itself(steps, ours, pictures, tmp_path):
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{site.server_port}/wide.jpg"
        [found] = steps({"do": "infer", "model": "fast/1", "pictures": [address]})
        site.shutdown()
        thread.join(10)
    assert close(found["answer"], ours(pictures[0], 0.4))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        return
