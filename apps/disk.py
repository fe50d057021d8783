"""What a disk needs to be told."""

import errno
import os
from pathlib import Path

# Network filesystems and Windows do not sync folders.
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)


def make_folder(folder: Path) -> None:
    """Make ``folder``, and those above it that are missing; their names outlive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: str | Path) -> None:
    """Let the names in ``folder`` outlive a power cut: syncing a file keeps its bytes alone.

    Raises:
        OSError: the disk does not answer.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)
