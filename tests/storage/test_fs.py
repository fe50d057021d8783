"""fsspec storages beyond the contract: settings, failures, forks and addresses."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from apps.app import create_app
from apps.config import ROOT
from apps.errors import ConfigError
from apps.storage import fs
from apps.storage.fs import DELETE_BATCH, FsspecStorage
from tests.storage.conftest import free_port

ACTIONS = {"put": ("a", b"1"), "open": ("a",), "size": ("a",), "check": ()}
SECRET = "dont-tell-anybody"


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "SIGHTBOX_STORAGE_URL is not an address"),
        ({"STORAGE_URL": f"/srv/{SECRET}"}, "not an address"),
        ({"STORAGE_URL": f"://{SECRET}"}, "not an address"),
        ({"STORAGE_URL": f"simplecache::s3://{SECRET}"}, "not an address"),
        ({"STORAGE_URL": f"s3://{SECRET}::file://x"}, "not an address"),
        ({"STORAGE_URL": f"nosuch://{SECRET}"}, "nosuch://, which fsspec does not know"),
        ({"STORAGE_URL": "s3://"}, "names a bucket"),
        ({"STORAGE_URL": f"s3://key:{SECRET}@bucket/prefix"}, "STORAGE_OPTIONS or AWS_"),
        ({"STORAGE_URL": f"s3://bucket?key={SECRET}"}, "names a bucket"),
        ({"STORAGE_URL": f"file://{SECRET}"}, "whole path"),
        ({"STORAGE_URL": "s3://b", "STORAGE_OPTIONS": SECRET}, "is not a JSON mapping"),
        ({"STORAGE_URL": "s3://b", "STORAGE_OPTIONS": [SECRET]}, "is not a JSON mapping"),
        ({"STORAGE_URL": "s3://b", "STORAGE_PRESIGN": -1}, "STORAGE_PRESIGN is -1"),
        ({"STORAGE_URL": "s3://b", "STORAGE_PRESIGN": 1.5}, "whole seconds"),
        ({"STORAGE_URL": "s3://b", "STORAGE_PRESIGN": 604801}, "604800"),
        ({"STORAGE_URL": "memory://b", "STORAGE_PRESIGN": 60}, "needs an s3:// address"),
        ({"STORAGE": "local", "STORAGE_URL": "s3://b"}, "set it to fsspec"),
        ({"STORAGE": "local", "STORAGE_PRESIGN": 60}, "set it to fsspec"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(tmp_path, settings, text):
    with pytest.raises(ConfigError) as caught:
        create_app("testing", INSTANCE_PATH=str(tmp_path), **({"STORAGE": "fsspec"} | settings))
    assert "SIGHTBOX_STORAGE" in str(caught.value)
    assert text in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_missing_driver_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"gs://.*pip install gcsfs"):
        FsspecStorage("gs://bucket")


def test_the_settings_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTBOX_STORAGE", "fsspec")
    monkeypatch.setenv("SIGHTBOX_STORAGE_URL", f"file://{tmp_path}/blobs")
    monkeypatch.setenv("SIGHTBOX_STORAGE_OPTIONS", '{"auto_mkdir": true}')
    app = create_app("local", INSTANCE_PATH=str(tmp_path / "instance"))
    app.extensions["sightbox"].storage.put("original/a", b"1")
    assert (tmp_path / "blobs" / "original" / "a").read_bytes() == b"1"


# -- a folder ------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_put_leaves_the_old_state_and_no_half_file(tmp_path, monkeypatch, step, error):
    storage = FsspecStorage(f"file://{tmp_path}")
    storage.put("original/a", b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    for key in ("original/a", "original/b"):
        with pytest.raises(type(error)):
            storage.put(key, b"new")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]
    with storage.open("original/a") as file:
        assert file.read() == b"old"


def test_deleting_goes_on_after_an_error(tmp_path, caplog):
    storage = FsspecStorage(f"file://{tmp_path}")
    storage.put("a", b"1")
    storage.put("folder/b", b"2")
    storage.put("c", b"3")
    storage.delete("a", "folder", "c")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]
    assert "not deleted key=folder" in caplog.text


def test_check_says_when_nothing_can_be_written(tmp_path):
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="blobs"):
        FsspecStorage(f"file://{tmp_path}/blobs").check()


def test_a_blob_that_became_shorter_while_it_is_read_is_an_error(tmp_path):
    storage = FsspecStorage(f"file://{tmp_path}")
    storage.put("a", b"12345")
    with storage.open("a") as file:
        (tmp_path / "a").write_bytes(b"123")
        with pytest.raises(OSError, match="shorter"):
            file.read()


# -- a server that fails -------------------------------------------------------------------


def refuses(storage: FsspecStorage) -> None:
    """Every action raises an OSError that is not "missing", and deleting logs."""
    for action, arguments in ACTIONS.items():
        with pytest.raises(OSError, match=r"\S") as caught:
            getattr(storage, action)(*arguments)
        if action in ("open", "size"):
            assert not isinstance(caught.value, FileNotFoundError)


def test_a_server_that_is_not_there(s3, caplog):
    storage = s3.storage(endpoint_url=f"http://127.0.0.1:{free_port()}", secret=SECRET)
    refuses(storage)
    storage.delete("a", "b")
    assert "not deleted key=a" in caplog.text
    assert "not deleted key=b" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in repr(storage)


def test_many_keys_and_a_dead_server_are_given_up_together(s3, caplog):
    storage = s3.storage(endpoint_url=f"http://127.0.0.1:{free_port()}")
    storage.delete(*(f"thumbnail/{n}" for n in range(DELETE_BATCH + 2)))
    assert caplog.text.count("not deleted key=") == DELETE_BATCH
    assert "the storage is away: ('thumbnail/64', 'thumbnail/65')" in caplog.text


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_an_error_and_no_hang(s3, silent_server, monkeypatch):
    monkeypatch.setattr(fs, "WAIT", 1)
    refuses(s3.storage(endpoint_url=silent_server))


def test_an_administrator_may_choose_other_time_limits(s3, silent_server):
    impatient = {"read_timeout": 0.1, "retries": {"total_max_attempts": 1}}
    storage = s3.storage(endpoint_url=silent_server, config_kwargs=impatient)
    with pytest.raises(OSError, match="Read timeout"):
        storage.size("a")


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_wrong_credentials(s3, wrong, caplog):
    with s3.strict() as right:
        storage = s3.storage(**right)
        storage.put("a", b"1")
        with storage.open("a") as file:
            assert file.read() == b"1"
        other = s3.storage(**(right | {wrong: "wrong"}))
        refuses(other)
        other.delete("a")
        assert "not deleted key=a" in caplog.text
        assert storage.size("a") == 1


def test_no_credentials_at_all(s3):
    storage = FsspecStorage(s3.url, {"endpoint_url": s3.endpoint}, presign=60)
    refuses(storage)
    with pytest.raises(OSError, match="credentials"):
        storage.link("a", "image/webp")
    assert storage.origin() is None


def test_a_bucket_that_is_not_there_is_not_taken_for_missing_files(s3, caplog):
    storage = FsspecStorage("s3://no-such-bucket/pictures", s3.options)
    refuses(storage)
    with pytest.raises(OSError, match="no-such-bucket"):
        list(storage.files("original"))
    storage.delete("a")
    assert "not deleted key=a" in caplog.text
    assert "no-such-bucket" in caplog.text
    names = {bucket["Name"] for bucket in s3.client().list_buckets()["Buckets"]}
    assert "no-such-bucket" not in names  # and nobody made it


def test_an_option_that_the_driver_does_not_know(s3):
    with pytest.raises(OSError, match="endpoint_urk"):
        s3.storage(endpoint_urk="x").check()


# -- processes -----------------------------------------------------------------------------

FORK = """
import os, sys, threading
from apps.storage.fs import FsspecStorage
import fsspec.asyn

