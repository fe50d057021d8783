"""Blobs as files below one folder."""

import io
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from apps.disk import make_folder, sync_folder
from apps.storage import TEMPORARY, StoredFile

logger = logging.getLogger(__name__)

BLOCK = 2**20  # bytes copied at a time
_PLAIN = re.compile(r"\w[\w.-]*")  # a name that means a file of its folder on every system


class LocalStorage:
    """Files below ``root``; a crash while writing leaves the old state."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._folders: dict[str, Path] = {}  # by the part of a key before its last "/"

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, io.BytesIO(data))

    def put_file(self, key: str, file: BinaryIO) -> None:
        folder, name = self._folder_and_name(key)
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
        target = _new_file(temporary)
        try:
            with target:
                shutil.copyfileobj(file, target, BLOCK)
                target.flush()
                os.fsync(target.fileno())
            os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(folder)

    def open(self, key: str) -> BinaryIO:
        return self._path(key).open("rb")

    def size(self, key: str) -> int:
        return self._path(key).stat().st_size

    def delete(self, *keys: str) -> None:
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError:  # the others must go all the same
                logger.exception("not deleted key=%s", key)

    def files(self, folder: str) -> Iterator[StoredFile]:
        for place, _folders, names in os.walk(self._path(folder), onerror=_refuse):
            for name in names:
                path = Path(place, name)
                try:
                    found = path.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                key = path.relative_to(self.root.resolve()).as_posix()
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield StoredFile(key, found.st_size, modified)

    def check(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def link(self, key: str, media_type: str, filename: str | None = None) -> str | None:
        return None

    def origin(self) -> str | None:
        return None

    def _folder_and_name(self, key: str) -> tuple[Path, str]:
        """Where a file goes. A folder is looked at once: beside busy threads each call to the
        system costs a wait for Python's global lock, and resolving one takes a dozen.
        """
        part, _, name = key.rpartition("/")
        if not _PLAIN.fullmatch(name):
            path = self._path(key)
            return path.parent, path.name
        folder = self._folders.get(part)
        if folder is None:
            folder = self._folders[part] = self._path(part)
        return folder, name

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"key {key!r} leaves the storage folder")
        return path


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is not an empty one; one that is not there is."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _new_file(path: str) -> BinaryIO:
    """A file that was not there, for nobody else; its folder is made where it is missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_folder(Path(path).parent)
        descriptor = os.open(path, flags, 0o600)
    return os.fdopen(descriptor, "wb")
