"""The function for CVAT, as its own loader reads it and as a server here answers it."""

import importlib.util

import cvat_sdk.auto_annotation as cvataa
import pytest
from PIL import Image as Picture

from apps.services.labelstudios import LabelStudioService


@pytest.fixture
def function(app, ann, tmp_path, monkeypatch, token_of, server):
    """The downloaded file as a module."""
    classes = ("fast", ("person", "cat", "dog"))
    monkeypatch.setattr(LabelStudioService, "classes_of", lambda *_: classes)
    answer = ann.get("/connect/cvat.py")
    assert answer.headers["Content-Disposition"] == "attachment; filename=sightbox_cvat.py"
    path = tmp_path / "sightbox_cvat.py"
    path.write_bytes(answer.data)
    monkeypatch.setenv("SIGHTBOX_URL", server)
    monkeypatch.setenv("SIGHTBOX_TOKEN", token_of())
    loader = importlib.util.spec_from_file_location("sightbox_cvat", path)
    assert loader is not None
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    return module


class Context(cvataa.DetectionFunctionContext):
    def __init__(self, least: float | None) -> None:
        self.least = least

    @property
    def frame_name(self) -> str:
        return "a.jpg"

    @property
    def conf_threshold(self) -> float | None:
        return self.least

    @property
    def conv_mask_to_poly(self) -> bool:
        return False


def test_cvat_gets_the_labels_and_rectangles_of_the_model(function):
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    assert [(label.id, label.name) for label in function.spec.labels] == [
        (0, "person"), (1, "cat"), (2, "dog")
    ]  # fmt: skip
    picture = Picture.new("RGBA", (100, 80), "green")
    [dog] = function.detect(Context(None), picture)
    assert (dog.label_id, dog.type.value, dog.points) == (2, "rectangle", [10, 8, 60, 56])
    assert {shape.label_id for shape in function.detect(Context(0.2), picture)} == {1, 2}


def test_a_token_that_is_refused_ends_with_the_reason(function, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_TOKEN", "wrong")
    with pytest.raises(SystemExit, match="Incorrect api key"):
        function.detect(Context(None), Picture.new("RGB", (10, 10)))


def test_the_file_is_for_people_who_are_logged_in_and_for_models_that_exist(app, ann):
    assert app.test_client().get("/connect/cvat.py").status_code == 302
    assert ann.get("/connect/cvat.py?model=nothing").status_code == 404
