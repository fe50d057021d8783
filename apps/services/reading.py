"""Files that a worker reads: what it means when one cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager

from apps.errors import DetectionError
from apps.jobs import TryLater
from apps.storage import Storage


@contextmanager
def from_storage(storage: Storage, lost: str) -> Iterator[None]:
    """Around what reads one file.

    Args:
        lost: what a person is told when the file is gone: an English message id.

    Raises:
        DetectionError: it is gone.
        TryLater: no file at all can be reached.
        OSError: the storage is there, but this one file cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DetectionError(lost) from error
    except OSError:
        try:
            storage.check()
        except OSError as error:
            raise TryLater(f"the storage is away: {error}") from error
        raise
