"""Blobs in any filesystem that fsspec knows: an S3 bucket, a folder, memory."""

import errno
import io
import logging
import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast
from urllib.parse import quote, urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from apps.disk import make_folder, sync_folder
from apps.storage import TEMPORARY, StoredFile
from apps.storage.settings import S3, checked_options, checked_presign, checked_scheme

logger = logging.getLogger(__name__)

BLOCK = 4 * 2**20  # bytes asked for at once, and held in memory, while a blob is streamed
PART = 16 * 2**20  # bytes of one part of a blob that is sent in parts: 10,000 make 160 GB
PROBE = ".check"  # written and deleted again by check()
AT_ONCE = 32  # connections to a server, and keys deleted at the same time
LISTING = 600  # seconds for the names of one folder
DELETE_BATCH = 64  # keys; when all of a batch fail, the server is away and the rest is left

# A dead server is an error after WAIT, not a hang: a PUT that waits for "100 Continue" has no other
# limit. Data may take its time on top of it.
WAIT = 20  # seconds
SLOWEST = 2**19  # bytes a second
# Two tries, botocore's own; s3fs adds none. Signature version 4 is what every server accepts;
# botocore signs addresses with version 2 by itself.
S3_CONFIG = {
    "connect_timeout": 4,
    "read_timeout": 9,
    "retries": {"mode": "standard", "total_max_attempts": 2},
    "max_pool_connections": AT_ONCE,
    "signature_version": "s3v4",
}


