"""Blobs by key, wherever they are kept."""

from typing import BinaryIO, Protocol


class Storage(Protocol):
    """A flat store of bytes. Keys are made by this application, never by a user."""

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` whole or not at all."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A readable stream; the caller closes it.

        Raises:
            FileNotFoundError: nothing is stored under ``key``.
        """
        ...

    def size(self, key: str) -> int:
        """Bytes stored under ``key``. Raises FileNotFoundError as ``open`` does."""
        ...

    def delete(self, *keys: str) -> None:
        """Forget ``keys``; one that is not there is no error."""
        ...

    def check(self) -> None:
        """Raise OSError if nothing can be written."""
        ...
