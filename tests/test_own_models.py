"""Administrators add weights of their own: the pages, the commands, and what follows."""

import io
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

from apps.config import ROOT
from apps.container import services
from apps.errors import Conflict, NotFound
from apps.extensions import db
from apps.models import Image, ImageStatus
from apps.vision.zoo import intake, own
from apps.vision.zoo.architectures import SMALL
from apps.vision.zoo.registry import BLOOD_CELLS
from apps.vision.zoo.store import WeightsStore
from tests.smear import smear
from tests.visitor import multipart

NAME = "cells.v2"
LABELS = ("적혈구", "백혈구", "혈소판")
MIB = 2**20
WEIGHTS = WeightsStore(Path()).path(BLOOD_CELLS.weights)  # 14 MB, three classes


@pytest.fixture
def app(make_app) -> Flask:
    return make_app(
        ENGINE="torch", DEVICE="cpu", DETECTOR=BLOOD_CELLS.name, MAX_WEIGHTS_BYTES=20 * MIB
    )


@pytest.fixture
def here(monkeypatch) -> None:
    """The check runs in this process, which has imported torch already."""
    from apps.vision.zoo import check

    monkeypatch.setattr(intake, "ask", check.examine)


@pytest.fixture
def unchecked(monkeypatch) -> None:
    """Every file passes for the weights of three classes; the check has tests of its own."""

    def ask(question: intake.Question) -> intake.Accepted:
        shutil.copy(WEIGHTS, question.target)
        file = BLOOD_CELLS.weights
        return intake.Accepted(question.origin, file.sha256, file.size, 7_200_000)

    monkeypatch.setattr(intake, "ask", ask)


def fields(**changes: str) -> dict[str, str]:
    """The form, filled in rightly but for ``changes``."""
    right = {"name": NAME, "architecture": SMALL, "origin": "coco", "classes": "\n".join(LABELS)}
    return right | changes


def form(
    data: bytes | None = None, file_name: str = "model_25.pth", **changes: str
) -> dict[str, Any]:
    """Body and type of a sent form; ``data`` is the file, by default right, b"" for none.

    Made here, because the test client would leave the temporary file of a large form open.
    """
    data = WEIGHTS.read_bytes() if data is None else data
    files = [("file", file_name, data)] if data else []
    body = multipart("a-boundary", fields(**changes), files)
    return {"data": body, "content_type": "multipart/form-data; boundary=a-boundary"}


@pytest.fixture
def add(admin, unchecked) -> Callable[..., Any]:
    """add(name="x") -> the answer to a right form, whatever its file is."""
    return lambda **changes: admin.post("/crud/models/new", **form(b"weights", **changes))


def incoming(app: Flask) -> list[Path]:
    return list((services(app).models.own.folder / ".incoming").glob("*"))


def kept_of(text: str) -> str:
    found = re.search(r'name="kept"[^>]*value="([0-9a-f]{32})"', text)
    assert found
    return found[1]


# -- who may ---------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/crud/models/new"),
    ("POST", "/crud/models/new"),
    ("GET", f"/crud/models/{NAME}/delete"),
    ("POST", f"/crud/models/{NAME}/delete"),
    ("POST", f"/crud/models/removed/{NAME}@20260101T000000/restore"),
    ("POST", f"/crud/models/removed/{NAME}@20260101T000000/discard"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_administrators_come_in(app, ann, method, path):
    sent = form() if method == "POST" else {}
    assert app.test_client().open(path, method=method).status_code == 302
    assert ann.open(path, method=method).status_code == 403
    # 14 MB are not even read from somebody who may not send them.
    assert ann.open(path, method=method, **sent).status_code in (403, 413)
    assert not incoming(app)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] == "POST"])
def test_a_form_without_a_token_is_refused(app, admin, method, path):
    app.config["WTF_CSRF_ENABLED"] = True
    answer = admin.open(path, method=method, data={"name": NAME})
    assert answer.status_code == 400
    assert "Load the page again" in answer.text


