"""Files below one folder, beyond what test_contract.py asks of every storage."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from apps.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "blobs")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_put_leaves_the_old_state_and_no_half_file(
    storage, tmp_path, monkeypatch, step, error
):
    storage.put("original/a", b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
        monkeypatch.setattr(Path, "replace", fail)
    for key in ("original/a", "original/b"):
        with pytest.raises(type(error)):
            storage.put(key, b"new")
    assert files(tmp_path) == ["blobs/original/a"]
    with storage.open("original/a") as file:
        assert file.read() == b"old"


def test_every_folder_is_synced_after_it_has_the_new_name(storage, tmp_path, monkeypatch):
    blobs = tmp_path / "blobs"
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        for folder in (tmp_path, blobs, blobs / "original"):
            if folder.is_dir() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                synced.append([path.name for path in folder.iterdir()])
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.put("original/a", b"x")
    assert synced == [["blobs"], ["original"], ["a"]]


def test_a_disk_that_syncs_no_folders_is_no_error(storage, monkeypatch):
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "fsync", fsync)
    storage.put("original/a", b"x")
    assert storage.size("original/a") == 1


def test_a_reader_sees_the_old_bytes_while_new_ones_come(storage):
    storage.put("a", b"old")
    with storage.open("a") as file:
        storage.put("a", b"new")
        assert file.read() == b"old"


@pytest.mark.parametrize("action", ["put", "open", "size", "delete"])
@pytest.mark.parametrize(
    "key", ["../a", "original/../../a", "/etc/passwd", "../blobs-other/a", "a/../../blobs2/a"]
)
def test_a_key_that_leaves_the_folder_is_refused(storage, tmp_path, action, key):
    (tmp_path / "a").write_bytes(b"not yours")
    arguments = (key, b"x") if action == "put" else (key,)
    with pytest.raises(ValueError, match="leaves the storage folder"):
        getattr(storage, action)(*arguments)
    assert files(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"not yours"


@pytest.mark.parametrize("name", ["..", ".", "", "..\\..\\a", "../../a", "../b/../../a"])
def test_a_folder_that_is_known_lets_no_name_out_of_it(storage, tmp_path, name):
    storage.put("original/a", b"1")
    with suppress(ValueError, OSError):
        storage.put(f"original/{name}", b"x")
    storage.put("original/b", b"2")
    outside = [file for file in files(tmp_path) if not file.startswith("blobs/")]
    assert outside == []
    assert {"blobs/original/a", "blobs/original/b"} <= set(files(tmp_path))


def test_a_folder_that_somebody_removed_is_made_again(storage, tmp_path):
    storage.put("original/a", b"1")
    (tmp_path / "blobs" / "original" / "a").unlink()
    (tmp_path / "blobs" / "original").rmdir()
    storage.put("original/b", b"2")
    assert files(tmp_path) == ["blobs/original/b"]


def test_files_are_for_nobody_else(storage, tmp_path):
    storage.put("original/a", b"1")
    assert (tmp_path / "blobs/original/a").stat().st_mode & 0o777 == 0o600


def test_a_link_out_of_the_folder_is_not_followed(storage, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    storage.check()
    (tmp_path / "blobs" / "original").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leaves the storage folder"):
        storage.put("original/a", b"x")
    assert files(tmp_path) == []


def test_deleting_what_is_missing_is_no_error(storage, tmp_path):
    storage.put("a", b"1")
    storage.put("b", b"2")
    storage.delete("missing", "a", "no/such/folder", "a")
    assert files(tmp_path) == ["blobs/b"]
    storage.delete()


def test_check_makes_the_folder_and_leaves_nothing_in_it(storage, tmp_path):
    storage.check()
    storage.check()
    assert (tmp_path / "blobs").is_dir()
    assert files(tmp_path) == []


def test_check_says_when_nothing_can_be_written(tmp_path):
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="blobs"):
        LocalStorage(tmp_path / "blobs").check()


def test_a_folder_that_is_itself_a_link_works(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "blobs").symlink_to(tmp_path / "disk")
    storage = LocalStorage(tmp_path / "blobs")
    storage.put("original/a", b"x")
    assert (tmp_path / "disk" / "original" / "a").read_bytes() == b"x"
