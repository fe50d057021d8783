"""A real Label Studio, which connects this server and asks it for predictions."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from apps.container import services
from apps.errors import Busy
from apps.extensions import db
from apps.models import ClientCall, Role
from apps.services.labelstudios import LabelStudioService
from apps.vision.types import Box
from tests.broker import free_port
from tests.conftest import picture_bytes

pytestmark = pytest.mark.labelstudio
PATIENCE = 300  # seconds for its start: it makes a database first
CONFIG = (
    '<View><Image name="photo" value="$picture"/><RectangleLabels name="box" toName="photo">'
    '<Label value="Hound" predicted_values="dog"/><Label value="Kitty" alias="cat"/>'
    "</RectangleLabels></View>"
)


class Studio:
    """One that runs on loopback, with an empty database."""

    def __init__(self, program: str, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(20)
        self.log = folder / "label-studio.log"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Token {self.token}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "start", "--no-browser", "--internal-host", "127.0.0.1",
                 "--port", self.address.rpartition(":")[2], "--username", "ann@example.com",
                 "--password", secrets.token_hex(), "--user-token", self.token],
                env=os.environ | {
                    "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
                    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
                    "USE_DEFAULT_BANNED_SUBNETS": "false",
                    "COLLECT_ANALYTICS": "false",
                },
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it answers; an error if it ends first."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if self._session.get(f"{self.address}/health", timeout=10).ok:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
                break
        raise AssertionError(self.log.read_text()[-3000:])

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, f"{self.address}{path}", timeout=60, **options)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    if not (program := os.environ.get("SIGHTBOX_TEST_LABEL_STUDIO")):
        pytest.skip("set SIGHTBOX_TEST_LABEL_STUDIO to the program label-studio")
    studio = Studio(program, tmp_path_factory.mktemp("studio"))
    try:
        studio.wait()
        yield studio
    finally:
        studio.stop()


@pytest.fixture
def backend(app, make_user, server, monkeypatch):
    """backend(studio, token) -> the address that its project takes as an ML backend."""
    classes = ("a model", ("dog", "cat"))  # of the engine of the tests
    monkeypatch.setattr(LabelStudioService, "classes_of", lambda *_: classes)

    def backend(studio: Studio, token: str) -> str:
        user_id = make_user("ann", role=Role.ADMIN)
        with app.app_context():
            connect = services(app).labelstudios.connect
            return f"{server}/labelstudio/{connect(user_id, studio.address, token, 'fast', 0.2)[1]}"

    return backend


@pytest.fixture
def project(studio) -> int:
    """A project with two pictures that were uploaded there."""
    body = {"title": "A project", "label_config": CONFIG}
    number = studio.ask("POST", "/api/projects", json=body)["id"]
    for size in ((100, 80), (33, 101)):
        files = {"file": ("a.jpg", picture_bytes(size), "image/jpeg")}
        studio.ask("POST", f"/api/projects/{number}/import", files=files)
    return int(number)


def retrieve(studio: Studio, project: int) -> list[dict[str, Any]]:
    """“Retrieve predictions” for all tasks, and what is stored afterwards, the first task first."""
    studio.ask(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    stored = studio.ask("GET", f"/api/predictions?project={project}")
    return sorted(stored, key=lambda one: one["task"])


@pytest.mark.parametrize("kind", ["personal access token", "legacy token"])
def test_label_studio_stores_the_predictions_that_it_asks_for(studio, backend, project, kind):
    token = studio.token
    if kind == "personal access token":
        token = studio.ask("POST", "/api/token/")["token"]
    body = {"project": project, "url": backend(studio, token), "title": "Sightbox"}
    link = studio.ask("POST", "/api/ml", json=body)
    assert link["readable_state"] == "Connected"
    versions = studio.ask("GET", f"/api/ml/{link['id']}/versions")["versions"]
    assert link["model_version"] in versions

    stored = retrieve(studio, project)
    assert len(stored) == 2
    for one, size in zip(stored, ([100, 80], [33, 101]), strict=True):
        assert (one["model_version"], one["score"]) == (link["model_version"], 0.9)
        dog, cat = one["result"]
        assert [dog["original_width"], dog["original_height"]] == size
        assert (dog["from_name"], dog["to_name"]) == ("box", "photo")
        assert dog["value"]["rectanglelabels"] == ["Hound"]
        corners = [dog["value"][key] for key in ("x", "y", "width", "height")]
        assert corners == pytest.approx([10, 10, 50, 60])
        assert cat["value"]["rectanglelabels"] == ["cat"]


def test_what_failed_is_asked_for_again(app, studio, backend, project):
    url = backend(studio, studio.token)
    studio.ask("POST", "/api/ml", json={"project": project, "url": url, "title": "Sightbox"})
    engine, asked = services(app).instant.engine, []

    def once(picture):
        asked.append(picture)
        if len(asked) == 1:
            raise Busy("Too many.")
        return [Box("dog", 0.9, 0, 0, 5, 5)]

    engine.script = once
    assert len(retrieve(studio, project)) == 1
    assert len(retrieve(studio, project)) == 2
    assert len(asked) == 3


def test_label_studio_asks_while_people_label_and_tells_what_they_did(studio, backend, project):
    url = backend(studio, studio.token)
    body = {"project": project, "url": url, "title": "Sightbox", "is_interactive": True}
    link = studio.ask("POST", "/api/ml", json=body)
    [task, _] = studio.ask("GET", f"/api/tasks?project={project}&ordering=id")["tasks"]
    path = f"/api/ml/{link['id']}/interactive-annotating"
    answer = studio.ask("POST", path, json={"task": task["id"]})
    assert len(answer["data"]["result"]) == 2
    studio.ask("POST", f"/api/ml/{link['id']}/train", json={})
    studio.ask("POST", f"/api/tasks/{task['id']}/annotations", json={"result": []})
    assert studio.ask("GET", f"/api/ml/{link['id']}")["readable_state"] == "Connected"


def test_a_project_without_a_label_of_ours_is_not_connected_and_the_log_says_why(
    app, studio, backend
):
    config = CONFIG.replace('predicted_values="dog"', "").replace('alias="cat"', "")
    body = {"title": "A project", "label_config": config}
    number = studio.ask("POST", "/api/projects", json=body)["id"]
    body = {"project": number, "url": backend(studio, studio.token), "title": "Sightbox"}
    with pytest.raises(AssertionError, match="422 Client Error"):  # the reason is not shown there
        studio.ask("POST", "/api/ml", json=body)
    with app.app_context():
        errors = db.session.scalars(select(ClientCall.error)).all()
    assert any("None of the project’s labels" in error for error in errors)
