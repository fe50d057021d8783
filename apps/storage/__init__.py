"""Blobs by key, wherever they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

TEMPORARY = ".new-"  # how names of files begin that are being written


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Something that lies in a storage."""

    key: str
    bytes: int
    modified: datetime  # in UTC


class Storage(Protocol):
    """A flat store of bytes. Keys are made by this application, never by a user.

    A key is written once: what is stored under it does not change until it is deleted. Whatever
    goes wrong outside (a disk, a network, a server) is an OSError.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` whole or not at all."""
        ...

    def put_file(self, key: str, file: BinaryIO) -> None:
        """Store the rest of ``file`` whole or not at all, with little of it in memory at a time."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A readable, seekable stream; the caller closes it.

        Raises:
            FileNotFoundError: nothing is stored under ``key``.
        """
        ...

    def size(self, key: str) -> int:
        """Bytes stored under ``key``. Raises FileNotFoundError as ``open`` does."""
        ...

    def delete(self, *keys: str) -> None:
        """Forget ``keys``; one that is not there is no error, others are logged."""
        ...

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Everything whose key begins with ``folder`` and "/", unfinished files too; no order.

        Raises:
            OSError: the storage does not answer, or part of it cannot be read.
        """
        ...

    def check(self) -> None:
        """Raise OSError if nothing can be written."""
        ...

    def link(self, key: str, media_type: str, filename: str | None = None) -> str | None:
        """An address that gives the bytes under ``key`` to whoever has it, for a short time.

        Args:
            media_type: what the answer says that it is.
            filename: when given, a browser saves the answer under this name.

        Returns:
            None if this storage gives no addresses away: its bytes go through the application.
        """
        ...

    def origin(self) -> str | None:
        """Scheme and host of what ``link`` returns; None if that is None."""
        ...
