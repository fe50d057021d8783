"""Blobs as files below one folder."""

import io
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

BLOCK = 2**20  # bytes copied at a time


class LocalStorage:
    """Files below ``root``; a crash while writing leaves the old state."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, io.BytesIO(data))

    def put_file(self, key: str, file: BinaryIO) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(file, target, BLOCK)
                target.flush()
                os.fsync(target.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

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

    def check(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def link(self, key: str, media_type: str, filename: str | None = None) -> str | None:
        return None

    def origin(self) -> str | None:
        return None

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"key {key!r} leaves the storage folder")
        return path
