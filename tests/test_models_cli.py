"""``flask models`` with a small detector of torchvision, fetched over HTTP from loopback."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from apps.config import ROOT
from apps.container import services
from apps.errors import Unavailable
from apps.vision.zoo import classifiers as zoo
from apps.vision.zoo import registry
from apps.vision.zoo.classifiers import classifiers, get_classifier
from apps.vision.zoo.registry import BLOOD_CELLS, EMBEDDED_DEFAULT, detectors, get_detector
from apps.vision.zoo.store import WeightsFile

NAME = "ssdlite320_mobilenet_v3_large.coco_v1"
CLASSIFIER = "googlenet.imagenet1k_v1"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving(folder: Path, file: WeightsFile) -> Iterator[WeightsFile]:
    """``file`` as it is published from ``folder``."""
    digest = hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{file.name}"
    yield replace(file, url=url, sha256=digest[:8])
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def published(tmp_path, monkeypatch) -> Iterator[None]:
    """The detector NAME with random weights, published on loopback instead of at its address."""
    import torch

    folder = tmp_path / "published"
    folder.mkdir()
    spec = get_detector(NAME)
    torch.manual_seed(0)
    torch.save(spec.build().state_dict(), folder / spec.weights.name)
    with serving(folder, spec.weights) as file:
        monkeypatch.setitem(registry._specs, NAME, replace(spec, weights=file))
        yield


@pytest.fixture
def published_classifier(tmp_path, monkeypatch) -> Iterator[None]:
    """The file of CLASSIFIER on loopback; what is in it does not matter here."""
    spec = get_classifier(CLASSIFIER)
    (tmp_path / spec.weights.name).write_bytes(b"weights" * 1000)
    with serving(tmp_path, spec.weights) as file:
        monkeypatch.setitem(zoo._specs, CLASSIFIER, replace(spec, weights=file))
        yield


@pytest.fixture
def flask(make_app):
    app = make_app(ENGINE="torch", DEVICE="cpu", DETECTOR="auto")

    def flask(*arguments: str):
        return app.test_cli_runner().invoke(args=list(arguments))

    return flask


def test_list_shows_every_model_and_which_is_in_use(flask):
    lines = flask("models", "list").output.splitlines()
    assert len(lines) == len(detectors()) + len(classifiers())
    assert f"{CLASSIFIER}\taccuracy 0.698\t49.7 MB\tmissing" in lines
    cells = f"{BLOOD_CELLS.name}\tAP 0.579\t14 MB\tready"
    assert any(line.startswith(cells) for line in lines)
    assert lines[0].startswith(f"{EMBEDDED_DEFAULT.name}\t")
    assert [line for line in lines if line.endswith("in use")] == lines[:1]
    assert f"{NAME}\tAP 0.213\t13 MB\tmissing" in lines


def test_show_tells_the_same_of_a_classifier(flask):
    text = flask("models", "show", CLASSIFIER).output
    for part in (
        "accuracy   0.698",
        "size       49.7 MB",
        "tench",
        "BSD-3-Clause",
        "https://download.pytorch.org/",
    ):
        assert part in text


def test_weights_of_a_classifier_are_fetched_verified_and_removed(flask, published_classifier):
    fetched = flask("models", "fetch", CLASSIFIER)
    assert fetched.exit_code == 0, fetched.output
    assert f"{CLASSIFIER}: the checksum is right." in flask("models", "verify").output
    assert "ready" in flask("models", "show", CLASSIFIER).output
    assert flask("models", "remove", CLASSIFIER).output.strip() == "Removed."
    assert "missing" in flask("models", "show", CLASSIFIER).output


def test_show_tells_classes_licence_and_where_the_file_belongs(flask):
    text = flask("models", "show", NAME).output
    for part in (
        "toothbrush",
        "size       13.4 MB",
        "BSD-3-Clause",
        "https://download.pytorch.org/",
        "weights/ssdlite",
    ):
        assert part in text
    assert "N/A" not in text


def test_fetch_verify_use_and_remove(flask, published, tmp_path):
    fetched = flask("models", "fetch", NAME)
    assert fetched.exit_code == 0, fetched.output
    assert "checksum is right" in fetched.output
    assert f"{NAME}: the checksum is right." in flask("models", "verify").output
    bench = flask("models", "bench", NAME, "--rounds", "2")
    assert f"{NAME}\tmedian" in bench.output
    assert " ms a picture (cpu, " in flask("models", "show", NAME).output
    picture = Image.effect_noise((160, 120), 90).convert("RGB")
    picture.save(tmp_path / "a.png")
    assert flask("models", "remove", NAME).output.strip() == "Removed."
    assert flask("models", "remove", NAME).output.strip() == "There was nothing to remove."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show", "nonsense"), "There is no model"),
        (("fetch", "nonsense"), "There is no model"),
        (("verify", NAME), "missing"),
        (("bench", NAME), "missing"),
        (("bench", "nonsense"), "There is no model"),
        (("bench", "lenet5.mnist"), "only detectors are measured"),
        (("remove", BLOOD_CELLS.name), "cannot be removed"),
        (("verify", CLASSIFIER), "missing"),
        (("remove", "lenet5.mnist"), "cannot be removed"),
    ],
)
def test_a_mistake_says_why_and_fails(flask, arguments, text):
    done = flask("models", *arguments)
    assert done.exit_code == 1
    assert text in done.output


def test_verify_names_every_bad_file_and_goes_on_with_the_others(flask, tmp_path):
    folder = tmp_path / "instance0" / "weights"
    folder.mkdir(parents=True)
    for spec in (get_detector(NAME), get_classifier(CLASSIFIER)):
        (folder / spec.weights.name).write_bytes(b"damaged")
    done = flask("models", "verify")
    lines = done.output.splitlines()
    assert done.exit_code == 1
    bad = [line for line in lines if "its checksum differs" in line]
    assert [line.partition(":")[0] for line in bad] == [NAME, CLASSIFIER]
    good = {line.partition(":")[0] for line in lines} - {NAME, CLASSIFIER}
    assert good >= {BLOOD_CELLS.name, EMBEDDED_DEFAULT.name, "lenet5.mnist"}
    assert len(lines) == len(bad) + len(good)


def test_bench_measures_the_others_when_one_cannot_be_measured(make_app, monkeypatch):
    app = make_app()
    runner = app.test_cli_runner()

    def detect(_picture: Image.Image, model: str, **_options: object) -> None:
        if model == EMBEDDED_DEFAULT.name:
            raise Unavailable("It is broken.")

    monkeypatch.setattr(services(app).bench.engine, "detect", detect)
    done = runner.invoke(args=["models", "bench", EMBEDDED_DEFAULT.name, BLOOD_CELLS.name])
    assert done.exit_code == 1
    bad, good = done.output.splitlines()
    assert bad == f"{EMBEDDED_DEFAULT.name}: It is broken."
    assert good.startswith(f"{BLOOD_CELLS.name}\tmedian ")


def test_fetch_without_a_network_says_how_to_copy_the_file_by_hand(flask, published, monkeypatch):
    spec = get_detector(NAME)
    file = replace(spec.weights, url="http://127.0.0.1:1/model.pth")  # nobody listens there
    monkeypatch.setitem(registry._specs, NAME, replace(spec, weights=file))
    done = flask("models", "fetch", NAME)
    assert done.exit_code == 1
    assert "copy it to" in done.output


@pytest.mark.parametrize("command", [["-m", "apps", "--check"], ["-c", "import apps.worker"]])
def test_an_unknown_default_stops_the_start_with_the_name_of_its_setting(tmp_path, command):
    settings = {"SIGHTBOX_CONFIG": "local", "SIGHTBOX_DETECTOR": "yolo.everything"}
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | settings | {"SIGHTBOX_INSTANCE_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (1, 2)
    [said] = ran.stderr.splitlines()
    assert said.startswith("Sightbox does not start: SIGHTBOX_DETECTOR is 'yolo.everything'; use")
    assert BLOOD_CELLS.name in said


def test_fetch_repairs_a_file_that_was_cut_short(flask, published):
    assert flask("models", "fetch", NAME).exit_code == 0
    path = Path(flask("models", "show", NAME).output.split("file       ")[1].splitlines()[0])
    os.truncate(path, 100_000)
    assert "state      incomplete" in flask("models", "show", NAME).output
    assert "checksum differs" in flask("models", "verify").output
    repaired = flask("models", "fetch", NAME)
    assert "checksum is right" in repaired.output
    assert "state      ready" in flask("models", "show", NAME).output