def test_wrong_methods_and_unknown_models(admin):
    assert admin.put("/crud/models/new").status_code == 405
    assert admin.get("/crud/models/removed/x/restore").status_code == 405
    assert admin.get("/crud/models/nonsense/delete").status_code == 404
    assert admin.post("/crud/models/nonsense/delete").status_code == 404
    assert admin.get(f"/crud/models/{BLOOD_CELLS.name}/delete").status_code == 404
    assert admin.post("/crud/models/removed/x/discard").status_code == 404
    text = admin.post("/crud/models/removed/x/restore", follow_redirects=True).text
    assert "not kept any more" in text


# -- adding ----------------------------------------------------------------------------------


def test_added_weights_are_a_model_like_the_others_from_the_file_to_the_boxes(app, admin, upload):
    """The whole way, with the check in a process of its own."""
    answer = admin.post("/crud/models/new", **form(description="Blut", licence="CC0"))
    assert answer.status_code == 303, answer.text
    assert answer.location == f"/models/{NAME}"
    card = admin.get(f"/models/{NAME}").text
    for part in (*LABELS, "Blut", "CC0", "model_25.pth", "root", SMALL, "7.2 M"):
        assert part in card
    assert "/crud/models/cells.v2/delete" in admin.get("/crud/models").text
    assert NAME in admin.get("/models").text
    assert not incoming(app)

    picture, _ = smear(0)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    image_id = upload(admin, buffer.getvalue())
    page = admin.get(f"/images/{image_id}").text
    assert f'<option value="{NAME}">' in page
    before = admin.get(f"/images/{image_id}/boxes.json").json["boxes"]
    assert admin.post(f"/detect/{image_id}", data={"model": NAME}).status_code == 303
    found = admin.get(f"/images/{image_id}/boxes.json").json
    assert found["model"] == NAME
    named = dict(zip(BLOOD_CELLS.classes, LABELS, strict=True))
    assert len(before) > 10
    assert found["boxes"] == [box | {"label": named[box["label"]]} for box in before]
    assert "적혈구" in found["tags"]

    verified = admin.post(f"/crud/models/{NAME}/verify", follow_redirects=True)
    assert "the checksum is right" in verified.text


def test_another_process_sees_it_at_once(app, add):
    assert add().status_code == 303
    code = (
        "from apps.app import create_app; from apps.container import services\n"
        "app = create_app('testing', INSTANCE_PATH=sys.argv[1], DETECTOR=sys.argv[2])\n"
        "spec = services(app).models.registry.get(sys.argv[2])\n"
        "print(ascii(spec.classes), services(app).models.store.verify(spec.weights))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", app.instance_path, NAME],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split(") ")[0] + ")" == ascii(LABELS)


def test_a_process_that_looked_before_sees_it_too(app, make_app, add):
    other = make_app(WEIGHTS_ROOT=app.config["WEIGHTS_ROOT"])
    known = services(other).models.registry
    assert not known.is_known(NAME)
    add()
    assert known.get(NAME).classes == LABELS
    with app.app_context():
        services(app).models.remove(NAME)
    with pytest.raises(NotFound):
        known.get(NAME)


def test_a_model_that_the_settings_name_stays_though_another_one_was_chosen(app, make_app, add):
    add()
    other = make_app(DETECTOR=NAME, WEIGHTS_ROOT=app.config["WEIGHTS_ROOT"])
    with other.app_context():
        services(other).models.set_default(BLOOD_CELLS.name)
        with pytest.raises(Conflict, match="SIGHTBOX_DETECTOR names this model"):
            services(other).models.remove(NAME)
    with app.app_context():
        assert services(app).models.remove(NAME)


def test_no_transaction_is_open_while_a_file_is_checked(app, admin, monkeypatch):
    seen = []

    def ask(question: intake.Question) -> intake.Accepted:
        seen.append(db.session.registry().in_transaction())
        path = Path(app.instance_path) / "testing.sqlite"
        other = sqlite3.connect(path, timeout=0)
        other.execute("BEGIN IMMEDIATE")  # raises if the upload held the lock
        other.close()
        Path(question.target).write_bytes(b"weights")
        return intake.Accepted("coco", "0" * 64, 7, 1)

    monkeypatch.setattr(intake, "ask", ask)
    assert admin.post("/crud/models/new", **form()).status_code == 303
    assert seen == [False]


