"""Weights files: where they are, whether they are whole, and getting the missing ones.

Nothing here imports torch, so the web process may ask at any time.
"""

import fcntl
import hashlib
import http.client
import logging
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from apps.disk import sync_folder
from apps.errors import N_, Conflict, WeightsError

logger = logging.getLogger(__name__)

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without a single byte
ROUNDED = 1024  # bytes by which a published size may differ from that of its file

MISSING = N_(
    "The weights %(file)s are missing. Run “flask models fetch”, or copy the file "
    "into the folder “weights” of the instance."
)
CHANGED = N_(
    "The weights file %(file)s is not the expected one (its checksum differs). "
    "Remove it and fetch it again."
)
OWN_MISSING = N_("The weights %(file)s are missing. Copy the file back, or remove the model.")
OWN_CHANGED = N_(
    "The weights file %(file)s is not the one that was added (its checksum differs). "
    "Copy the right one back, or remove the model."
)
INCOMPLETE = N_(
    "The weights file %(file)s has %(size)s bytes instead of about %(wanted)s: it is being copied, "
    "or damaged."
)
NO_FOLDER = N_("The folder %(folder)s cannot be used for weights (%(reason)s).")
NO_ROOM = N_("The disk has no room for %(size)s MB of weights. Make some and try again.")


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights and how to know that it is the right one."""

    name: str
    sha256: str  # all 64 hex digits, or the first 8 that torchvision puts into its file names
    size: int  # bytes; of a file to download, rounded as its publisher says
    url: str | None = None  # None: nothing can be fetched
    folder: Path | None = None  # where an embedded file is
    own: bool = False  # an administrator added it

    @property
    def embedded(self) -> bool:
        """Whether it comes with the application."""
        return self.url is None and not self.own


class WeightsState(StrEnum):
    READY = "ready"
    PARTIAL = "partial"  # a download was interrupted; the next one goes on from there
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one download, at one moment."""

    done: int  # bytes
    total: int  # bytes; 0 when the server does not say
    rate: float  # bytes a second, of this download so far

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.total and self.rate > 0 else None


Report = Callable[[Progress], None]


# What tells one state of a file from another: path, bytes, time of the last change in ns.
Stamp = tuple[Path, int, int]


