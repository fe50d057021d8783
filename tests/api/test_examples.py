"""The curl lines of the documents and of Connect, and the client, work as they are written."""

import html
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from apps.config import ROOT
from apps.extensions import db
from apps.models import Detection, Image
from tests.conftest import picture_bytes
from tests.labelled import packed, table

FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PAGES = sorted((ROOT / "docs").rglob("*.md"))
CLIENT = ROOT / "docs" / "api" / "sightbox_client.py"


def lines_of(text: str) -> list[str]:
    """The commands of ``text`` that ask with curl."""
    return re.findall(r"^ *curl .+$", text.replace("\\\n", " "), re.MULTILINE)


OF_DOCS = {
    page.relative_to(ROOT).as_posix(): found
    for page in PAGES
    if (found := lines_of("".join(FENCED.findall(page.read_text()))))
}


def run(line: str, folder: Path, **variables: str) -> None:
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"no_proxy": "*"} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert json.loads(done.stdout) is not None


@pytest.fixture
def folder(tmp_path):
    """Where the lines are run: with a picture, and labelled ones to import."""
    (tmp_path / "picture.jpg").write_bytes(picture_bytes())
    files = table()
    files["boxes.csv"] = str(files["boxes.csv"]).replace("dog", "hound").replace("cat", "sky")
    (tmp_path / "set.zip").write_bytes(packed(files))
    return tmp_path


def test_curl_lines_are_found():
    assert len(OF_DOCS["docs/api.md"]) > 15
    assert len(OF_DOCS["docs/import.md"]) == 4


@pytest.mark.skipif(not shutil.which("curl"), reason="install curl")
@pytest.mark.parametrize("page", OF_DOCS)
def test_each_curl_line_of_a_document_is_answered(page, server, token_of, folder):
    for line in OF_DOCS[page]:
        run(line, folder, SERVER=server, TOKEN=token_of())


@pytest.mark.skipif(not shutil.which("curl"), reason="install curl")
def test_each_curl_line_of_connect_is_answered(ann, server, token_of, folder):
    page = html.unescape(ann.get("/connect").text.replace("http://localhost", server))
    lines = re.findall(r"<pre[^>]*>(curl .+?)</pre>", page, re.DOTALL)
    assert len(lines) == 2
    for line in lines:
        assert server in line
        run(line.replace("curl ", "curl -sf ", 1).replace("YOUR-TOKEN", token_of()), folder)


def test_the_example_client_uploads_waits_and_says_what_is_there(server, token_of, tmp_path):
    names = []
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for number in (1, 2):
            archive.writestr(f"{number}.jpg", picture_bytes((60 + number, 40)))
    files = (
        ("a dog.jpg", picture_bytes()),
        ("text.jpg", b"no picture"),
        ("z.zip", zipped.getvalue()),
    )
    for name, data in files:
        (tmp_path / name).write_bytes(data)
        names.append(name)
    done = subprocess.run(
        [sys.executable, CLIENT, server, token_of(), *names],
        cwd=tmp_path,
        env=os.environ | {"no_proxy": "*"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second, *unpacked = done.stdout.splitlines()
    assert unpacked == ["1.jpg: dog 90%, cat 30%", "2.jpg: dog 90%, cat 30%"]
    assert first == "a dog.jpg: dog 90%, cat 30%"
    assert second.startswith("text.jpg: This is not a picture")


def test_the_example_client_tells_what_was_not_looked_at_from_nothing_found(
    app, server, token_of, tmp_path, monkeypatch
):
    monkeypatch.setenv("no_proxy", "*")
    module = runpy.run_path(str(CLIENT))
    box = module["Sightbox"](server, token_of())
    (tmp_path / "x.jpg").write_bytes(picture_bytes())
    [first] = box.upload(tmp_path / "x.jpg")
    image_id = first["image"]["id"]
    for status, says in (("queued", "not looked at yet"), ("failed", "out of luck")):
        with app.app_context():
            db.session.execute(update(Image).values(status=status, error="out of luck"))
            db.session.commit()
        with pytest.raises(module["NotLookedAt"], match=says):
            box.detections(image_id, wait=0)
    assert module["_told"](box, first) == "out of luck"
    with app.app_context():
        db.session.execute(update(Image).values(status="done", error=None))
        db.session.execute(delete(Detection))
        db.session.commit()
    assert module["_told"](box, first) == "nothing"


def test_the_example_client_does_all_that_it_offers(server, token_of, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    module = runpy.run_path(str(CLIENT))
    box = module["Sightbox"](server, token_of())
    picture = tmp_path / "x.jpg"
    picture.write_bytes(picture_bytes((100, 80)))
    [found] = box.detect(picture, min_score=0.2)
    assert [one["label"] for one in found["detections"]] == ["dog", "cat"]
    [first] = box.upload(picture, key="once")
    assert box.upload(picture, key="once") == [first]
    image_id = first["image"]["id"]
    with pytest.raises(module["Refused"], match="already") as twin:
        box.upload(picture)
    assert (twin.value.code, twin.value.image) == ("duplicate", image_id)
    box.tag(image_id, "holiday")
    assert [image["id"] for image in box.images("holiday")] == [image_id]
    assert "digit" not in box.labels("lenet5.mnist")
    box.draw(image_id, "bird", [1, 2, 30, 40])
    dog, cat = (one["id"] for one in box.boxes(image_id) if one["source"] == "model")
    box.judge(image_id, dog, good=True)
    box.judge(image_id, cat, good=False)
    assert [one["label"] for one in box.boxes(image_id)] == ["bird", "dog"]
    box.delete(image_id)
    assert list(box.images()) == []
    with pytest.raises(module["Refused"], match="no such picture") as refusal:
        box.delete(image_id)
    assert (refusal.value.status, refusal.value.code) == (404, "not_found")
