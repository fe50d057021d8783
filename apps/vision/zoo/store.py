"""Weights files: where they are, whether they are whole, and getting the missing ones.

Nothing here imports torch, so the web process may ask at any time.
"""

import hashlib
import http.client
import logging
import os
import shutil
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from apps.disk import sync_folder
from apps.errors import N_, AppError, Conflict, WeightsError
from apps.vision.zoo.traces import Traces

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
    size: int  # bytes; of a file to download, rounded as its publisher says; 0: not known
    url: str | None = None  # None: nothing can be fetched
    folder: Path | None = None  # where an embedded file is
    own: bool = False  # an administrator added it

    @property
    def embedded(self) -> bool:
        """Whether it comes with the application."""
        return self.url is None and not self.own

    def fits(self, size: int) -> bool:
        """Whether a file of ``size`` bytes can be this one."""
        return not self.size or abs(size - self.size) <= ROUNDED


class WeightsState(StrEnum):
    READY = "ready"
    INCOMPLETE = "incomplete"  # of another size: it is being copied, or damaged
    PARTIAL = "partial"  # a download was interrupted; the next one goes on from there
    MISSING = "missing"

    @property
    def is_present(self) -> bool:
        """Whether there is a file, whatever is in it."""
        return self in (WeightsState.READY, WeightsState.INCOMPLETE)


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one download, at one moment."""

    done: int  # bytes
    total: int  # bytes; 0 when the server does not say
    rate: float  # bytes a second, of this download so far; 0: not known

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
        """Reads nothing of the file: one of the right size counts as ready until it is read."""
        stamp = self._stamp(file)
        if stamp is not None:
            whole = file.fits(stamp[1]) or self._is_right(stamp)
            return WeightsState.READY if whole else WeightsState.INCOMPLETE
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

    def known_fault(self, file: WeightsFile) -> WeightsError | None:
        """What of :meth:`fault` is known without reading the file."""
        stamp = self._stamp(file)
        if stamp is None:
            return None
        try:
            return self._judged[stamp]
        except KeyError:
            return _fault_of_size(file, stamp)

    def require_sound(self, file: WeightsFile) -> None:
        """Raises WeightsError unless ``file`` is here and whole; reads it as :meth:`fault`."""
        if not self.state(file).is_present:
            raise _missing(file)
        if (fault := self.fault(file)) is not None:
            raise fault

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

    def _is_right(self, stamp: Stamp) -> bool:
        """Whether this very file was read, and nothing is wrong with it."""
        return self._judged.get(stamp, stamp) is None

    def _stamp(self, file: WeightsFile) -> Stamp | None:
        path = self.path(file)
        try:
            found = path.stat()
        except OSError:
            return None
        return (path, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def _found_fault(self, file: WeightsFile, stamp: Stamp) -> WeightsError | None:
        # A file that is being copied is not read again and again.
        if (fault := _fault_of_size(file, stamp)) is not None:
            return fault
        try:
            self._read(file)
        except WeightsError as error:
            return error
        return None

    def verify(self, file: WeightsFile) -> None:
        """Read the whole file and compare its SHA-256.

        Raises:
            WeightsError: missing, unreadable, or not the expected file.
        """
        stamp = self._stamp(file)
        self._read(file)
        if stamp is not None and not file.fits(stamp[1]):  # what is said of its size was wrong
            with self._judging:
                self._judge(stamp, None)

    def _read(self, file: WeightsFile) -> None:
        """Raises WeightsError as :meth:`verify`."""
        path = self.path(file)
        if not path.is_file():
            raise _missing(file)
        with usable(path.parent):
            digest = sha256_of(path)
        if not digest.startswith(file.sha256):
            raise WeightsError(OWN_CHANGED if file.own else CHANGED, file=file.name)

    def remove(self, file: WeightsFile) -> bool:
        """Delete a downloaded file and what is left of a download; whether there was any.

        Raises:
            Conflict: the file comes with the application, or is being downloaded.
            WeightsError: the folder cannot be written.
        """
        if file.embedded:
            raise Conflict(N_("These weights come with Sightbox and cannot be removed."))
        if self.underway(file) is not None:
            raise Conflict(N_("These weights are being downloaded already."))
        found = [path for path in (self.path(file), self._part(file)) if path.is_file()]
        with usable(self.folder):
            for path in found:
                path.unlink(missing_ok=True)
        self._traces(file).forget_failure()
        return bool(found)

    def underway(self, file: WeightsFile) -> Progress | None:
        """How far a download is that any process runs, as far as its file tells."""
        if file.url is None or not self._traces(file).is_held():
            return None
        try:
            done = self._part(file).stat().st_size
        except OSError:  # it only begins, or it is in place this very moment
            done = 0
        return Progress(min(done, file.size), file.size, 0.0)

    def failure(self, file: WeightsFile) -> WeightsError | None:
        """Why the last download of any process failed."""
        return None if file.url is None else self._traces(file).failure()

    def keep_failure(self, file: WeightsFile, error: AppError) -> None:
        """Let other processes know why a download failed."""
        self._traces(file).keep_failure(error)

    def fetch(self, file: WeightsFile, report: Report = lambda _: None) -> Path:
        """Download ``file`` if it is missing or incomplete: resumed, checked, and put in place in
        one step. Other processes can see that it runs, and why it failed.

        Args:
            report: told how far it is, about four times a second.

        Raises:
            Conflict: another process downloads it at this moment.
            WeightsError: no network, a broken connection, a wrong checksum, or a folder that
                cannot be written or locked.
        """
        path = self.path(file)
        if file.url is None or self.state(file) is WeightsState.READY:
            return path
        try:
            with usable(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                with self._traces(file).alone():
                    self._traces(file).forget_failure()
                    if not self._is_whole(file):
                        self._download_checked(file, path, report)
        except WeightsError as error:
            self.keep_failure(file, error)
            raise
        return path

    def _is_whole(self, file: WeightsFile) -> bool:
        """Whether nothing is left to do: another process was faster, or only the size is odd."""
        state = self.state(file)
        if state is WeightsState.INCOMPLETE:
            with suppress(WeightsError):
                self.verify(file)
                return True
        return state is WeightsState.READY

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
        if (stamp := self._stamp(file)) is not None:
            with self._judging:
                self._judge(stamp, None)  # whatever size was published
        logger.info("weights fetched file=%s bytes=%d", file.name, path.stat().st_size)

    def _part(self, file: WeightsFile) -> Path:
        return self.folder / f"{file.name}.part"

    def _traces(self, file: WeightsFile) -> Traces:
        return Traces(self.folder, file.name)

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


def _missing(file: WeightsFile) -> WeightsError:
    return WeightsError(OWN_MISSING if file.own else MISSING, file=file.name)


def _fault_of_size(file: WeightsFile, stamp: Stamp) -> WeightsError | None:
    if file.fits(stamp[1]):
        return None
    return WeightsError(INCOMPLETE, file=file.name, size=stamp[1], wanted=file.size)


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
