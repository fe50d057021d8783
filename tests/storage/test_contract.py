"""What every storage promises: a local folder, and file://, memory:// and s3:// by fsspec."""

import io
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apps.storage import Storage
from apps.storage.fs import BLOCK, FsspecStorage
from apps.storage.local import LocalStorage


@dataclass
class Place:
    """A storage, and what is in it seen from outside."""

    storage: Storage
    keys: Callable[[], list[str]]
    again: Callable[[], Storage]  # as another process would make it


@pytest.fixture(params=["local", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](request, tmp_path)


@pytest.fixture
def storage(place: Place) -> Storage:
    return place.storage


def local_place(_request, tmp_path) -> Place:
    def make() -> LocalStorage:
        return LocalStorage(tmp_path / "blobs")

    return Place(make(), lambda: files(tmp_path / "blobs"), make)


def file_place(_request, tmp_path) -> Place:
    def make() -> FsspecStorage:
        return FsspecStorage(f"file://{tmp_path}/blobs")

    return Place(make(), lambda: files(tmp_path / "blobs"), make)


def memory_place(_request, _tmp_path) -> Place:
    import fsspec

    root = uuid.uuid4().hex

    def make() -> FsspecStorage:
        return FsspecStorage(f"memory://{root}")

    def keys() -> list[str]:
        return sorted(p.removeprefix(f"/{root}/") for p in fsspec.filesystem("memory").find(root))

    return Place(make(), keys, make)


def s3_place(request, _tmp_path) -> Place:
    s3 = request.getfixturevalue("s3")

    def keys() -> list[str]:
        return [key.removeprefix("pictures/") for key in s3.stored()]

    return Place(s3.storage(), keys, s3.storage)


PLACES = {"local": local_place, "file": file_place, "memory": memory_place, "s3": s3_place}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read(storage: Storage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read()


def test_what_is_put_can_be_read_and_measured(place):
    place.storage.put("original/a.jpg", b"picture")
    place.storage.put("empty", b"")
    assert read(place.storage, "original/a.jpg") == b"picture"
    assert place.storage.size("original/a.jpg") == 7
    assert read(place.storage, "empty") == b""
    assert place.storage.size("empty") == 0
    assert place.keys() == ["empty", "original/a.jpg"]


def test_another_process_sees_it_at_once(place):
    other = place.again()
    with pytest.raises(FileNotFoundError):
        other.size("a")
    place.storage.put("a", b"1")
    assert read(other, "a") == b"1"
    place.storage.delete("a")
    with pytest.raises(FileNotFoundError):
        other.open("a")


def test_putting_again_replaces(place):
    place.storage.put("a", b"old and longer")
    place.storage.put("a", b"new")
    assert read(place.storage, "a") == b"new"
    assert place.keys() == ["a"]


def test_a_stream_is_read_in_parts_from_anywhere(storage):
    data = bytes(range(256)) * 8
    storage.put("a", data)
    with storage.open("a") as file:
        assert file.readable()
        assert file.seekable()
        assert file.read(3) == data[:3]
        assert file.tell() == 3
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read(100) == data[-5:]
        assert file.read(1) == b""
        assert file.read() == b""
        file.seek(1000)
        assert file.read(2) == data[1000:1002]
        file.seek(10, io.SEEK_CUR)
        assert file.read() == data[1012:]
        file.seek(5000)  # behind the end
        assert file.read() == b""


def test_a_stream_larger_than_a_block_comes_whole(storage):
    data = uuid.uuid4().bytes * (BLOCK // 16 + 1)
    storage.put("a", data)
    with storage.open("a") as file:
        assert b"".join(iter(lambda: file.read(100_000), b"")) == data
        file.seek(BLOCK - 2)
        assert file.read(4) == data[BLOCK - 2 : BLOCK + 2]
    assert read(storage, "a") == data


def test_several_readers_of_one_blob_do_not_disturb_each_other(storage):
    storage.put("a", b"0123456789")
    with storage.open("a") as first, storage.open("a") as second:
        assert first.read(4) == b"0123"
        assert second.read(2) == b"01"
        assert first.read() == b"456789"
        assert second.read() == b"23456789"


def test_many_threads_share_one_storage(storage):
    def work(number: int) -> bytes:
        key = f"original/{number}"
        storage.put(key, key.encode() * 50)
        data = read(storage, key)
        storage.delete(key)
        return data

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [f"original/{n}".encode() * 50 for n in range(24)]


@pytest.mark.parametrize("action", ["open", "size"])
@pytest.mark.parametrize("key", ["original/a", "other"])
def test_what_is_missing_is_reported_as_missing(storage, action, key):
    storage.put("original/b", b"1")
    with pytest.raises(FileNotFoundError):
        getattr(storage, action)(key)


@pytest.mark.parametrize("action", ["put", "open", "size", "delete"])
@pytest.mark.parametrize(
    "key",
    ["../a", "original/../../a", "/etc/passwd", "../blobs-other/a", "a/../../blobs2/a", "a/../.."],
)
def test_a_key_that_leaves_the_folder_is_refused(place, action, key):
    arguments = (key, b"x") if action == "put" else (key,)
    with pytest.raises(ValueError, match="leaves the storage folder"):
        getattr(place.storage, action)(*arguments)
    assert place.keys() == []


def test_deleting_what_is_missing_is_no_error(place, caplog):
    place.storage.put("a", b"1")
    place.storage.put("b", b"2")
    place.storage.delete("missing", "a", "no/such/folder", "a")
    assert place.keys() == ["b"]
    place.storage.delete()
    assert caplog.records == []


def test_more_keys_than_one_batch_are_deleted(place):
    keys = [f"thumbnail/{n}" for n in range(70)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: place.storage.put(key, b"x"), keys))
    place.storage.delete(*keys)
    assert place.keys() == []


def test_check_leaves_nothing_behind(place):
    place.storage.check()
    place.storage.check()
    assert place.keys() == []


@pytest.mark.parametrize("size", [0, 1000, 40_000_000])
def test_a_file_is_stored_from_a_stream_whole(place, size):
    data = bytes(range(250)) * (size // 250)
    place.storage.put_file("video/a.mp4", io.BytesIO(data))
    assert place.storage.size("video/a.mp4") == size
    with place.storage.open("video/a.mp4") as file:
        assert file.read() == data


def test_a_stream_that_breaks_leaves_nothing(place):
    class Broken(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() > 20 * 2**20:
                raise OSError("the connection broke")
            return super().read(size)

    with pytest.raises(OSError, match="broke"):
        place.storage.put_file("video/a.mp4", Broken(b"x" * 40 * 2**20))
    assert place.keys() == []


@pytest.mark.parametrize("place", ["local", "file"], indirect=True)
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(storage, monkeypatch):
    storage.put("original/a.jpg", b"123")

    def refuse(path: object) -> None:
        raise PermissionError(f"not for you: {path}")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(OSError, match="not for you"):
        list(storage.files("original"))


def test_files_are_listed_with_size_and_age_below_their_folder(storage):
    assert list(storage.files("original")) == []
    before = datetime.now(UTC) - timedelta(seconds=5)
    storage.put("original/a.jpg", b"123")
    storage.put("original/b.jpg", b"")
    storage.put("originals/c.jpg", b"x")
    found = sorted(storage.files("original"), key=lambda file: file.key)
    assert [(file.key, file.bytes) for file in found] == [
        ("original/a.jpg", 3),
        ("original/b.jpg", 0),
    ]
    assert all(before < file.modified < datetime.now(UTC) + timedelta(seconds=5) for file in found)