def test_a_file_that_goes_while_the_page_of_models_sweeps_is_no_error(app, admin):
    place = services(app).models.own.incoming()
    place.symlink_to(place.with_name("gone"))  # listed, and not there when it is looked at
    assert admin.get("/crud/models").status_code == 200


# -- refused ---------------------------------------------------------------------------------


def test_a_wrong_list_of_classes_keeps_the_file_for_the_next_try(app, admin, here):
    wrong = admin.post("/crud/models/new", **form(classes="a, b"))
    assert wrong.status_code == 422
    assert "trained for 3 classes, the list has 2" in wrong.text
    assert "model_25.pth has arrived" in wrong.text
    key = kept_of(wrong.text)
    right = form(b"", kept=key, kept_name="model_25.pth")
    assert admin.post("/crud/models/new", **right).status_code == 303
    assert "model_25.pth" in admin.get(f"/models/{NAME}").text
    assert not incoming(app)


@pytest.mark.parametrize("kept", ["../../testing.sqlite", "0" * 32, "0" * 31, "/etc/passwd", "%00"])
def test_a_made_up_key_of_a_kept_file_finds_nothing(app, admin, kept):
    answer = admin.post("/crud/models/new", **form(b"", kept=kept))
    assert answer.status_code == 422
    assert "not here any more" in answer.text
    assert kept not in answer.text
    assert (Path(app.instance_path) / "testing.sqlite").exists()


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.marker, "w")


def test_a_file_that_can_never_be_weights_is_thrown_away(app, admin, tmp_path):
    """In a process of its own."""
    data = pickle.dumps(Evil(tmp_path / "ran"))
    answer = admin.post("/crud/models/new", **form(data))
    assert answer.status_code == 422
    assert "Python pickle" in answer.text
    assert 'name="kept"' not in answer.text
    assert not incoming(app)
    assert not (tmp_path / "ran").exists()
    assert "cells.v2" not in admin.get("/crud/models").text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": ""}, "Write a name"),
        ({"name": "../../x"}, "A name has"),
        ({"name": "a/b"}, "A name has"),
        ({"name": "Cells"}, "A name has"),
        ({"name": "x" * 61}, "A name has"),
        ({"name": "auto"}, "A name has"),
        ({"name": "cells."}, "A name has"),
        ({"name": BLOOD_CELLS.name}, "already"),
        ({"classes": ""}, "one a line"),
        ({"classes": "a\na\nb"}, "there twice"),
        ({"architecture": "os:system"}, "Not a valid choice"),
        ({"origin": "mars"}, "Not a valid choice"),
        ({"description": "x" * 501}, "At most 500"),
        ({"from_zero": "y"}, "Only RetinaNet and FCOS"),
    ],
)
def test_a_wrong_field_says_why_and_adds_nothing(app, admin, here, changes, text):
    answer = admin.post("/crud/models/new", **form(b"weights", **changes))
    assert answer.status_code == 422
    assert text in answer.text
    assert kept_of(answer.text)  # the upload was not in vain
    assert not services(app).models.own.specs()


def test_no_file_at_all_is_said(admin):
    answer = admin.post("/crud/models/new", **form(b""))
    assert answer.status_code == 422
    assert "Choose a file." in answer.text


def test_names_are_unique(add):
    assert add().status_code == 303
    assert "already" in add().text
    assert "already" in add(name="lenet5.mnist").text  # a classifier


def test_too_large_files_are_refused(app, admin):
    inside = admin.post("/crud/models/new", **form(bytes(21 * MIB)))
    assert inside.status_code == 422
    assert "larger than 20" in inside.text
    assert admin.post("/crud/models/new", **form(bytes(23 * MIB))).status_code == 413
    assert not incoming(app)