class FsspecStorage:
    """Blobs below ``url``, for example ``s3://bucket/prefix``.

    One object serves every thread. Nothing is connected before the first use, and each process
    connects for itself, so a server may fork after it was made.

    Args:
        url: where; the scheme chooses the filesystem.
        options: for the filesystem (endpoint_url, key, secret …); never logged.
        presign: seconds for which ``link`` is good; 0 for no links. S3 alone has them.
        setting: what the administrator calls ``url``, for error texts.

    Raises:
        ConfigError: malformed, unknown, or a driver is missing; the text says what to do.
    """

    def __init__(
        self,
        url: str | None,
        options: Mapping[str, Any] | None = None,
        presign: int = 0,
        setting: str = "SIGHTBOX_STORAGE_URL",
    ) -> None:
        self._scheme = checked_scheme(url, setting)
        self._url = str(url)
        self._options = checked_options({} if options is None else options)
        self._presign = checked_presign(presign, self._scheme)
        self._connection: tuple[int, Any, str] | None = None
        self._inherited: list[Any] = []
        self._origin: str | None = None

    # -- blobs -----------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        with _as_os_error():
            fs, path = self._at(key)
            if isinstance(fs, AsyncFileSystem | MemoryFileSystem):
                fs.pipe_file(path, data, **_in_time(fs, len(data)))  # shown when it is complete
            else:
                _replace(fs, path, io.BytesIO(data))

    def put_file(self, key: str, file: BinaryIO) -> None:
        with _as_os_error():
            fs, path = self._at(key)
            if isinstance(fs, MemoryFileSystem):
                fs.pipe_file(path, b"".join(iter(lambda: file.read(BLOCK), b"")))
            elif isinstance(fs, AsyncFileSystem):
                _send(fs, path, file)
            else:
                _replace(fs, path, file)

    def open(self, key: str) -> BinaryIO:
        size = self.size(key)

        def read(start: int, end: int) -> bytes:
            with _as_os_error():
                fs, path = self._at(key)
                limit = _in_time(fs, end - start)
                return cast("bytes", fs.cat_file(path, start=start, end=end, **limit))

        return cast("BinaryIO", io.BufferedReader(_Blob(read, size), BLOCK))

    def size(self, key: str) -> int:
        with _as_os_error():
            fs, path = self._at(key)
            try:
                found = fs.info(path, **_in_time(fs))
            except FileNotFoundError:
                self._missing(fs, path)
            if found["type"] != "file":
                self._missing(fs, path)
            return int(found["size"])

    def delete(self, *keys: str) -> None:
        for key in keys:
            _refuse_outside(key)
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            if not any(self._delete(batch)) and len(keys) > start + DELETE_BATCH:
                logger.error("not deleted, the storage is away: %s", keys[start + DELETE_BATCH :])
                return

    def _delete(self, keys: tuple[str, ...]) -> list[bool]:
        """Which of ``keys`` are gone now; why others are not is logged."""

        def one(key: str) -> bool:
            try:
                with _as_os_error():
                    fs, path = self._at(key)
                    try:
                        fs.rm_file(path, **_in_time(fs))
                    except FileNotFoundError:
                        self._missing(fs, path)
            except FileNotFoundError:
                return True
            except OSError as error:  # the others must go all the same
                logger.error("not deleted key=%s: %s", key, error)
                return False
            return True

        with ThreadPoolExecutor(min(AT_ONCE, len(keys))) as pool:
            return list(pool.map(one, keys))

    def files(self, folder: str) -> Iterator[StoredFile]:
        with _as_os_error():
            fs, path = self._at(folder)
            options: dict[str, Any] = {"on_error": _refuse}
            if isinstance(fs, AsyncFileSystem):
                options = {"timeout": LISTING}
            try:
                found = fs.find(path, detail=True, **options)
            except FileNotFoundError:
                with suppress(FileNotFoundError):
                    self._missing(fs, path)
                return
        for place, info in found.items():
            key = f"{folder}/{place.rpartition(f'{path}/')[2]}"
            yield StoredFile(key, int(info["size"]), _modified(info))

    def check(self) -> None:
        self.put(PROBE, b"")
        with _as_os_error():
            fs, path = self._at(PROBE)
            with suppress(FileNotFoundError):  # somebody else checks at the same moment
                fs.rm_file(path, **_in_time(fs))

    # -- addresses -------------------------------------------------------------------------

    def link(self, key: str, media_type: str, filename: str | None = None) -> str | None:
        if not self._presign:
            return None
        answer = {
            "ResponseContentType": media_type,
            "ResponseCacheControl": f"private, max-age={self._presign}",
        }
        if filename is not None:  # RFC 6266; every character outside ASCII letters is encoded
            name = quote(filename, safe="")
            answer["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{name}"
        with _as_os_error():
            fs, path = self._at(key)
            return cast("str", fs.sign(path, expiration=self._presign, **answer, **_in_time(fs)))

    def origin(self) -> str | None:
        if self._presign and self._origin is None:
            try:
                parts = urlsplit(self.link(PROBE, "image/webp") or "")
            except OSError as error:  # no credentials, say; pages must come all the same
                logger.warning("no address of the storage: %s", error)
                return None
            self._origin = f"{parts.scheme}://{parts.netloc}"
        return self._origin

    # -- connection ------------------------------------------------------------------------

    def _at(self, key: str) -> tuple[Any, str]:
        """The filesystem of this process, and where ``key`` is in it."""
        _refuse_outside(key)
        fs, root = self._connect()
        return fs, f"{root.rstrip('/')}/{key}"

    def _connect(self) -> tuple[Any, str]:
        # No lock: one that another thread holds while the process forks would stay locked. Of two
        # filesystems that two threads make at once, the one that is replaced closes by itself.
        if self._connection is None or self._connection[0] != os.getpid():
            # What a parent process connected is kept: its end would close what the parent uses.
            self._inherited.append(self._connection)
            fs, root = fsspec.core.url_to_fs(self._url, **self._all_options())
            if self._scheme in S3:
                fs.retries = 1  # botocore tries again; both together would multiply the wait
            self._connection = (os.getpid(), fs, root)
        return self._connection[1:]

    def _all_options(self) -> dict[str, Any]:
        options = {**self._options, "skip_instance_cache": True}
        if issubclass(fsspec.get_filesystem_class(self._scheme), AsyncFileSystem):
            options["use_listings_cache"] = False  # another machine writes here too
        if self._scheme in S3:
            options["config_kwargs"] = S3_CONFIG | dict(options.get("config_kwargs", {}))
        return options

    def _missing(self, fs: Any, path: str) -> NoReturn:
        """Raise FileNotFoundError; another OSError when not even the bucket is there."""
        bucket = path.partition("/")[0]
        if isinstance(fs, AsyncFileSystem):
            try:
                fs.info(bucket, **_in_time(fs))
            except FileNotFoundError as error:
                raise OSError(errno.EIO, f"there is no bucket {bucket!r}") from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


class _Blob(io.RawIOBase):
    """A blob as a stream that asks for the part that is read.

    Args:
        read: the bytes from a start to an end (exclusive).
        size: of the whole blob, in bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the start")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._take(self._size)

    def _take(self, length: int) -> bytes:
        end = min(self._place + length, self._size)
        if end <= self._place:
            return b""
        data = self._read(self._place, end)
        if len(data) != end - self._place:
            raise OSError(errno.EIO, "the stored file is shorter than the storage says")
        self._place = end
        return data


def _in_time(fs: Any, size: int = 0) -> dict[str, float]:
    """The argument that ends a call to a server, one that moves ``size`` bytes, with an error."""
    return {"timeout": WAIT + size / SLOWEST} if isinstance(fs, AsyncFileSystem) else {}


def _modified(info: Mapping[str, Any]) -> datetime:
    """Drivers disagree; a file whose age is not told counts as new."""
    told = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(told, int | float):
        return datetime.fromtimestamp(told, UTC)
    if isinstance(told, datetime):
        return told if told.tzinfo else told.replace(tzinfo=UTC)
    return datetime.now(UTC)


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is not an empty one; one that is not there is."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _send(fs: Any, path: str, source: BinaryIO) -> None:
    """In parts, to a server that shows the whole when the last one is there."""
    target = fs.open(path, "wb", block_size=PART, autocommit=False)
    try:
        shutil.copyfileobj(source, target, BLOCK)
        target.close()
        target.commit()
    except BaseException:
        target.closed = True  # else its end would send what is there as the whole
        with suppress(Exception):  # the first error says more
            target.discard()
        raise


def _replace(fs: Any, path: str, source: BinaryIO) -> None:
    """Write beside ``path`` and move there, for filesystems that show half a file."""
    folder = posixpath.dirname(path)
    local = isinstance(fs, LocalFileSystem)
    if local:
        make_folder(Path(folder))
    else:
        fs.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with fs.open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, BLOCK)
            if local:
                file.flush()
                os.fsync(file.fileno())
        if local:
            Path(temporary).replace(path)  # mv would copy where it cannot rename
            sync_folder(folder)
        else:
            fs.mv(temporary, path)
    except BaseException:
        with suppress(Exception):  # the first error says more
            fs.rm_file(temporary)
        raise


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Drivers raise what their client library does (botocore's errors are no OSError)."""
    try:
        yield
    except FSTimeoutError as error:  # has no text
        raise TimeoutError(errno.ETIMEDOUT, "no answer in time") from error
    except (OSError, _Outside):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


class _Outside(ValueError):
    """A key that is not below the root."""


def _refuse_outside(key: str) -> None:
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise _Outside(f"key {key!r} leaves the storage folder")
