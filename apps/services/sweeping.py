"""Stored files that no row names: what killed processes left behind."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import select, union_all
from sqlalchemy.orm import Session, scoped_session

from apps.models import Export, Image, Import, ImportedPicture, TrashedImage, Video, utcnow
from apps.storage import TEMPORARY, Storage, StoredFile

logger = logging.getLogger(__name__)

OLD = timedelta(days=1)  # a younger file may belong to a row that is about to be written
BATCH = 500  # files, asked for in one statement

_PICTURES: tuple[Any, ...] = (Image, TrashedImage, ImportedPicture)
# What names the files of each folder, by the column "key".
OWNERS: dict[str, tuple[Any, ...]] = {
    "original": _PICTURES,
    "display": _PICTURES,
    "thumbnail": _PICTURES,
    "video": (Video,),
    "poster": (Video,),
    "export": (Export,),
    "import": (Import,),
}


@dataclass(frozen=True)
class SweepService:
    session: scoped_session[Session]
    storage: Storage

    def orphans(self) -> Iterator[StoredFile]:
        """Files older than a day that no row names, and unfinished ones; nothing is deleted.

        Raises:
            OSError: the storage does not answer.
        """
        before = utcnow() - OLD
        for folder, owners in OWNERS.items():
            old = (file for file in self.storage.files(folder) if file.modified < before)
            for batch in _batches(old):
                yield from self._unnamed(batch, owners)

    def any_named(self) -> bool:
        """Whether this storage holds a file of this database: else they may not belong together."""
        for folder, owners in OWNERS.items():
            for batch in _batches(self.storage.files(folder)):
                if len(list(self._unnamed(batch, owners))) < len(batch):
                    return True
        return False

    def delete(self, files: Iterable[StoredFile]) -> None:
        """Forget ``files``, as ``orphans`` gave them."""
        keys = [file.key for file in files]
        for key in keys:
            logger.info("swept key=%s", key)
        self.storage.delete(*keys)

    def _unnamed(
        self, files: tuple[StoredFile, ...], owners: tuple[Any, ...]
    ) -> Iterator[StoredFile]:
        keys = {_stem(file) for file in files}
        # One statement: between two, a picture could go from the trash to where the first looked.
        named = union_all(*(select(one.key).where(one.key.in_(keys)) for one in owners))
        there = set(self.session.scalars(named))
        self.session.commit()
        return (file for file in files if _stem(file) not in there)


def _batches(files: Iterator[StoredFile]) -> Iterator[tuple[StoredFile, ...]]:
    return iter(lambda: tuple(islice(files, BATCH)), ())


def _stem(file: StoredFile) -> str:
    """The key of the row: "original/KEY.jpg", "export/KEY-2.zip"; of no row for a temporary one."""
    name = file.key.rpartition("/")[2]
    return "" if name.startswith(TEMPORARY) else name.partition(".")[0].partition("-")[0]
