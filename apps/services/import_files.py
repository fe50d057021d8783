"""The files of an archive that is imported, by names that are safe to use."""

import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from apps.errors import N_, InvalidImage
from apps.services.archives import Member, Unpacker, is_archive, is_file, is_link, name_of
from apps.services.keeping import require_small
from apps.vision.formats.dataset import is_safe
from apps.vision.formats.incoming.files import MAX_NAME
from apps.vision.formats.incoming.found import Problems

DIRECTORY_BYTES = 32 * 2**20  # of the list of members: those of MAX_IMPORT_FILES with long names
UNSAFE = N_("This name leads out of the archive, or is too long. The file is left out.")
LINK = N_("This is a link to another file. It is left out.")
TWICE = N_("The archive has another file of this name. This one is left out.")
CASES = N_("Another file differs only in the case of its letters. Both are looked at.")
UNNAMED = N_("This name is not readable in any encoding that archives use. The file is left out.")


@dataclass(frozen=True)
class ImportLimits:
    """What an archive may hold."""

    archive_bytes: int  # packed
    files: int
    unpacked_bytes: int
    label_bytes: int  # of one label file
    picture_bytes: int
    picture_pixels: int


class ZipFiles:
    """Files by name, each read as far as is asked; see vision.formats.incoming.files.Files."""

    def __init__(self, members: dict[str, Member]) -> None:
        self._members = members
        self.names = tuple(members)

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file.

        Raises:
            InvalidImage: code ``too_large``, or one of Member.read.
        """
        data = self._members[name].read(most + 1)
        require_small(len(data), most)
        return data

    def opened(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file as a stream; raises as Member.opened."""
        return self._members[name].opened()


@contextmanager
def opened(stream: BinaryIO, limits: ImportLimits, problems: Problems) -> Iterator[ZipFiles]:
    """The files of an archive; what cannot be used is noted.

    Raises:
        InvalidImage: code ``not_an_archive``, or one of Unpacker.members.
    """
    if not is_archive(stream):
        raise InvalidImage(
            "not_an_archive",
            N_("This is not a ZIP file. Pack the pictures and their labels as one."),
        )
    unpacker = Unpacker(limits.files, limits.unpacked_bytes, DIRECTORY_BYTES)
    with unpacker.opened(stream, is_file) as (archive, wanted):
        yield ZipFiles(_by_name(archive, wanted, problems))


def _by_name(
    archive: zipfile.ZipFile, wanted: list[zipfile.ZipInfo], problems: Problems
) -> dict[str, Member]:
    members: dict[str, Member] = {}
    folded: set[str] = set()
    for info in wanted:
        name = name_of(info).replace("\\", "/").removeprefix("./")
        reason = _refusal(info, name)
        if reason is None and name in members:
            reason = TWICE
        if reason is not None:
            problems.add(name, reason)
            continue
        if name.casefold() in folded:
            problems.add(name, CASES, loss=False)
        folded.add(name.casefold())
        members[name] = Member(archive, info)
    return members


def _refusal(info: zipfile.ZipInfo, name: str) -> str | None:
    if is_link(info):
        return LINK
    if not is_safe(name) or len(name) > MAX_NAME:
        return UNSAFE
    if any(unicodedata.category(c) in ("Cc", "Cs") or c == "\ufffd" for c in name):
        return UNNAMED
    return None
