"""What a download leaves beside the weights for other processes: a lock as long as it runs, and
why it failed."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from apps.errors import N_, AppError, Conflict, WeightsError

PATIENCE = 2.0  # seconds for those who only look: each holds the lock for microseconds
PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Traces:
    """Those of the downloads of one file.

    Args:
        folder: where its weights belong; it need not exist.
        name: of the file.
    """

    folder: Path
    name: str

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold a lock that ends with this process, however it ends.

        Raises:
            Conflict: a download holds it, here or elsewhere.
            OSError: the folder cannot be written or locked.
        """
        with self._lock.open("a+") as lock:  # network filesystems share only what can be read
            until = time.monotonic() + PATIENCE
            while not _taken(lock.fileno()):
                if time.monotonic() > until:
                    raise _running()
                time.sleep(PAUSE)
            try:
                yield
            finally:  # a process forked meanwhile would hold it on
                fcntl.flock(lock, fcntl.LOCK_UN)

    def is_held(self) -> bool:
        """Whether a download runs at this moment, here or elsewhere."""
        try:
            with self._lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # nothing was ever downloaded, or a filesystem without locks
            return False
        return False

    def keep_failure(self, error: AppError) -> None:
        """In place of an earlier one. Where nothing can be written, only the log knows."""
        text = json.dumps({"message": error.message, "params": error.params}, default=str)
        draft = self._failure.with_name(f"{self._failure.name}.{os.getpid()}")
        with suppress(OSError):
            draft.write_text(text, "utf-8")
            draft.replace(self._failure)

    def failure(self) -> WeightsError | None:
        """Why the last download failed, if it did."""
        try:
            told = json.loads(self._failure.read_text("utf-8"))
            return WeightsError(str(told["message"]), **told["params"])
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
            return None

    def forget_failure(self) -> None:
        """For a download that begins, and weights that are there."""
        with suppress(OSError):
            self._failure.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.folder / f".{self.name}.lock"

    @property
    def _failure(self) -> Path:
        return self.folder / f".{self.name}.failure.json"


def _taken(lock: int) -> bool:
    """Whether the lock is this process's now; False: somebody looked at it.

    Raises:
        Conflict: a download holds it.
    """
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if kind == fcntl.LOCK_EX:
            return True
        fcntl.flock(lock, fcntl.LOCK_UN)  # only those who look share it with others
        return False
    raise _running()


def _running() -> Conflict:
    return Conflict(N_("These weights are being downloaded already."))
