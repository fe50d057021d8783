"""Answers of the ML backend in ``label-studio-sdk``'s own types, and through its own checks."""

import pytest

from apps.container import services
from apps.vision.types import Box
from apps.vision.zoo.registry import EMBEDDED_DEFAULT
from tests.api.studio import CONFIG, Studio, tasks
from tests.clients import run_client
from tests.conftest import picture_bytes

pytestmark = pytest.mark.clients
SIZES = {"/data/a.jpg": (300, 70), "/data/b.jpg": (33, 101), "/data/c.jpg": (7, 1111)}


def sdk(*steps: dict[str, object]) -> list:
    return run_client("labelstudio", {"steps": steps})


@pytest.fixture
def predict(app, connect, studio):
    """predict(tasks) -> what Label Studio gets for them; pictures differ in size."""
    Studio.pictures = {path: picture_bytes(size) for path, size in SIZES.items()}
    path, program = connect(studio, "old"), app.test_client()

    def predict(sent: dict[str, object]) -> list[dict]:
        answer = program.post(f"{path}/predict", json=sent)
        assert answer.status_code == 200, answer.text
        return answer.json["results"]

    return predict


def test_the_sdk_has_nothing_against_predictions_of_many_tasks(predict):
    sent = tasks(*SIZES, "/data/other.jpg")
    results = predict(sent)
    given = {"config": CONFIG, "tasks": sent["tasks"], "results": results}
    [checked] = sdk({"do": "predictions", **given})
    assert len(checked) == 4
    for one, result in zip(checked, results, strict=True):
        assert one["problems"] == []
        assert one["task"] is True
        assert one["read"] == result
        assert one["read"]["model_version"] == EMBEDDED_DEFAULT.name
        assert [region["value"]["rectanglelabels"] for region in one["read"]["result"]] == [
            ["Hound"], ["CAT"]
        ]  # fmt: skip


def test_the_sdk_finds_our_boxes_in_the_pixels_where_the_network_saw_them(app, predict):
    boxes = [Box("dog", 0.9, 0, 0, 6.5, 69.9), Box("cat", 0.8, 1 / 3, 2 / 3, 7, 70)]
    services(app).instant.engine.script = lambda _: boxes
    sent = tasks(*SIZES)
    given = {"config": CONFIG, "tasks": sent["tasks"], "results": predict(sent)}
    checked, found = sdk({"do": "predictions", **given}, {"do": "pixels", **given})
    assert [one["problems"] for one in checked] == [[]] * 3
    named = zip(boxes, ("Hound", "CAT"), strict=True)
    wanted = [[name, box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1] for box, name in named]
    for number in range(3):
        mine = [one[1:] for one in found if one[0] == number]
        for (name, *corners), (wanted_name, *right) in zip(mine, wanted, strict=True):
            assert name == wanted_name
            assert corners == pytest.approx(right, abs=1e-6)


def test_boxes_that_fill_the_picture_stay_within_the_percent_that_the_sdk_allows(app, predict):
    services(app).instant.engine.script = lambda picture: [Box("cat", 1.0, 0, 0, *picture.size)]
    sent = tasks(*SIZES)
    given = {"config": CONFIG, "tasks": sent["tasks"], "results": predict(sent)}
    [checked] = sdk({"do": "predictions", **given})
    assert [one["problems"] for one in checked] == [[]] * 3


def test_a_task_with_two_pictures_in_a_config_that_the_sdk_wrote(predict):
    boxes = {"in front": ["photo 1", ["Dog", "tree"]], "behind": ["scan", ["cat", "dog"]]}
    [config] = sdk({"do": "config", "pictures": ["photo 1", "scan"], "boxes": boxes})
    sent = tasks("", config=config)
    sent["tasks"][0]["data"] = {"photo 1": "/data/a.jpg", "scan": "/data/b.jpg"}
    results = predict(sent)
    given = {"config": config, "tasks": sent["tasks"], "results": results}
    [[checked]] = sdk({"do": "predictions", **given})
    assert (checked["problems"], checked["task"]) == ([], True)
    regions = [
        (one["from_name"], one["to_name"], one["original_width"], *one["value"]["rectanglelabels"])
        for one in checked["read"]["result"]
    ]
    assert regions == [
        ("in front", "photo 1", 300, "Dog"),
        ("behind", "scan", 33, "dog"),
        ("behind", "scan", 33, "cat"),
    ]


def test_labels_with_an_alias_are_named_as_the_sdk_wants_them(predict):
    config = CONFIG.replace('value="Hound"', 'value="Hound" alias="canis"')
    sent = tasks("/data/a.jpg", config=config)
    results = predict(sent)
    given = {"config": config, "tasks": sent["tasks"], "results": results}
    [[checked]] = sdk({"do": "predictions", **given})
    assert checked["problems"] == []
    assert results[0]["result"][0]["value"]["rectanglelabels"] == ["canis"]


def test_a_task_whose_picture_is_gone_takes_nothing_from_the_others(predict):
    sent = tasks("/gone.jpg", "/data/a.jpg")
    gone, found = predict(sent)
    assert gone == []
    given = {"config": CONFIG, "tasks": sent["tasks"][1:], "results": [found]}
    [[checked]] = sdk({"do": "predictions", **given})
    assert len(checked["read"]["result"]) == 2
    assert checked["problems"] == []


def test_the_sdk_reads_the_version_that_is_announced_among_the_versions(app, connect):
    path, program = connect(), app.test_client()
    setup = {"project": "1.1", "schema": CONFIG, "hostname": "http://x", "access_token": "x"}
    version = program.post(f"{path}/setup", json=setup).json["model_version"]
    [read] = sdk({"do": "versions", "answer": program.get(f"{path}/versions").json})
    assert version in read["versions"]
