"""The function for CVAT, run by ``cvat-cli`` itself; only what it says to CVAT is caught here."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cvat_cli.__main__ as cvat_cli
import cvat_sdk.auto_annotation as cvataa
import pytest
from cvat_cli._internal import common
from cvat_sdk import models
from cvat_sdk.auto_annotation import driver
from PIL import Image as Picture

from apps.services.labelstudios import LabelStudioService

CLASSES = ("person", "cat", "dog")


@pytest.fixture
def file(ann, monkeypatch, tmp_path, server, token_of) -> Path:
    """The downloaded file, and in the environment what it asks for."""
    monkeypatch.setattr(LabelStudioService, "classes_of", lambda *_: ("fast", CLASSES))
    answer = ann.get("/connect/cvat.py")
    assert answer.headers["Content-Disposition"] == "attachment; filename=sightbox_cvat.py"
    path = tmp_path / "sightbox_cvat.py"
    path.write_bytes(answer.data)
    monkeypatch.setenv("SIGHTBOX_URL", server)
    monkeypatch.setenv("SIGHTBOX_TOKEN", token_of())
    return path


class Cvat:
    """In place of a client that is logged in: a task with labels of its own and two pictures."""

    def __init__(self) -> None:
        self.labels = [
            models.Label(id=70, name="dog", attributes=[], sublabels=[], type="rectangle"),
            models.Label(id=71, name="cat", attributes=[], sublabels=[], type="any"),
        ]
        self.pictures = {
            "a.jpg": Picture.new("RGB", (100, 80)),
            "b.png": Picture.new("L", (50, 10)),
        }
        self.sent: list[tuple[str, int, models.PatchedLabeledDataRequest]] = []
        self.logger = logging.getLogger("cvat")
        self.api_client = SimpleNamespace(default_headers={"User-Agent": "a test"})
        self.tasks = SimpleNamespace(api=self)

    def __enter__(self) -> "Cvat":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def check_server_version(self, **_options: object) -> None:
        return

    def data_set(self, _client: object, _task: int, **_options: object) -> SimpleNamespace:
        samples = [
            SimpleNamespace(
                frame_index=number,
                frame_name=name,
                media=SimpleNamespace(load_image=lambda picture=picture: picture),
            )
            for number, (name, picture) in enumerate(self.pictures.items())
        ]
        return SimpleNamespace(labels=self.labels, samples=samples)

    def partial_update_annotations(
        self, action: str, task: int, *, patched_labeled_data_request: object
    ) -> None:
        self.sent.append((action, task, patched_labeled_data_request))


@pytest.fixture
def cvat(monkeypatch) -> Iterator[Cvat]:
    cvat = Cvat()
    monkeypatch.setattr(common, "make_client_from_cli", lambda *_, **__: cvat)
    monkeypatch.setattr(driver, "TaskDataset", cvat.data_set)
    yield cvat
    cvat_cli.logger.handlers.clear()


@pytest.fixture
def annotate(file, cvat) -> Callable[..., list[tuple[int, int, list[float]]]]:
    """annotate("--option") -> label, frame and corners of what cvat-cli sends for task 12."""

    def annotate(*options: str) -> list[tuple[int, int, list[float]]]:
        line = ["task", "auto-annotate", "12", "--function-file", str(file), *options]
        assert cvat_cli.main(line) == 0
        [(action, task, sent)] = cvat.sent
        assert (action, task, sent.tags) == ("create", 12, [])
        assert {(shape.type.value, shape.source) for shape in sent.shapes} == {
            ("rectangle", "auto")
        }
        return [(shape.label_id, shape.frame, shape.points) for shape in sent.shapes]

    return annotate


def test_the_loader_of_cvat_cli_takes_the_file_without_parameters(file):
    function = common.FunctionLoader(None, file, {}).load()
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    assert [(label.id, label.name) for label in function.spec.labels] == list(enumerate(CLASSES))
    with pytest.raises(TypeError, match="takes no parameters"):
        common.FunctionLoader(None, file, {"url": "http://nas"}).load()


def test_cvat_cli_sends_the_boxes_with_the_labels_of_the_task(annotate):
    assert annotate("--allow-unmatched-labels") == [
        (70, 0, [10, 8, 60, 56]),
        (70, 1, [5, 1, 30, 7]),
    ]


def test_the_threshold_of_cvat_cli_counts_and_boxes_are_those_of_the_rest_interface(
    app, annotate, cvat, bearer
):
    found = annotate("--allow-unmatched-labels", "--conf-threshold", "0.2")
    buffer = io.BytesIO()
    cvat.pictures["a.jpg"].save(buffer, "PNG")
    answer = app.test_client().post(
        "/api/v1/detect",
        data={"image": (io.BytesIO(buffer.getvalue()), "a.png"), "min_score": 0.2},
        headers=bearer(),
    )
    numbers = {label.name: label.id for label in cvat.labels}
    assert [one for one in found if one[1] == 0] == [
        (numbers[one["label"]], 0, [round(corner) for corner in one["box"]])
        for one in answer.json["results"][0]["detections"]
    ]
    assert {label for label, _, _ in found} == {70, 71}


def test_cvat_cli_refuses_labels_that_the_task_lacks_unless_told_otherwise(annotate):
    with pytest.raises(cvataa.BadFunctionError, match="person"):
        annotate()


def test_a_token_that_is_refused_ends_with_the_reason(annotate, cvat, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_TOKEN", "wrong")
    with pytest.raises(SystemExit, match="Incorrect api key"):
        annotate("--allow-unmatched-labels")
    assert cvat.sent == []


def test_the_file_is_for_people_who_are_logged_in_and_for_models_that_exist(app, ann):
    assert app.test_client().get("/connect/cvat.py").status_code == 302
    assert ann.get("/connect/cvat.py?model=nothing").status_code == 404