@dataclass(frozen=True)
class WeightsStore:
    """The folder of downloaded weights. A download is in place only when its hash was right; what
    people copy in may be anything."""

    folder: Path
    _judged: dict[Stamp, WeightsError | None] = field(default_factory=dict, compare=False)
    _judging: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def path(self, file: WeightsFile) -> Path:
        """Where ``file`` is, or would be."""
        return (file.folder if file.folder is not None else self.folder) / file.name

    def state(self, file: WeightsFile) -> WeightsState:
        if self.path(file).is_file():
            return WeightsState.READY
        return WeightsState.PARTIAL if self._part(file).is_file() else WeightsState.MISSING

    def is_sound(self, file: WeightsFile) -> bool:
        """Whether ``file`` is here and whole; its content is read once for each change of it."""
        return self.state(file) is WeightsState.READY and self.fault(file) is None

    def fault(self, file: WeightsFile) -> WeightsError | None:
        """What is wrong with a file that is here; None also if it is not here."""
        with self._judging:  # one thread reads a large file, the others wait for what it says
            stamp = self._stamp(file)
            if stamp is None:
                return None
            if stamp not in self._judged:
                fault = self._found_fault(file, stamp)
                self._judge(stamp, fault)
                return fault
            return self._judged[stamp]

    def distrust(self, file: WeightsFile, fault: WeightsError) -> None:
        """Remember that no network could be made of ``file``, until it changes."""
        with self._judging:
            stamp = self._stamp(file)
            if stamp is not None:
                self._judge(stamp, fault)

    def _judge(self, stamp: Stamp, fault: WeightsError | None) -> None:
        if fault is not None and isinstance(fault.__cause__, OSError):
            return  # it could not be read, and the file need not change until it can
        for old in [old for old in self._judged if old[0] == stamp[0]]:
            del self._judged[old]
        self._judged[stamp] = fault
        if fault is not None:
            logger.warning("weights cannot be used file=%s reason=%s", stamp[0], fault)

    def _stamp(self, file: WeightsFile) -> Stamp | None:
        path = self.path(file)
        try:
            found = path.stat()
        except OSError:
            return None
        return path, found.st_size, found.st_mtime_ns

    def _found_fault(self, file: WeightsFile, stamp: Stamp) -> WeightsError | None:
        size = stamp[1]
        if (
            abs(size - file.size) > ROUNDED
        ):  # a file that is being copied is not read again and again
            return WeightsError(INCOMPLETE, file=file.name, size=size, wanted=file.size)
        try:
            self.verify(file)
        except WeightsError as error:
            return error
        return None

    def verify(self, file: WeightsFile) -> None:
        """Read the whole file and compare its SHA-256.

        Raises:
            WeightsError: missing, unreadable, or not the expected file.
        """
        path = self.path(file)
        if not path.is_file():
            raise WeightsError(OWN_MISSING if file.own else MISSING, file=file.name)
        with usable(path.parent):
            digest = sha256_of(path)
        if not digest.startswith(file.sha256):
            raise WeightsError(OWN_CHANGED if file.own else CHANGED, file=file.name)

    def remove(self, file: WeightsFile) -> bool:
        """Delete a downloaded file and what is left of a download; whether there was any.

        Raises:
            Conflict: the file comes with the application.
            WeightsError: the folder cannot be written.
        """
        if file.embedded:
            raise Conflict(N_("These weights come with Sightbox and cannot be removed."))
        found = [path for path in (self.path(file), self._part(file)) if path.is_file()]
        with usable(self.folder):
            for path in found:
                path.unlink(missing_ok=True)
        return bool(found)

    def fetch(self, file: WeightsFile, report: Report = lambda _: None) -> Path:
        """Download ``file`` if it is missing: resumed, checked, and put in place in one step.

        Args:
            report: told how far it is, about four times a second.

        Raises:
            Conflict: another process downloads it at this moment.
            WeightsError: no network, a broken connection, a wrong checksum, or a folder that
                cannot be written or locked.
        """
        path = self.path(file)
        if path.is_file() or file.url is None:
            return path
        with usable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone(file):
                if not path.is_file():  # another process may have been faster
                    self._download_checked(file, path, report)
        return path

    def _download_checked(self, file: WeightsFile, path: Path, report: Report) -> None:
        part = self._part(file)
        self._download(file, part, report)
        if not sha256_of(part).startswith(file.sha256):
            part.unlink()
            raise WeightsError(
                N_(
                    "What arrived as %(file)s is not the expected file (its checksum differs); "
                    "it was thrown away. Try again, or copy the file in by hand."
                ),
                file=file.name,
            )
        part.replace(path)
        sync_folder(self.folder)
        logger.info("weights fetched file=%s bytes=%d", file.name, path.stat().st_size)

    def _part(self, file: WeightsFile) -> Path:
        return self.folder / f"{file.name}.part"

    @contextmanager
    def _alone(self, file: WeightsFile) -> Iterator[None]:
        """Hold a lock that ends with this process, however it ends."""
        with (self.folder / f".{file.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(N_("These weights are being downloaded already.")) from None
            yield

    def _download(self, file: WeightsFile, part: Path, report: Report) -> None:
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(file.url or "", headers={"User-Agent": "Sightbox"})  # noqa: S310 (addresses come from the registry)
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
                have = have if resumed else 0
                total = have + int(answer.headers.get("Content-Length") or 0)
                self._refuse_full_disk(total - have)
                with part.open("ab" if resumed else "wb") as target:
                    done = _copy(answer, target, have, total, report)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                    part.unlink()  # longer than the file: it is not a part of it
                    return self._download(file, part, report)
            raise self._unreachable(file, f"HTTP {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(file, _reason(error)) from error
        if total > done:
            raise self._unreachable(file, f"{done} of {total} bytes")
        return None

    def _refuse_full_disk(self, needed: int) -> None:
        if shutil.disk_usage(self.folder).free < needed:
            raise WeightsError(NO_ROOM, size=round(needed / 2**20))

    def _unreachable(self, file: WeightsFile, reason: str) -> WeightsError:
        return WeightsError(
            N_(
                "The download of %(file)s broke off (%(reason)s). Try again: it goes on where it "
                "stopped. Without a network, get %(url)s on another computer and copy it to "
                "%(folder)s"
            ),
            file=file.name,
            reason=reason,
            url=file.url,
            folder=self.folder,
        )


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """What the system refuses in ``folder`` is told as a WeightsError: read-only, no locks …"""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(NO_FOLDER, folder=folder, reason=reason) from error


def _copy(answer: Any, target: Any, have: int, total: int, report: Report) -> int:
    """Bytes in ``target`` at the end of ``answer``, reported on the way."""
    started = told = time.monotonic()
    done = have
    while chunk := answer.read(CHUNK):
        target.write(chunk)
        done += len(chunk)
        now = time.monotonic()
        if now - told >= 0.25:
            told = now
            report(Progress(done, total, (done - have) / (now - started)))
    target.flush()
    os.fsync(target.fileno())
    seconds = max(time.monotonic() - started, 1e-6)
    report(Progress(done, total, (done - have) / seconds))
    return done


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    return str(cause) or type(error).__name__


def sha256_of(path: Path) -> str:
    """Of the whole file, in 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