endpoint, url = sys.argv[1:]
options = {"endpoint_url": endpoint, "key": "k", "secret": "s"}
storage = FsspecStorage(url, options)
assert threading.enumerate() == [threading.main_thread()], "a thread before the first use"
assert fsspec.asyn.loop[0] is None, "an event loop before the first use"

def use(key):
    storage.put(key, key.encode())
    with storage.open(key) as file:
        assert file.read() == key.encode()

def child(key, then=lambda: None):
    number = os.fork()
    if not number:
        status = 1
        try:
            use(key)
            then()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0

child("before")
use("parent")
child("after", then=lambda: child("grandchild"))
use("again")
"""


def test_every_process_connects_for_itself(s3):
    done = subprocess.run(
        [sys.executable, "-c", FORK, s3.endpoint, s3.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    keys = ("after", "again", "before", "grandchild", "parent")
    assert s3.stored() == [f"pictures/{key}" for key in keys]
    assert done.stderr == ""


def test_listings_are_not_remembered(s3):
    connected, root = s3.storage()._connect()
    assert connected.ls(root.partition("/")[0]) == []
    s3.storage().put("a", b"1")
    assert connected.ls(root) == [f"{root}/a"] or connected.ls(root)[0]["name"] == f"{root}/a"


# -- addresses -----------------------------------------------------------------------------


def test_storages_without_addresses_give_none(tmp_path, s3):
    for storage in (FsspecStorage(f"file://{tmp_path}"), s3.storage()):
        assert storage.link("a", "image/webp") is None
        assert storage.origin() is None


def test_an_address_gives_the_bytes_as_what_they_are(s3):
    storage = FsspecStorage(s3.url, s3.options, presign=60)
    storage.put("original/a", b"bytes")
    address = storage.link("original/a", "image/jpeg", filename='고양이 "1";\r\n.jpg')
    assert address
    assert storage.origin() == s3.endpoint
    assert address.startswith(f"{s3.endpoint}/")
    assert "X-Amz-Expires=60" in address
    assert s3.options["secret"] not in address
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"bytes"
        assert answer.headers["Content-Type"] == "image/jpeg"
        disposition = answer.headers["Content-Disposition"]
        assert disposition.startswith("attachment; filename*=UTF-8''%EA%B3%A0")
        assert not set(disposition) & set('"\r\n고')
    shown = storage.link("original/a", "image/webp")
    assert shown
    with urllib.request.urlopen(shown) as answer:
        assert answer.headers["Content-Disposition"] is None


def test_an_address_outside_the_folder_is_refused(s3):
    with pytest.raises(ValueError, match="leaves the storage folder"):
        FsspecStorage(s3.url, s3.options, presign=60).link("../a", "image/webp")


def test_memory_is_an_fsspec_storage_too():
    storage = FsspecStorage("memory://somewhere")
    storage.put("a", b"1")
    assert fsspec.filesystem("memory").cat("/somewhere/a") == b"1"
    assert Path("/somewhere").exists() is False
