"""``flask storage``: moving the pictures of an installation to another storage."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image, Video
from apps.services import blob_copy
from apps.services.blob_copy import BlobCopy, Fate
from apps.storage.local import LocalStorage
from tests.clips import clip_bytes
from tests.storage.conftest import free_port


@pytest.fixture
def pictures(app, ann, upload) -> list[Image]:
    """Three pictures in the local folder."""
    ids = [upload(ann) for _ in range(3)]
    with app.app_context():
        return [db.session.get_one(Image, image_id) for image_id in ids]


@pytest.fixture
def blobs(app) -> str:
    """The local folder."""
    return app.config["STORAGE_ROOT"]


@pytest.fixture
def moved(make_app, app, s3):
    """The same installation with the settings for S3."""
    return make_app(INSTANCE_PATH=app.instance_path, **s3.settings)


def run(app, *arguments: str):
    return app.test_cli_runner().invoke(args=["storage", *arguments])


def keys_of(pictures) -> list[str]:
    return sorted(f"pictures/{key}" for image in pictures for key in image.storage_keys)


def test_check_writes_and_leaves_nothing(moved, s3):
    done = run(moved, "check")
    assert (done.exit_code, done.stdout) == (0, "The storage (fsspec) can be written.\n")
    assert s3.stored() == []


def test_check_says_why_nothing_can_be_written(make_app, s3):
    options = s3.options | {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    done = run(make_app(**s3.settings | {"STORAGE_OPTIONS": options}), "check")
    assert done.exit_code == 1
    assert "Could not connect" in done.stderr
    assert "Traceback" not in done.output


def test_every_file_of_every_picture_is_copied(app, moved, s3, pictures, blobs, ann):
    done = run(moved, "copy", "--from", blobs)
    assert done.exit_code == 0, done.output
    assert "9 copied, 0 there already, 0 missing, 0 damaged, 0 failed" in done.stdout
    assert "Every file of every picture is there." in done.stdout
    assert "3 of 3 pictures" in done.stderr
    assert s3.stored() == keys_of(pictures)
    for image in pictures:
        for key in image.storage_keys:
            with services(moved).storage.open(key) as copied:
                assert copied.read() == Path(blobs, key).read_bytes()


def test_running_it_again_sends_nothing_that_arrived(moved, s3, pictures, blobs, monkeypatch):
    run(moved, "copy", "--from", blobs)
    cut = f"pictures/{pictures[1].original_key}"
    s3.client().put_object(Bucket=s3.bucket, Key=cut, Body=b"half")
    sent = []
    put = type(services(moved).storage).put_file

    def counting(self, key, file):
        sent.append(key)
        put(self, key, file)

    monkeypatch.setattr(type(services(moved).storage), "put_file", counting)
    done = run(moved, "copy", "--from", blobs)
    assert "1 copied, 8 there already" in done.stdout
    assert [key for key in sent if key != ".check"] == [pictures[1].original_key]


def test_what_is_missing_or_damaged_is_listed_and_the_rest_copied(moved, s3, pictures, blobs):
    Path(blobs, pictures[0].thumbnail_key).unlink()
    Path(blobs, pictures[1].original_key).unlink()
    Path(blobs, pictures[2].original_key).write_bytes(b"x" * pictures[2].bytes)
    done = run(moved, "copy", "--from", blobs)
    assert done.exit_code == 1
    assert f"missing\tpicture {pictures[0].id}\t{pictures[0].thumbnail_key}" in done.stdout
    assert f"missing\tpicture {pictures[1].id}\t{pictures[1].original_key}" in done.stdout
    assert f"damaged\tpicture {pictures[2].id}\t{pictures[2].original_key}" in done.stdout
    assert "6 copied, 0 there already, 2 missing, 1 damaged, 0 failed" in done.stdout
    assert "did not arrive" in done.stderr
    assert len(s3.stored()) == 6


def test_a_file_that_is_there_need_not_be_in_the_source(moved, pictures, blobs, tmp_path):
    run(moved, "copy", "--from", blobs)
    (tmp_path / "empty").mkdir()
    done = run(moved, "copy", "--from", str(tmp_path / "empty"))
    assert (done.exit_code, "9 there already" in done.stdout) == (0, True)


def test_it_goes_back_too(app, moved, s3, pictures, blobs):
    run(moved, "copy", "--from", blobs)
    kept = {key: Path(blobs, key).read_bytes() for image in pictures for key in image.storage_keys}
    for key in kept:
        Path(blobs, key).unlink()
    done = run(app, "copy", "--from", s3.url, "--from-options", json.dumps(s3.options))
    assert done.exit_code == 0, done.output
    assert {key: Path(blobs, key).read_bytes() for key in kept} == kept


def test_a_target_that_is_away_is_said_before_anything_is_read(make_app, app, s3, pictures, blobs):
    options = s3.options | {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    settings = s3.settings | {"STORAGE_OPTIONS": options}
    dead = make_app(INSTANCE_PATH=app.instance_path, **settings)
    done = run(dead, "copy", "--from", blobs)
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
    assert "pictures\n" not in done.output


@pytest.mark.parametrize("batch", [1, 16])
def test_a_source_that_goes_away_ends_the_copy(app, s3, pictures, monkeypatch, batch):
    monkeypatch.setattr(blob_copy, "BATCH", batch)
    options = s3.options | {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    for image in pictures:
        services(app).storage.delete(*image.storage_keys)
    done = run(app, "copy", "--from", s3.url, "--from-options", json.dumps(options))
    assert done.exit_code == 1
    assert "Run the same command again" in done.stderr
    assert f"{min(batch, 3)} of 3 pictures" in done.stderr
    assert s3.options["secret"] not in done.output


def test_one_file_that_cannot_be_read_does_not_end_it(app, moved, pictures, blobs, monkeypatch):
    local = type(services(app).storage)
    real = local.open

    def failing(self, key):
        if key == pictures[0].original_key:
            raise OSError("bad sector")
        return real(self, key)

    monkeypatch.setattr(local, "open", failing)
    done = run(moved, "copy", "--from", blobs)
    assert done.exit_code == 1
    assert f"failed\tpicture {pictures[0].id}\t{pictures[0].original_key}" in done.stdout
    assert "6 copied" in done.stdout
    assert "run the same command again" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "--from"),
        (("--from", "/no/such/folder"), "--from is neither a folder nor an address"),
        (("--from", "nosuch://x"), "--from begins with nosuch://"),
        (("--from", "s3://"), "--from names a bucket"),
        (("--from", "s3://b", "--from-options", "{"), "is not JSON"),
        (("--from", "s3://b", "--from-options", "[]"), "not a JSON mapping"),
    ],
)
def test_a_mistake_says_why_and_fails(app, arguments, text):
    done = run(app, "copy", *arguments)
    assert done.exit_code != 0
    assert text in done.stderr
    assert "Traceback" not in done.output


def test_no_pictures_are_no_error(app, tmp_path):
    done = run(app, "copy", "--from", str(tmp_path))
    assert (done.exit_code, "0 copied" in done.stdout) == (0, True)


def test_clips_are_copied_too(app, ann, tmp_path):
    sent = {"every": 5, "clip": (io.BytesIO(clip_bytes()), "walk.mp4")}
    assert ann.post("/video/upload", data=sent).status_code == 303
    with app.app_context():
        target = LocalStorage(tmp_path / "elsewhere")
        session: Any = db.session
        report = BlobCopy(session, services(app).storage, target).run(lambda _report: None)
        [video] = session.scalars(select(Video))
        assert report.complete
        assert report.counts[Fate.COPIED] == 2
        assert target.size(video.file_key) == video.bytes