def test_a_full_disk_is_said_before_anything_is_written(app, admin, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    answer = admin.post("/crud/models/new", **form())
    assert answer.status_code == 422
    assert "no room for" in answer.text
    assert not incoming(app)


def test_texts_of_people_are_shown_as_texts(app, admin, unchecked):
    evil = '<b>x</b> 100% %(y)s {{ 7 * 7 }} "'
    sent = form(
        file_name="<img src=x>.pth",
        description=evil,
        licence=evil,
        classes="<i>a</i>\n%(b)s\n%",
    )
    answer = admin.post("/crud/models/new", **sent)
    assert answer.status_code == 303
    with app.app_context():
        services().models.set_default(NAME)
    pages = [f"/models/{NAME}", "/models", "/", "/crud/models", f"/crud/models/{NAME}/delete"]
    for client, paths in ((admin, pages), (app.test_client(), ["/"])):
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200
            assert not re.search("<b>x|<i>a|<img src=x", answer.text), path
            assert "49" not in re.findall(r"100% %\(y\)s (\S+)", answer.text)
    assert "&lt;b&gt;x&lt;/b&gt; 100% %(y)s" in admin.get("/models").text


# -- in use, removed, back -------------------------------------------------------------------


def test_a_model_in_use_or_waited_for_cannot_be_removed(app, admin, add, upload):
    add()
    admin.post("/crud/models/default", data={"model": NAME})
    assert "in use" in admin.get("/crud/models").text
    text = admin.post(f"/crud/models/{NAME}/delete", follow_redirects=True).text
    assert "Choose another one first" in text
    admin.post("/crud/models/default", data={"model": "auto"})
    image_id = upload(admin)
    with app.app_context():
        db.session.execute(
            update(Image)
            .where(Image.id == image_id)
            .values(status=ImageStatus.QUEUED, wanted_model=NAME)
        )
        db.session.commit()
    assert "Pictures wait" in admin.get(f"/crud/models/{NAME}/delete").text
    text = admin.post(f"/crud/models/{NAME}/delete", follow_redirects=True).text
    assert "Pictures wait" in text
    assert services(app).models.registry.is_known(NAME)


def test_what_is_removed_comes_back_whole(app, admin, add, upload):
    add()
    image_id = upload(admin)
    admin.post(f"/detect/{image_id}", data={"model": NAME})
    before = admin.get(f"/images/{image_id}/boxes.json").json
    question = admin.get(f"/crud/models/{NAME}/delete").text
    assert "1 picture keeps its result" in question
    gone = admin.post(f"/crud/models/{NAME}/delete", follow_redirects=True).text
    assert f"{NAME} is removed" in gone
    assert admin.get(f"/models/{NAME}").status_code == 404
    assert admin.get(f"/images/{image_id}/boxes.json").json == before
    taken = add().text
    assert "Pictures keep results of an earlier model" in taken

    [path] = re.findall(r'action="(/crud/models/removed/[^"]+/restore)"', gone)
    back = admin.post(path, follow_redirects=True).text
    assert f"{NAME} is back" in back
    assert "removed/" not in back
    verified = admin.post(f"/crud/models/{NAME}/verify", follow_redirects=True)
    assert "the checksum is right" in verified.text


def test_a_name_without_boxes_is_free_again_and_the_old_model_must_wait(app, admin, add):
    add()
    gone = admin.post(f"/crud/models/{NAME}/delete", follow_redirects=True).text
    assert add().status_code == 303
    [path] = re.findall(r'action="(/crud/models/removed/[^"]+/restore)"', gone)
    assert "already" in admin.post(path, follow_redirects=True).text
    text = admin.post(path.replace("restore", "discard"), follow_redirects=True).text
    assert "Deleted for good" in text
    kept = services(app).models.own.folder / ".removed"
    assert list(kept.iterdir()) == []
    assert services(app).models.registry.is_known(NAME)


def test_what_was_removed_or_left_behind_too_long_ago_is_deleted(app, admin, add, monkeypatch):
    add()
    admin.post(f"/crud/models/{NAME}/delete")
    stale = services(app).models.own.incoming()
    stale.write_bytes(b"x")
    old = time.time() - 2 * 86400
    os.utime(stale, (old, old))
    assert "Bring back" in admin.get("/crud/models").text
    assert not stale.exists()
    monkeypatch.setattr(own, "KEEP_REMOVED", timedelta(0) - timedelta(seconds=1))
    assert "Bring back" not in admin.get("/crud/models").text
    assert list((services(app).models.own.folder / ".removed").iterdir()) == []


def test_a_model_whose_file_is_gone_or_changed_says_so_and_can_be_removed(app, admin, add):
    add()
    store = services(app).models.store
    path = store.path(services(app).models.registry.get(NAME).weights)
    path.write_bytes(b"something else")
    text = admin.post(f"/crud/models/{NAME}/verify", follow_redirects=True).text
    assert "not the one that was added" in text
    path.unlink()
    assert "file missing" in admin.get("/crud/models").text
    assert "is missing" in admin.get(f"/models/{NAME}").text
    assert admin.post(f"/crud/models/{NAME}/fetch").status_code == 409
    assert "is removed" in admin.post(f"/crud/models/{NAME}/delete", follow_redirects=True).text
    assert admin.get("/crud/models").status_code == 200


@pytest.mark.parametrize(
    "card",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"name": "other"}',
        "\udcff",
        "CHANGED architecture os:system",
        "CHANGED classes []",
        "CHANGED classes [1]",
        "CHANGED sha256 x",
        "CHANGED added_at yesterday",
        "CHANGED origin mars",
        "CHANGED size -1",
    ],
)
def test_a_card_that_is_none_of_ours_is_left_out(app, admin, add, card):
    add()
    folder = services(app).models.own.folder
    good = (folder / f"{NAME}.json").read_text()
    if card.startswith("CHANGED"):
        _, key, value = card.split(" ", 2)
        value = value if value[0] in "[-" else f'"{value}"'
        card = re.sub(rf'"{key}": (\[[^\]]*\]|"[^"]*"|\d+)', f'"{key}": {value}', good)
        assert card != good
    (folder / "odd.json").write_text(card.replace(NAME, "odd"), errors="surrogateescape")
    assert list(services(app).models.own.specs()) == [NAME]
    assert admin.get("/models").status_code == 200


