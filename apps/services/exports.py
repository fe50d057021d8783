"""Exports from their owner's side: a few pictures at once, many of them as a job, their files."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Busy, Conflict, InvalidInput, NotFound, Unavailable
from apps.jobs import Queue, TryLater
from apps.models import Export, ExportStatus, Image, User, utcnow
from apps.services.export_making import ExportMaker, Made, Order, blocks_of_made
from apps.services.export_pictures import BOTH, WHOSE, Boxes
from apps.services.export_writers import ACCOUNT, KINDS
from apps.services.gallery import Asker, GalleryService
from apps.services.images import StoredFile, StoredLink
from apps.services.pictures import totals_of
from apps.services.room import ExportRoom
from apps.storage import Storage

MAX_PICTURES = 200  # of an export that is made while one waits
MAX_CHOSEN = 10_000  # pictures that one job names; a search or everything may be more
MOST_WAITING = 3  # exports of an account that wait or run
MOST = 50  # that an account keeps
AT_ONCE = 4  # that this process makes while people wait
MEDIA_TYPE = "application/zip"

NO_FORMAT = N_("There is no such format. Choose one of the list.")
NOT_THERE = N_("There is no such export.")
GONE = N_("The file of this export is gone: they are kept for some days. Make a new one.")
NONE_LEFT = N_("None of these pictures is there any more.")
LIVE = (ExportStatus.QUEUED, ExportStatus.RUNNING)


@dataclass(frozen=True)
class Wanted:
    """What somebody asks for."""

    kind: str  # of KINDS, or ACCOUNT
    whose: str = BOTH  # of WHOSE
    threshold: float | None = None  # lowest score of a model's box; None: the account's
    with_pictures: bool = True
    ids: tuple[int, ...] | None = None  # these pictures
    search: str | None = None  # or what it finds; neither: all of the account


@dataclass(frozen=True)
class Ready:
    """A ZIP that is read back already and sent piece by piece."""

    name: str  # of the file
    pictures: int
    size: int  # bytes
    blocks: Iterator[bytes]


@dataclass(frozen=True)
class ExportService:
    session: scoped_session[Session]
    storage: Storage
    maker: ExportMaker
    gallery: GalleryService
    queue: Queue
    room: ExportRoom
    turns: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(AT_ONCE)
    )

    def export(self, owner_id: int, wanted: Wanted) -> Ready:
        """At once, of at most MAX_PICTURES; ends the transaction.

        A picture whose file is gone is named in missing.txt, and its labels are there all the same.

        Raises:
            InvalidInput: an unknown format, or more pictures.
            NotFound: none of them is there.
            NotTheSame: it could not be read back.
            Unavailable: the storage does not answer, or the disk is full.
            Busy: AT_ONCE of them are made already.
        """
        self._require_good(wanted)
        if wanted.kind == ACCOUNT:
            raise InvalidInput(NO_FORMAT)
        ids = sorted(set(wanted.ids or ()))
        if len(ids) > MAX_PICTURES:
            raise InvalidInput(
                N_("At most %(limit)s pictures are exported at once. Choose fewer."),
                limit=MAX_PICTURES,
            )
        ids = self._mine(owner_id, ids)
        boxes = Boxes(wanted.whose, self._threshold(owner_id, wanted))
        if wanted.with_pictures:
            self.room.require_disk(self.room.size_of(owner_id, ids))
        self.session.commit()
        made = self._made(Order(owner_id, wanted.kind, boxes, wanted.with_pictures), ids)
        name = f"sightbox-{wanted.kind}.zip"
        return Ready(name, made.counts.pictures, made.size, blocks_of_made(made))

    def _made(self, order: Order, ids: list[int]) -> Made:
        if not self.turns.acquire(blocking=False):
            raise Busy(N_("Many exports are being made right now. Try again in a moment."))
        try:
            return self.maker.make(order, ids, lambda _: None)
        except TryLater as error:
            raise Unavailable(
                N_("The storage of the pictures does not answer. Try again in a moment.")
            ) from error
        finally:
            self.turns.release()

    # -- jobs ------------------------------------------------------------------------------

    def create(self, owner_id: int, wanted: Wanted) -> Export:
        """Queue an export; its row is committed.

        Raises:
            InvalidInput: an unknown format, too many pictures, or a search that finds none.
            SearchError: no search at all.
            NotFound: none of the pictures is there.
            Busy: MOST_WAITING of the account wait already.
            Conflict: the account keeps MOST already, or more bytes of them than it may.
        """
        self._require_good(wanted)
        if wanted.kind == ACCOUNT:  # all that there is
            wanted = replace(wanted, ids=None, search=None)
        ids = None
        if wanted.ids is not None:
            if len(set(wanted.ids)) > MAX_CHOSEN:
                raise InvalidInput(
                    N_("Choose at most %(limit)s pictures, or export what a search finds."),
                    limit=MAX_CHOSEN,
                )
            ids = self._mine(owner_id, sorted(set(wanted.ids)))
        elif wanted.kind != ACCOUNT:
            self._require_some(owner_id, wanted)
        self._require_room(owner_id)
        row = Export(
            owner_id=owner_id,
            kind=wanted.kind,
            image_ids=ids,
            search=wanted.search if ids is None else None,
            boxes=wanted.whose,
            threshold=self._threshold(owner_id, wanted),
            with_pictures=wanted.with_pictures,
            key=uuid.uuid4().hex,
        )
        self.session.add(row)
        self.session.commit()
        self.queue.enqueue(row.id)
        return row

    def of_owner(self, owner_id: int) -> list[Export]:
        """Every export that the account has, the latest first."""
        query = select(Export).where(Export.owner_id == owner_id).order_by(Export.id.desc())
        return list(self.session.scalars(query))

    def get(self, owner_id: int, export_id: int) -> Export:
        """Raises NotFound if the account has no such export."""
        row = self.session.get(Export, export_id)
        if row is None or row.owner_id != owner_id:
            raise NotFound(NOT_THERE)
        return row

    def open(self, owner_id: int, export_id: int) -> StoredFile | StoredLink:
        """The file of a ready export.

        Raises:
            NotFound: no such export, or its file is gone.
            Conflict: it is not ready.
            Unavailable: the storage does not answer.
        """
        row = self.get(owner_id, export_id)
        over = row.expires_at is not None and row.expires_at <= utcnow()
        if row.status is ExportStatus.EXPIRED or over:
            raise NotFound(GONE)
        if row.status is not ExportStatus.READY:
            raise Conflict(N_("This export is not ready."))
        key, name = row.file_key, row.filename
        try:
            link = self.storage.link(key, MEDIA_TYPE, name)
            if link is not None:
                return StoredLink(link)
            size = self.storage.size(key)
            stream = self.storage.open(key)
        except FileNotFoundError as error:
            raise NotFound(GONE) from error
        except OSError as error:
            raise Unavailable(
                N_("The storage of the pictures does not answer. Try again in a moment.")
            ) from error
        return StoredFile(stream, size, MEDIA_TYPE, row.key, name, original=True)

    def cancel(self, owner_id: int, export_id: int) -> Export:
        """Stop an export that waits or runs; one that has ended stays as it is."""
        row = self.get(owner_id, export_id)
        mine = Export.id == export_id
        self.session.execute(
            update(Export)
            .where(mine, Export.status == ExportStatus.QUEUED)
            .values(status=ExportStatus.CANCELLED, finished_at=utcnow())
            .execution_options(synchronize_session=False)
        )
        self.session.execute(
            update(Export)
            .where(mine, Export.status == ExportStatus.RUNNING)
            .values(cancelled=True)
            .execution_options(synchronize_session=False)
        )
        self.session.commit()
        self.session.refresh(row)
        return row

    def delete(self, owner_id: int, export_id: int) -> None:
        """Forget an export with its file; whoever works on it stops.

        Raises:
            NotFound: no such export of the account.
        """
        row = self.get(owner_id, export_id)
        keys = row.storage_keys
        self.session.execute(delete(Export).where(Export.id == row.id))
        self.session.commit()
        self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not

    # -- rules -----------------------------------------------------------------------------

    def _require_good(self, wanted: Wanted) -> None:
        if wanted.kind not in (*KINDS, ACCOUNT):
            raise InvalidInput(NO_FORMAT)
        if wanted.whose not in WHOSE:
            raise InvalidInput(N_("Choose whose boxes are exported."))
        if wanted.threshold is not None and not 0 <= wanted.threshold <= 1:
            raise InvalidInput(N_("A threshold is a number from 0 to 1."))

    def _mine(self, owner_id: int, ids: list[int]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(ids), MAX_PICTURES):
            part = Image.id.in_(ids[start : start + MAX_PICTURES])
            mine = select(Image.id).where(Image.owner_id == owner_id, part)
            found += self.session.scalars(mine.order_by(Image.id))
        if not found:
            raise NotFound(NONE_LEFT)
        return found

    def _require_some(self, owner_id: int, wanted: Wanted) -> None:
        total = totals_of(self.session, owner_id).pictures
        if wanted.search:
            asker = Asker(owner_id, self._threshold_of(owner_id), total)
            if not self.gallery.find(asker, wanted.search)[1].slice(0, 1):
                raise InvalidInput(N_("This search finds no picture, so there is no export."))
        elif not total:
            raise InvalidInput(N_("You have no pictures yet, so there is nothing to export."))

    def _require_room(self, owner_id: int) -> None:
        mine = Export.owner_id == owner_id
        waiting = select(func.count()).where(mine, Export.status.in_(LIVE))
        if (self.session.scalar(waiting) or 0) >= MOST_WAITING:
            raise Busy(
                N_("%(most)s of your exports wait or run already. Wait until one has ended."),
                most=MOST_WAITING,
            )
        if (self.session.scalar(select(func.count()).where(mine)) or 0) >= MOST:
            raise Conflict(
                N_("You keep %(most)s exports already. Delete one that is not needed."), most=MOST
            )
        self.room.require(owner_id)

    def _threshold(self, owner_id: int, wanted: Wanted) -> float:
        if wanted.threshold is not None:
            return wanted.threshold
        return self._threshold_of(owner_id)

    def _threshold_of(self, owner_id: int) -> float:
        return float(self.session.scalar(select(User.threshold).where(User.id == owner_id)) or 0.0)
