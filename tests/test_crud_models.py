"""The administrators' page of models."""

import fcntl
import hashlib
import html
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select

from apps.container import services
from apps.crud.models_page import progress_of
from apps.errors import Conflict, WeightsError
from apps.extensions import db
from apps.models import Image, ImageStatus
from apps.services import models as model_service
from apps.services.models import ModelState
from apps.vision import devices
from apps.vision.zoo import classifiers as zoo
from apps.vision.zoo import registry
from apps.vision.zoo.classifiers import classifiers, get_classifier
from apps.vision.zoo.downloads import FIRST_PAUSE, LOOK, Download
from apps.vision.zoo.registry import BEST_ON_CPU, BEST_ON_GPU, BLOOD_CELLS, detectors, get_detector
from apps.vision.zoo.store import Progress, WeightsState, WeightsStore
from tests.conftest import weights_here

NAME = "ssd300_vgg16.coco_v1"
CLASSIFIER = "googlenet.imagenet1k_v1"
DATA = b"not really weights" * 1000


@pytest.fixture
def published(monkeypatch) -> Iterator[None]:
    """The files of NAME and CLASSIFIER on loopback instead of at their addresses."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    spec = get_detector(NAME)
    file = replace(
        spec.weights,
        url=f"http://127.0.0.1:{server.server_port}/x.pth",
        sha256=hashlib.sha256(DATA).hexdigest(),
    )
    monkeypatch.setitem(registry._specs, NAME, replace(spec, weights=file))
    other = get_classifier(CLASSIFIER)
    same = replace(other.weights, url=file.url, sha256=file.sha256)
    monkeypatch.setitem(zoo._specs, CLASSIFIER, replace(other, weights=same))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def put(app, name: str, data: bytes) -> None:
    store = services(app).models.store
    store.folder.mkdir(parents=True, exist_ok=True)
    store.path(get_detector(name).weights).write_bytes(data)


def wait(client, name=NAME) -> dict[str, object]:
    while (row := client.get("/crud/models/status").json[name])["running"]:
        pass
    return row


ROUTES = [
    ("GET", "/crud/models"),
    ("GET", "/crud/models/status"),
    ("POST", "/crud/models/default"),
    ("POST", f"/crud/models/{NAME}/fetch"),
    ("POST", f"/crud/models/{NAME}/verify"),
    ("POST", f"/crud/models/{NAME}/bench"),
    ("POST", f"/crud/models/{NAME}/remove"),
    ("POST", f"/crud/classifiers/{CLASSIFIER}/fetch"),
    ("POST", f"/crud/classifiers/{CLASSIFIER}/verify"),
    ("POST", f"/crud/classifiers/{CLASSIFIER}/remove"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_administrators_come_in(app, ann, method, path):
    assert app.test_client().open(path, method=method).status_code == 302
    assert ann.open(path, method=method).status_code == 403


@pytest.mark.parametrize("action", ["fetch", "verify", "remove"])
def test_an_unknown_model_is_404(admin, action):
    assert admin.post(f"/crud/models/nonsense/{action}").status_code == 404
    assert admin.post(f"/crud/classifiers/nonsense/{action}").status_code == 404
    assert admin.get(f"/crud/classifiers/{CLASSIFIER}/{action}").status_code == 405
    assert admin.get(f"/crud/models/{NAME}/{action}").status_code == 405
    assert admin.post("/crud/models/nonsense/bench").status_code == 404


def test_every_model_is_listed_with_its_state(app, admin):
    weights_here(app, NAME)
    text = admin.get("/crud/models").text
    assert text.count("data-model=") == len(detectors()) + len(classifiers())
    assert "come with Sightbox" in text
    assert str(services(app).models.store.folder) in text
    assert text.count(">Remove<") + text.count("> Remove<") == 1


def test_where_the_weights_of_a_classifier_come_from_and_belong_is_told(app, admin):
    spec = get_classifier(CLASSIFIER)
    row = admin.get("/crud/models").text.partition(f'data-model="{CLASSIFIER}"')[2]
    details = html.unescape(row.partition("</details>")[0])
    assert "BSD-3-Clause" in details
    assert f">{spec.weights.url}<" in details
    assert f">{spec.weights.sha256}…<" in details  # the first 8 digits are what is known
    assert f">{services(app).models.store.path(spec.weights)}<" in details


def test_fetch_downloads_in_the_background_and_verify_agrees(app, admin, published):
    assert admin.post(f"/crud/models/{NAME}/fetch").status_code == 303
    assert wait(admin)["ready"] is True
    text = admin.post(f"/crud/models/{NAME}/verify", follow_redirects=True).text
    assert "the checksum is right" in text
    text = admin.post(f"/crud/models/{NAME}/remove", follow_redirects=True).text
    assert "are removed" in text
    text = admin.post(f"/crud/models/{NAME}/verify", follow_redirects=True).text
    assert "are missing" in text


def test_the_weights_of_a_classifier_come_and_go_in_the_same_way(admin, ann, published):
    assert "flask models fetch" in ann.get(f"/classifier/{CLASSIFIER}").text
    assert admin.post(f"/crud/classifiers/{CLASSIFIER}/fetch").status_code == 303
    assert wait(admin, CLASSIFIER)["ready"] is True
    assert "flask models fetch" not in ann.get(f"/classifier/{CLASSIFIER}").text
    text = admin.post(f"/crud/classifiers/{CLASSIFIER}/verify", follow_redirects=True).text
    assert "the checksum is right" in text
    text = admin.post(f"/crud/classifiers/{CLASSIFIER}/remove", follow_redirects=True).text
    assert "are removed" in text
    text = admin.post(f"/crud/classifiers/{CLASSIFIER}/verify", follow_redirects=True).text
    assert "are missing" in text


def test_the_weights_of_a_classifier_that_come_with_sightbox_stay(admin):
    text = admin.post("/crud/classifiers/lenet5.mnist/remove", follow_redirects=True).text
    assert "come with Sightbox and cannot be removed" in text


def test_a_download_that_failed_says_why(admin, published, monkeypatch):
    spec = get_detector(NAME)
    wrong = replace(spec.weights, sha256="0" * 64)
    monkeypatch.setitem(registry._specs, NAME, replace(spec, weights=wrong))
    admin.post(f"/crud/models/{NAME}/fetch")
    assert "checksum differs" in str(wait(admin)["error"])
    assert "checksum differs" in admin.get("/crud/models").text


def test_the_chosen_default_looks_at_new_pictures(app, admin, ann, upload):
    assert "fake.test" in ann.get(f"/images/{upload(ann)}").text  # auto, with the tests' engine
    refused = admin.post("/crud/models/default", data={"model": NAME}, follow_redirects=True)
    assert "not here yet" in refused.text
    weights_here(app, NAME)
    admin.post("/crud/models/default", data={"model": NAME})
    assert f"/models/{NAME}" in ann.get(f"/images/{upload(ann)}").text
    assert "in use" in ann.get(f"/models/{NAME}").text
    busy = admin.post(f"/crud/models/{NAME}/remove", follow_redirects=True)
    assert "Choose another one first" in busy.text
    admin.post("/crud/models/default", data={"model": "auto"})
    assert "fake.test" in ann.get(f"/images/{upload(ann)}").text
    unknown = admin.post("/crud/models/default", data={"model": "x"}, follow_redirects=True)
    assert "There is no model" in unknown.text


def test_nobody_waits_for_the_database_while_a_file_is_verified(app, admin, monkeypatch):
    seen = []

    def verify(*_arguments: object) -> None:
        seen.append(db.session.registry().in_transaction())
        other = sqlite3.connect(Path(app.instance_path) / "testing.sqlite", timeout=0)
        other.execute("BEGIN IMMEDIATE")  # raises if the request held the lock
        other.close()

    monkeypatch.setattr(type(services(app).models.store), "verify", verify)
    assert admin.post(f"/crud/models/{NAME}/verify").status_code == 303
    assert admin.post(f"/crud/classifiers/{CLASSIFIER}/verify").status_code == 303
    assert seen == [False, False]


def test_a_download_of_unknown_size_tells_no_whole_and_no_end(app):
    def text(total: int) -> object:
        download = Download(True, Progress(5 * 2**20, total, 2.0**20))
        missing = ModelState(get_detector(NAME), WeightsState.MISSING, in_use=False)
        return progress_of(missing, {NAME: download})["text"]

    with app.test_request_context():
        assert text(0) == "5.0 MB, 1.0 MB/s"
        assert text(15 * 2**20) == "5.0 of 15.0 MB, 1.0 MB/s, 10 s left"


def test_embedded_weights_cannot_be_removed(admin):
    text = admin.post(f"/crud/models/{BLOOD_CELLS.name}/remove", follow_redirects=True).text
    assert "come with Sightbox and cannot be removed" in text


def test_auto_fetches_what_it_would_rather_use_once_and_only_if_it_may(make_app, monkeypatch):
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    for may, expected in ((True, [BEST_ON_CPU.weights.name]), (False, [])):
        app = make_app(MODEL_DOWNLOADS=may)
        asked: list[str] = []
        store = type(services(app).models.store)
        note = lambda _, file, *__, asked=asked: asked.append(file.name)  # noqa: E731
        monkeypatch.setattr(store, "fetch", note)
        for _ in range(3):
            app.test_client().get("/")
        while expected and not asked:
            pass
        assert asked == expected


def test_a_download_that_failed_is_tried_again_after_longer_and_longer_pauses(
    make_app, monkeypatch, count_queries
):
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    app = make_app(MODEL_DOWNLOADS=True)
    models, now, asked = services(app).models, [0.0], []
    monkeypatch.setattr(models.attempts, "_clock", lambda: now[0])
    models.attempts.due()
    models.attempts.failed()  # once, a moment ago
    monkeypatch.setattr(type(models), "_prefer", lambda _: asked.append(now[0]))
    client = app.test_client()
    for seconds in (0, FIRST_PAUSE - 1, FIRST_PAUSE, FIRST_PAUSE + 1):
        now[0] = seconds
        client.get("/")
    while not asked:
        pass
    assert asked == [FIRST_PAUSE]
    models.attempts.failed()
    now[0] += 2 * FIRST_PAUSE - 1
    assert not models.attempts.due()
    now[0] += 1
    assert models.attempts.due()
    models.attempts.worked()
    now[0] += LOOK
    assert models.attempts.due()


@pytest.mark.parametrize(
    ("outcome", "pause"), [(True, FIRST_PAUSE), (None, 2 * FIRST_PAUSE), (False, 4 * FIRST_PAUSE)]
)
def test_a_download_that_somebody_else_runs_says_nothing_of_the_next_pause(
    make_app, monkeypatch, outcome, pause
):
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    models, now = services(make_app(MODEL_DOWNLOADS=True)).models, [0.0]
    monkeypatch.setattr(models.attempts, "_clock", lambda: now[0])
    models.attempts.failed()
    monkeypatch.setattr(models.downloads, "run", lambda _file: outcome)
    models._prefer()
    models.attempts.failed()
    now[0] = pause - 1
    assert not models.attempts.due()
    now[0] = pause
    assert models.attempts.due()


def test_the_device_that_is_set_decides_what_auto_fetches(make_app, monkeypatch):
    monkeypatch.setitem(devices._is_cuda, "auto", True)
    for device, best in (("cpu", BEST_ON_CPU), ("auto", BEST_ON_GPU), ("cuda:1", BEST_ON_GPU)):
        app, asked = make_app(DEVICE=device, MODEL_DOWNLOADS=True), []
        models = services(app).models
        note = lambda _, file, *__, asked=asked: asked.append(file.name)  # noqa: E731
        monkeypatch.setattr(type(models.store), "fetch", note)
        models._prefer()
        assert asked == [best.weights.name]


def test_a_request_asks_the_database_for_the_default_once_in_a_while(app, count_queries):
    models = services(app).models
    object.__setattr__(models, "may_download", True)
    set_default = services(app).models.set_default
    with app.app_context():
        set_default(BLOOD_CELLS.name)
    with count_queries() as statements:
        for _ in range(3):
            app.test_client().get("/static/nothing.css")
    assert len([one for one in statements if "settings" in one]) == 1


def test_weights_that_pictures_wait_for_or_auto_uses_stay(app, admin, ann, upload, monkeypatch):
    weights_here(app, NAME)
    image_id = upload(ann)
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        image.wanted_model, image.status = NAME, ImageStatus.QUEUED
        db.session.commit()
    text = admin.post(f"/crud/models/{NAME}/remove", follow_redirects=True).text
    assert "Pictures wait for this model" in text
    with app.app_context():
        db.session.get_one(Image, image_id).status = ImageStatus.DONE
        db.session.commit()
    assert "are removed" in admin.post(f"/crud/models/{NAME}/remove", follow_redirects=True).text

    published = replace(
        get_detector(NAME).weights, size=4, sha256=hashlib.sha256(b"good").hexdigest()
    )
    best = replace(get_detector(NAME), weights=published)
    monkeypatch.setitem(registry._specs, NAME, best)
    monkeypatch.setattr("apps.vision.engine.BEST_ON_CPU", best)
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    put(app, NAME, b"good")
    text = admin.post(f"/crud/models/{NAME}/remove", follow_redirects=True).text
    assert "“auto” uses this model at present" in text


def test_the_page_says_why_auto_leaves_weights_that_are_here_alone(app, admin, monkeypatch):
    monkeypatch.setitem(devices._is_cuda, "auto", False)
    assert "would rather use" not in admin.get("/crud/models").text
    put(app, BEST_ON_CPU.name, b"half of it")
    text = admin.get("/crud/models").text
    assert "would rather use" in text
    assert "10 bytes instead of about" in text
    assert "in use" not in admin.get(f"/models/{BEST_ON_CPU.name}").text


def test_the_page_shows_what_another_process_downloads_and_why_it_failed(app, admin):
    store, file = services(app).models.store, get_detector(NAME).weights
    store.folder.mkdir(parents=True)
    with (store.folder / f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as any process that downloads
        (store.folder / f"{file.name}.part").write_bytes(bytes(3 * 2**20))
        row = admin.get("/crud/models/status").json[NAME]
        assert (row["running"], row["text"]) == (True, "3.0 of 136.0 MB")
        assert row["done"] == pytest.approx(3 * 2**20 / file.size)
        text = admin.get("/crud/models").text
        assert "3.0 of 136.0 MB" in text
        assert "interrupted" not in text
    assert "interrupted" in admin.get("/crud/models").text
    other = WeightsStore(store.folder)
    with pytest.raises(WeightsError):
        other.fetch(replace(file, url="http://127.0.0.1:1/x.pth"))  # nobody listens there
    row = admin.get("/crud/models/status").json[NAME]
    assert row["running"] is False
    assert f"copy it to {store.folder}" in row["error"]
    korean = {"Accept-Language": "ko"}
    assert "다른 컴퓨터" in html.unescape(admin.get("/crud/models", headers=korean).text)


def test_a_default_whose_weights_are_missing_stays_chosen_until_somebody_chooses(app, admin):
    path = weights_here(app, NAME)
    admin.post("/crud/models/default", data={"model": NAME})
    path.unlink()
    text = admin.get("/crud/models").text
    assert f'<option value="{NAME}" selected>ssd300_vgg16 (weights missing)</option>' in text
    assert "The chosen model cannot be used on this machine." in text
    assert "are missing. Run" in text
    again = admin.post("/crud/models/default", data={"model": NAME}, follow_redirects=True)
    assert "not here yet" in again.text
    path.write_bytes(b"half of it")
    text = admin.get("/crud/models").text
    assert "(weights incomplete)" in text
    assert text.count("10 bytes instead of about") == 2  # above, and in the row
    with app.app_context():
        assert services(app).models.default() == NAME


def test_the_page_offers_to_fetch_a_file_that_was_cut_short(app, admin, published):
    assert admin.post(f"/crud/models/{NAME}/fetch").status_code == 303
    assert wait(admin)["ready"] is True
    path = services(app).models.store.path(get_detector(NAME).weights)
    path.write_bytes(DATA[:5000])
    row = admin.get("/crud/models/status").json[NAME]
    assert row["ready"] is False
    assert "5000 bytes instead of about" in row["fault"]
    assert f'action="/crud/models/{NAME}/fetch"' in admin.get("/crud/models").text
    assert "is incomplete" in admin.get(f"/models/{NAME}").text
    admin.post(f"/crud/models/{NAME}/fetch")
    assert wait(admin)["ready"] is True
    assert path.read_bytes() == DATA


def test_a_row_says_what_is_known_to_be_wrong_with_its_file(app, admin):
    path = weights_here(app, NAME)
    admin.post("/crud/models/default", data={"model": NAME})
    text = admin.get("/crud/models").text  # it has looked into the file of the default
    assert "not usable" in text
    assert text.count("its checksum differs") == 2
    admin.post("/crud/models/default", data={"model": "auto"})
    assert admin.get("/crud/models").text.count("its checksum differs") == 1
    path.unlink()
    assert "its checksum differs" not in admin.get("/crud/models").text


def test_the_page_tells_licence_source_checksum_file_and_speed(app, ann, admin, upload):
    upload(ann)
    with app.app_context():
        image = db.session.scalars(select(Image)).one()
        image.model, image.duration_ms = BLOOD_CELLS.name, 1234
        db.session.commit()
        store = services(app).models.store
    page = html.unescape(admin.get("/crud/models").text)
    assert page.count("1234 ms") == 1
    for spec in detectors():
        assert spec.card.licence in page
        assert spec.weights.sha256 in page
        assert str(store.path(spec.weights)) in page
        assert spec.weights.url is None or spec.weights.url in page


# -- measured speed ----------------------------------------------------------------------------

BENCH = f"/crud/models/{BLOOD_CELLS.name}/bench"


def measured(client, name=BLOOD_CELLS.name) -> dict[str, object]:
    while (row := client.get("/crud/models/status").json[name])["measuring"]:
        pass
    return row


def test_a_measurement_runs_in_the_background_and_its_result_stays(make_app, app, admin, ann):
    bench = services(app).bench
    bench.engine.state = replace(bench.engine.state, device="cuda:0 (NVIDIA H200)")
    assert admin.post(BENCH).status_code == 303
    assert measured(admin)["bench_error"] == ""
    assert admin.get("/crud/models").text.count("cuda:0 (NVIDIA H200)") == 1
    assert "cuda:0 (NVIDIA H200)" in ann.get(f"/models/{BLOOD_CELLS.name}").text
    again = services(make_app(WEIGHTS_ROOT=app.config["WEIGHTS_ROOT"])).bench
    [speed] = again.of(BLOOD_CELLS)
    assert speed.device == "cuda:0 (NVIDIA H200)"
    assert 0 <= speed.median_ms <= speed.p95_ms
    other = replace(
        BLOOD_CELLS, weights=replace(BLOOD_CELLS.weights, sha256="0" * 64)
    )  # of the same name
    assert again.of(other) == []
    again.engine.state = replace(again.engine.state, device="cpu")
    again.measure(BLOOD_CELLS, rounds=1)
    again.measure(BLOOD_CELLS, rounds=1)  # in place of the last one
    assert [speed.device for speed in bench.of(BLOOD_CELLS)] == ["cpu", "cuda:0 (NVIDIA H200)"]


def test_models_are_measured_one_at_a_time_and_no_page_waits(make_app, app, admin):
    go_on = threading.Event()
    bench = services(app).bench
    bench.engine.script = lambda _: go_on.wait(20) and ()
    admin.post(BENCH)
    page = admin.post(BENCH, follow_redirects=True).text
    assert "A model is being measured already" in page
    assert "being measured …" in page
    other = services(make_app(WEIGHTS_ROOT=app.config["WEIGHTS_ROOT"])).bench  # another process
    with pytest.raises(Conflict, match="being measured already"):
        other.measure(BLOOD_CELLS)
    go_on.set()
    measured(admin)
    assert "being measured …" not in admin.get("/crud/models").text
    other.measure(BLOOD_CELLS, rounds=1)


def test_nobody_else_can_measure_while_a_page_still_says_that_one_runs(app, monkeypatch):
    bench = services(app).bench
    seen: list[str | None] = []
    freed = threading.Event()

    class Lock:
        def __enter__(self) -> None: ...

        def __exit__(self, *_error: object) -> None:
            seen.append(bench.running)
            freed.set()

    monkeypatch.setattr(type(bench.kept), "lock", lambda _self: Lock())
    with app.app_context():
        bench.start(BLOOD_CELLS.name)
    assert freed.wait(20)
    assert seen == [None]


def test_a_measurement_that_fails_says_why(app, admin):
    def fail(_picture: object) -> tuple[()]:
        raise WeightsError("The weights are bad.")

    services(app).bench.engine.script = fail
    admin.post(BENCH)
    assert measured(admin)["bench_error"] == "The weights are bad."
    assert "The weights are bad." in admin.get("/crud/models").text
    services(app).bench.engine.script = lambda _: 1 / 0
    admin.post(BENCH)
    assert "log has the details" in str(measured(admin)["bench_error"])
    missing = admin.post(f"/crud/models/{NAME}/bench", follow_redirects=True).text
    assert "are not here yet" in missing
    services(app).bench.engine_here = False
    assert "Other processes detect" in admin.post(BENCH, follow_redirects=True).text


@pytest.mark.parametrize("text", ["", "[]", "{", f'{{"{BLOOD_CELLS.name}": [{{}}, 1]}}'])
def test_a_file_of_speeds_that_was_damaged_is_no_error(app, admin, text):
    folder = services(app).models.store.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speeds.json").write_text(text)
    assert admin.get("/crud/models").status_code == 200
    services(app).bench.measure(BLOOD_CELLS, rounds=1)
    assert len(services(app).bench.of(BLOOD_CELLS)) == 1


def test_imported_results_which_took_no_time_here_hide_no_speed(app, ann, upload, monkeypatch):
    monkeypatch.setattr(model_service, "SPEED_SAMPLES", 2)
    upload(ann)
    with app.app_context():
        image = db.session.scalars(select(Image)).one()
        image.model, image.duration_ms = BLOOD_CELLS.name, 1234
        for n in range(2):
            newer = Image(owner_id=image.owner_id, title="x", key=f"{n}" * 32, extension="jpg",
                          media_type="image/jpeg", sha256=f"{n}" * 64, bytes=1, width=1, height=1,
                          model="theirs",
                          detected_at=image.detected_at + timedelta(days=1))  # fmt: skip
            db.session.add(newer)
        db.session.commit()
        assert services(app).models.speeds() == {BLOOD_CELLS.name: 1234}
