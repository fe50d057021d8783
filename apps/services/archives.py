"""ZIP files of pictures: read member by member, never as a whole, never as paths.

A small archive can hold terabytes, millions of names, or itself. So the list of members is read
only as far as ``DIRECTORY_BYTES``, what it declares is added up before anything is unpacked, and
no more than declared comes out of a member.
"""

import io
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from apps.errors import N_, AppError, InvalidImage

STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # with members, empty, of several volumes
DIRECTORY_BYTES = 4 * 2**20  # of the list of members; 2,000 members take about 300 KB
FREE_BYTES = 64 * 2**20  # unpacked, for which the ratio does not matter: a few blank bitmaps
MAX_RATIO = 100  # unpacked : packed; photographs have about 1, scans 20
ENCRYPTED = 0x1 | 0x40  # flag bits: by password, by certificate
UTF8 = 0x800  # flag bit: the name is UTF-8
# zipfile unpacks other kinds without a bound on what comes out of one piece.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CLUTTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"})


def is_archive(stream: BinaryIO) -> bool:
    """Whether the bytes begin as those of a ZIP file; the stream is at its start afterwards."""
    start = stream.read(4)
    stream.seek(0)
    return start in STARTS


class Member:
    """One file of an archive. It is unpacked when it is read, as far as it is read."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.name = name_of(info)
        self._archive = archive
        self._info = info

    def read(self, size: int) -> bytes:
        """The first ``size`` bytes.

        Raises:
            InvalidImage: code ``encrypted``, ``packed``, ``nested_archive`` or ``truncated``.
        """
        self._refuse_locked()
        try:
            with self._archive.open(self._info) as file:
                data = file.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):
            raise _damaged() from None
        if data[:4] in STARTS:
            raise InvalidImage(
                "nested_archive",
                N_("An archive inside an archive is not unpacked. Upload it by itself."),
            )
        return data

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file as a stream. Raises as ``read``, also while it is read."""
        self._refuse_locked()
        try:
            with self._archive.open(self._info) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
            raise _damaged() from None

    def _refuse_locked(self) -> None:
        if self._info.flag_bits & ENCRYPTED:
            raise InvalidImage(
                "encrypted",
                N_("This file is locked with a password. Pack it without one and upload again."),
            )
        if self._info.compress_type not in METHODS:
            raise InvalidImage(
                "packed",
                N_("This file is packed in an uncommon way. Pack the archive as an ordinary ZIP."),
            )


@dataclass
class Unpacker:
    """Opens the archives of one upload, which share what may come out of them."""

    files: int  # that may still come out
    bytes: int
    directory_bytes: int | None = None  # None: DIRECTORY_BYTES

    def members(self, stream: BinaryIO) -> Iterator[Member]:
        """The files of an archive, without hidden ones and what systems leave behind.

        Raises:
            InvalidImage: code ``broken_archive``, ``empty_archive``, ``too_many_files`` or
                ``archive_bomb``; before the first member.
        """
        with self.opened(stream, is_wanted) as (archive, wanted):
            for info in wanted:
                yield Member(archive, info)

    @contextmanager
    def opened(
        self, stream: BinaryIO, wants: Callable[[zipfile.ZipInfo], bool]
    ) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
        """An archive whose size is known to be bearable, and what ``wants`` wants of it.

        Raises:
            InvalidImage: as ``members``.
        """
        guarded = _Guarded(stream, self.directory_bytes or DIRECTORY_BYTES)
        try:
            archive = zipfile.ZipFile(guarded)
        except Exception as error:  # struct.error, UnicodeDecodeError, ... of a hostile directory
            raise guarded.too_long() or _broken() from error
        guarded.left = None
        with archive:
            wanted = [info for info in archive.infolist() if wants(info)]
            self._take(archive.infolist(), wanted, guarded.size)
            yield archive, wanted

    def _take(
        self, everything: list[zipfile.ZipInfo], wanted: list[zipfile.ZipInfo], size: int
    ) -> None:
        if not wanted:
            raise InvalidImage("empty_archive", N_("There is no file in this archive."))
        if len(wanted) > self.files:
            raise InvalidImage(
                "too_many_files",
                N_("There are %(count)s files in this archive; at most %(limit)s fit. Split it."),
                count=len(wanted),
                limit=self.files,
            )
        packed = sum(info.compress_size for info in everything)
        unpacked = sum(info.file_size for info in wanted)
        overlap = packed > size  # one piece of data stands for several members
        if overlap or unpacked > self.bytes or unpacked > max(FREE_BYTES, MAX_RATIO * packed):
            raise InvalidImage(
                "archive_bomb",
                N_(
                    "This archive would unpack to %(unpacked)s MB, which is too much for its "
                    "size. Upload the pictures themselves, or in smaller archives."
                ),
                unpacked=round(unpacked / 2**20),
            )
        self.files -= len(wanted)
        self.bytes -= unpacked


class _Guarded:
    """A stream for zipfile, of which only so much may be read while the directory is."""

    def __init__(self, stream: BinaryIO, directory_bytes: int) -> None:
        self._stream = stream
        self.left: int | None = directory_bytes
        self.size = stream.seek(0, io.SEEK_END)
        self._refused = False
        stream.seek(0)

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            self.left -= size if size >= 0 else self.size - self._stream.tell()
            if self.left < 0:
                self._refused = True
                raise zipfile.BadZipFile
        return self._stream.read(size)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def too_long(self) -> AppError | None:
        """The error for a directory that is longer than any honest one; None: it was not."""
        if not self._refused:
            return None
        return InvalidImage(
            "too_many_files", N_("There are too many files in this archive. Split it.")
        )


def _damaged() -> InvalidImage:
    return InvalidImage(
        "truncated", N_("This file is damaged inside the archive. Pack the archive once more.")
    )


def _broken() -> InvalidImage:
    return InvalidImage(
        "broken_archive",
        N_("The archive is cut short or damaged. Pack it again, or upload the pictures."),
    )


def is_wanted(info: zipfile.ZipInfo) -> bool:
    """Neither a folder, nor a link, nor hidden, nor what systems leave behind."""
    return not is_link(info) and is_file(info)


def is_link(info: zipfile.ZipInfo) -> bool:
    """Whether it is a name for another file."""
    return stat.S_ISLNK(info.external_attr >> 16)


def is_file(info: zipfile.ZipInfo) -> bool:
    """Neither a folder, nor hidden, nor what systems leave behind."""
    if info.is_dir():
        return False
    parts = [part for part in name_of(info).replace("\\", "/").split("/") if part not in ("", "..")]
    return not any(part.startswith(".") or part.lower() in CLUTTER for part in parts if part != ".")


def name_of(info: zipfile.ZipInfo) -> str:
    """The name that people gave; zipfile reads the names of old programs as if from IBM's PCs.

    Windows in Korean writes CP949, and some programs UTF-8 without saying so; macOS takes Hangul
    syllables apart.
    """
    name = info.orig_filename
    if not info.flag_bits & UTF8:
        raw = name.encode("cp437", "replace")
        for encoding in ("utf-8", "cp949"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    return unicodedata.normalize("NFC", name)
