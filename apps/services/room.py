"""Room for what is made beside the pictures: on the disks, and of one account's exports."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, Unavailable
from apps.models import Export, ExportStatus, Image
from apps.services.pictures import bytes_of

RESERVE = 256 << 20  # bytes that stay free on a disk: the database must go on
CHUNK = 500  # values of one IN (...)

NO_DISK = N_(
    "The server's disk has no room for this now. Try again later, or ask whoever runs the server."
)
TOO_MUCH = N_(
    "Your exports take too much room. Delete one that is not needed, or export fewer pictures, or "
    "none of their files."
)


def require_disk(needed: int, *folders: Path | None) -> None:
    """Raise Unavailable unless ``needed`` bytes fit into each folder; None: it is elsewhere."""
    for folder in folders:
        there = folder
        while there is not None and not there.exists() and there != there.parent:
            there = there.parent  # made with the first file
        if there is not None and shutil.disk_usage(there).free < needed + RESERVE:
            raise Unavailable(NO_DISK)


@dataclass(frozen=True)
class ExportRoom:
    """How much exports may take.

    Args:
        most: bytes of the exports that an account keeps; 0 is no limit. The only one may have more.
        folder: of the storage, if it is a disk of this machine.
    """

    session: scoped_session[Session]
    most: int
    folder: Path | None

    def size_of(self, owner_id: int, ids: Sequence[int]) -> int:
        """Bytes of the originals of ``ids``, which nearly all of an export is."""
        found = 0
        for part in _parts(ids):
            mine = Image.owner_id == owner_id, Image.id.in_(part)
            found += int(self.session.scalar(select(func.sum(Image.bytes)).where(*mine)) or 0)
        return found

    def size_of_account(self, owner_id: int) -> int:
        """Bytes of all that an account keeps."""
        return bytes_of(self.session, owner_id)

    def require(self, owner_id: int, coming: int = 1) -> None:
        """Raise Conflict unless an export of ``coming`` bytes may be kept beside the others."""
        ready = Export.owner_id == owner_id, Export.status == ExportStatus.READY
        kept = int(self.session.scalar(select(func.sum(Export.bytes)).where(*ready)) or 0)
        if self.most and kept and kept + coming > self.most:
            raise Conflict(TOO_MUCH)

    def require_disk(self, coming: int) -> None:
        """Raise Unavailable unless a ZIP of ``coming`` bytes can be made and kept."""
        require_disk(coming, Path(tempfile.gettempdir()), self.folder)


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
