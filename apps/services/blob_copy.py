"""Moving stored files from one storage to another."""

import enum
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session

from apps.models import Image, TrashedImage, Video
from apps.storage import Storage

logger = logging.getLogger(__name__)

AT_ONCE = 4  # pictures
IN_MEMORY = 64 * 2**20  # bytes of each; larger ones, clips, go through a temporary file
BLOCK = 2**20  # bytes read at a time
BATCH = 16  # pictures; when all of a batch fail, a storage is away and the copy ends


class Fate(enum.StrEnum):
    """What became of one file."""

    COPIED = "copied"
    THERE = "there already"
    MISSING = "missing"  # from the source
    DAMAGED = "damaged"  # in the source: not the bytes that were uploaded
    FAILED = "failed"  # a storage did not answer


BAD = frozenset({Fate.MISSING, Fate.DAMAGED, Fate.FAILED})


@dataclass(frozen=True)
class Blobs:
    """The files of one picture or clip."""

    image_id: int  # or that of a clip
    keys: tuple[str, ...]  # the original first
    bytes: int  # of the original
    sha256: str  # of the original


@dataclass
class Report:
    """How far a copy is."""

    pictures: int  # in the database, and clips
    seen: int = 0  # of them
    counts: Counter[Fate] = field(default_factory=Counter)  # files
    bad: list[tuple[Fate, int, str]] = field(default_factory=list)  # fate, picture, key
    stopped: bool = False  # a storage went away; the same command goes on from here

    @property
    def complete(self) -> bool:
        return not self.bad and not self.stopped


@dataclass(frozen=True)
class BlobCopy:
    """Copies the files of every clip and picture, those in the trash too. What has come stays."""

    session: scoped_session[Session]
    source: Storage
    target: Storage

    def run(self, progress: Callable[[Report], None]) -> Report:
        """Copy; ``progress`` hears how far it is, every few pictures.

        Raises:
            OSError: nothing can be written to the target.
        """
        self.target.check()
        kinds = (Image, TrashedImage, Video)
        counts = [self.session.scalar(select(func.count(kind.id))) or 0 for kind in kinds]
        report = Report(sum(counts))
        batches = chain(self._batches(Image), self._trashed(), self._batches(Video))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for batch in batches:
                away = 0
                for blobs, fates in zip(batch, pool.map(self._picture, batch), strict=True):
                    report.seen += 1
                    report.counts.update(fates.values())
                    report.bad += [
                        (fate, blobs.image_id, key) for key, fate in fates.items() if fate in BAD
                    ]
                    away += Fate.FAILED in fates.values()
                progress(report)
                if away == len(batch):
                    report.stopped = True
                    break
        return report

    def _batches(self, kind: type[Image] | type[Video]) -> Iterator[list[Blobs]]:
        """Every one of a kind, by its number; no transaction is open between two batches."""
        last = 0
        while True:
            query = select(kind).where(kind.id > last).order_by(kind.id).limit(BATCH)
            batch = [
                Blobs(row.id, row.storage_keys, row.bytes, row.sha256)
                for row in cast("Iterable[Image | Video]", self.session.scalars(query))
            ]
            self.session.commit()
            if not batch:
                return
            yield batch
            last = batch[-1].image_id

    def _trashed(self) -> Iterator[list[Blobs]]:
        """The same of what is in the trash, by its number there."""
        last = 0
        sha256 = TrashedImage.rows["images"][0]["sha256"].as_string()
        while True:
            query = select(TrashedImage, sha256).where(TrashedImage.id > last)
            rows = self.session.execute(query.order_by(TrashedImage.id).limit(BATCH)).all()
            batch = [
                Blobs(trashed.id, trashed.storage_keys, trashed.bytes, digest)
                for trashed, digest in rows
            ]
            self.session.commit()
            if not batch:
                return
            yield batch
            last = batch[-1].image_id

    def _picture(self, blobs: Blobs) -> dict[str, Fate]:
        """What became of each file; after a storage failed, the others are not tried."""
        fates: dict[str, Fate] = {}
        for key in blobs.keys:
            try:
                fates[key] = self._file(blobs, key)
            except OSError:
                logger.exception("not copied key=%s", key)
                fates[key] = Fate.FAILED
                break
        return fates

    def _file(self, blobs: Blobs, key: str) -> Fate:
        original = key == blobs.keys[0]
        wanted = blobs.bytes if original else _size(self.source, key)
        there = _size(self.target, key)
        if there is not None and wanted in (there, None):
            return Fate.THERE
        try:
            with SpooledTemporaryFile(IN_MEMORY) as copy:
                digest = hashlib.sha256()
                with self.source.open(key) as file:
                    while block := file.read(BLOCK):
                        digest.update(block)
                        copy.write(block)
                if original and digest.hexdigest() != blobs.sha256:
                    return Fate.DAMAGED
                copy.seek(0)
                self.target.put_file(key, cast("BinaryIO", copy))
        except FileNotFoundError:
            return Fate.MISSING
        return Fate.COPIED


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.size(key)
    except FileNotFoundError:
        return None
