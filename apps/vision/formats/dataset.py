"""Pictures with boxes as plain values, whatever file they came from."""

import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Self

from apps.errors import N_, InvalidInput

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the picture

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
_CALLED = {
    **{split: split for split in SPLITS},
    "training": TRAIN,
    "valid": VAL,
    "validation": VAL,
    "minival": VAL,
    "testing": TEST,
}
UNDIVIDED = "default"


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One object that somebody marked."""

    label: str
    corners: Corners
    difficult: bool = False  # hard to see, or a crowd: neither trained on nor counted


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Where the bytes of a picture are: a file, or a member of a zip."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"


class Archives:
    """Reads many files, from any thread; each zip is opened once, because the list of its members
    takes longer to read than most pictures."""

    def __init__(self) -> None:
        self._opened: dict[Path, zipfile.ZipFile] = {}
        self._lock = Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, file: PictureFile) -> bytes:
        """The bytes of ``file``.

        Raises:
            OSError: it cannot be read.
        """
        if file.member is None:
            return file.path.read_bytes()
        try:
            with self._lock:
                archive = self._opened.get(file.path)
                if archive is None:
                    archive = self._stack.enter_context(zipfile.ZipFile(file.path))
                    self._opened[file.path] = archive
            return archive.read(file.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise OSError(f"{file.path}: {error}") from error


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and everything that is marked on it."""

    name: str  # relative, with forward slashes; no two of a data set are the same
    file: PictureFile | None  # None: it is missing
    width: int  # pixels, as the labels say; 0: they do not
    height: int
    boxes: tuple[LabelledBox, ...] = ()
    split: str | None = None  # of SPLITS, where the data set is divided


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Labelled pictures of one set of classes."""

    classes: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of its parts, in order of appearance."""
        names = dict.fromkeys(picture.split for picture in self.pictures)
        return tuple(name for name in names if name is not None)

    def part(self, *splits: str) -> "DetectionData":
        """Its pictures of ``splits``.

        Raises:
            InvalidInput: a split that has no picture.
        """
        for split in splits:
            if split not in self.splits:
                raise InvalidInput(
                    N_("The data has no part “%(split)s”. Its parts: %(known)s."),
                    split=split,
                    known=", ".join(self.splits) or "–",
                )
        chosen = tuple(picture for picture in self.pictures if picture.split in splits)
        return replace(self, pictures=chosen)


class PictureFolder:
    """Finds pictures by the names that labels give them, in a folder and in the zips beside them.

    A name never leads out of the folder: labels are somebody else's text.

    Args:
        root: the folder; ``*.zip`` directly in it are looked into.
        below: folders below it that a name may be relative to.
    """

    def __init__(self, root: Path, below: Iterable[str] = ()) -> None:
        self.root = root
        self.places = [root, *(root / name for name in below)]
        self._members: dict[str, PictureFile] = {}
        for archive in sorted(root.glob("*.zip")):
            self._look_into(archive)

    def find(self, name: str) -> PictureFile | None:
        """The file called ``name``, or None where there is none."""
        if not is_safe(name):
            return None
        for place in self.places:
            path = place / name
            if path.is_file():
                return PictureFile(path)
        return self._members.get(name)

    def _look_into(self, archive: Path) -> None:
        try:
            with zipfile.ZipFile(archive) as opened:
                names = opened.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise unreadable(archive, str(error)) from error
        for name in names:
            self._members.setdefault(name, PictureFile(archive, name))


def split_called(name: str) -> str | None:
    """The split that people also call ``name``, in any case; None: they call none so."""
    return _CALLED.get(name.lower())


def split_of(name: str, path: Path, place: str = "") -> str | None:
    """As :func:`split_called`; None for CVAT's "default", which is no part.

    Args:
        path: the file that has the name; ``place`` in it.

    Raises:
        InvalidInput: nobody calls a split so, and its pictures would be in no part unnoticed.
    """
    split = split_called(name)
    if split is None and name.lower() != UNDIVIDED:
        where = f"{place}: " if place else ""
        raise unreadable(path, f"{where}there is no part “{name}”, only {', '.join(SPLITS)}")
    return split


def is_safe(name: str) -> bool:
    """Whether ``name`` is a relative path that stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    windows = "\\" in name or ":" in name
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not windows


def unreadable(path: Path, reason: str, line: int | None = None) -> InvalidInput:
    """The error that names the file, and the line where there is one."""
    place = str(path) if line is None else f"{path}:{line}"
    return InvalidInput(N_("%(place)s cannot be used: %(reason)s."), place=place, reason=reason)
