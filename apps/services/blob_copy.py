"""Moving stored files from one storage to another."""

import enum
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session

from apps.models import Image, TrashedImage
from apps.storage import Storage

logger = logging.getLogger(__name__)

AT_ONCE = 4  # pictures; each is in memory whole
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
    """The three files of one picture."""

    image_id: int
    keys: tuple[str, str, str]  # original, display, thumbnail
    bytes: int  # of the original
    sha256: str  # of the original


@dataclass
class Report:
    """How far a copy is."""

    pictures: int  # in the database
    seen: int = 0  # of them
    counts: Counter[Fate] = field(default_factory=Counter)  # files
    bad: list[tuple[Fate, int, str]] = field(default_factory=list)  # fate, picture, key
    stopped: bool = False  # a storage went away; the same command goes on from here

    @property
    def complete(self) -> bool:
        return not self.bad and not self.stopped


@dataclass(frozen=True)
class BlobCopy:
    """Copies the files of every picture, those in the trash too. What has arrived stays."""

    session: scoped_session[Session]
    source: Storage
    target: Storage

    def run(self, progress: Callable[[Report], None]) -> Report:
        """Copy; ``progress`` hears how far it is, every few pictures.

        Raises:
            OSError: nothing can be written to the target.
        """
        self.target.check()
        counts = (select(func.count(Image.id)), select(func.count(TrashedImage.id)))
        report = Report(sum(self.session.scalar(count) or 0 for count in counts))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for batch in chain(self._batches(), self._trashed()):
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

    def _batches(self) -> Iterator[list[Blobs]]:
        """Every picture, by its number; no transaction is open between two batches."""
        last = 0
        while True:
            query = select(Image).where(Image.id > last).order_by(Image.id).limit(BATCH)
            batch = [
                Blobs(image.id, image.storage_keys, image.bytes, image.sha256)
                for image in self.session.scalars(query)
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
            with self.source.open(key) as file:
                data = file.read()
        except FileNotFoundError:
            return Fate.MISSING
        if original and hashlib.sha256(data).hexdigest() != blobs.sha256:
            return Fate.DAMAGED
        self.target.put(key, data)
        return Fate.COPIED


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.size(key)
    except FileNotFoundError:
        return None