def test_a_card_never_takes_the_name_of_a_registered_model(app, add):
    add()
    folder = services(app).models.own.folder
    text = (folder / f"{NAME}.json").read_text().replace(NAME, BLOOD_CELLS.name)
    (folder / f"{BLOOD_CELLS.name}.json").write_text(text)
    known = services(app).models.registry
    assert known.get(BLOOD_CELLS.name) is BLOOD_CELLS
    assert [spec.name for spec in known.detectors()].count(BLOOD_CELLS.name) == 1


# -- the command line ------------------------------------------------------------------------


@pytest.fixture
def flask(app) -> Callable[..., object]:
    return lambda *words: app.test_cli_runner().invoke(args=["models", *words])


def test_commands_add_show_measure_remove_and_restore(app, flask, here, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(LABELS), encoding="utf-8")
    options = ["--name", NAME, "--builder", SMALL, "--classes", str(tmp_path / "classes.txt")]
    added = flask("add", str(WEIGHTS), *options, "--description", "Blut")
    assert added.exit_code == 0, added.output
    assert "3 classes" in added.output
    assert f"{NAME}\tAP not measured\t14 MB\tready" in flask("list").output.splitlines()
    shown = flask("show", NAME).output
    for part in (
        "적혈구, 백혈구, 혈소판",
        "Blut",
        "added 20",
        "a command",
        WEIGHTS.name,
        "custom/",
    ):
        assert part in shown
    assert "checksum is right" in flask("verify", NAME).output
    assert f"{NAME}\tmedian" in flask("bench", NAME, "--rounds", "1").output
    assert "already" in flask("add", str(WEIGHTS), *options).output
    assert flask("remove", NAME).output.strip() == "Removed."
    assert flask("show", NAME).exit_code == 1
    assert flask("restore", NAME).output.strip() == f"{NAME} is back."
    assert flask("restore", NAME).exit_code == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--classes", "a,b"], "trained for 3 classes, the list has 2"),
        (["--classes", "onlyone"], "trained for 3 classes, the list has 1"),
        (["--classes", "a,b,c", "--no-background"], "Only RetinaNet and FCOS"),
        (["--classes", "."], "Is a directory"),
    ],
)
def test_a_command_that_is_refused_says_why(app, flask, here, words, text):
    done = flask("add", str(WEIGHTS), "--name", NAME, "--builder", SMALL, *words)
    assert done.exit_code == 1
    assert text in done.output
    assert not incoming(app)
