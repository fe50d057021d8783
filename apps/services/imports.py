"""Archives of labelled pictures: take one, look it up, choose what comes, cancel, undo."""

import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.errors import N_, AppError, Conflict, InvalidImage, InvalidInput, NotFound
from apps.jobs import Queue
from apps.models import OPEN, Image, Import, ImportedPicture, ImportStatus, utcnow
from apps.services.archives import is_archive
from apps.services.changes import clean_label
from apps.services.import_files import ImportLimits
from apps.services.import_planned import NATIVE
from apps.services.keeping import Keeper, require_small
from apps.services.room import require_disk
from apps.services.tags import clean_name
from apps.services.trash import MAX_AT_ONCE, TrashService
from apps.storage import Storage
from apps.vision.decode import safe_title

logger = logging.getLogger(__name__)

MAX_OPEN = 3  # imports of one account that have not ended
MAX_TAGS = 20  # that are put on all pictures of an import
SHOWN = 100  # imports in a list
NO_IMPORT = N_("There is no such import.")
NOT_READY = N_("This import does not wait for your choice any more.")
NO_SYNC = {"synchronize_session": False}


@dataclass(frozen=True)
class Choices:
    """What of an archive shall come, and how."""

    classes: dict[str, str | None] = field(default_factory=dict)  # label to another; None: none
    reviewed: bool = False
    tags: tuple[str, ...] = ()  # for every picture
    detect: bool = False  # whether the default model shall look at the pictures then

    @classmethod
    def of(cls, options: dict[str, Any] | None) -> "Choices":
        """From what asdict() made and JSON kept."""
        kept = dict(options or {})
        return cls(**kept | {"tags": tuple(kept.get("tags", ()))})


@dataclass(frozen=True)
class ImportService:
    """What people do with imports; see import_jobs for the work."""

    session: scoped_session[Session]
    storage: Storage
    queue: Queue
    trash: TrashService
    keeper: Keeper
    limits: ImportLimits
    folder: Path | None = None  # of the storage, if it is a disk of this machine

    # -- begin -----------------------------------------------------------------------------

    def create(self, owner_id: int, name: str | None, file: BinaryIO) -> Import:
        """Take an archive, which somebody will look into.

        Args:
            file: seekable; it is copied block by block.

        Raises:
            InvalidImage: code ``too_large``, ``not_an_archive`` or ``not_stored``.
            Conflict: the account has MAX_OPEN imports that have not ended.
            Unavailable: the disk is full.
        """
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        require_small(size, self.limits.archive_bytes)
        if not is_archive(file):
            raise InvalidImage(
                "not_an_archive",
                N_("This is not a ZIP file. Pack the pictures and their labels as one."),
            )
        self._refuse_many(owner_id)
        require_disk(size, self.folder)
        self.session.commit()  # copying is slow: no transaction stays open meanwhile
        row = Import(owner_id=owner_id, title=safe_title(name), key=uuid.uuid4().hex, bytes=size)
        key = row.file_key
        with self.keeper.all_or_none(key):
            self.storage.put_file(key, file)
            with self.keeper.writing():
                self._refuse_many(owner_id)  # several at once each saw room for themselves
                self.session.add(row)
                self.session.commit()
        import_id = row.id
        self.queue.enqueue(import_id)
        return self.get_owned(owner_id, import_id)

    def _refuse_many(self, owner_id: int) -> None:
        query = select(func.count()).where(Import.owner_id == owner_id, Import.status.in_(OPEN))
        if (self.session.scalar(query) or 0) >= MAX_OPEN:
            raise Conflict(
                N_(
                    "You have %(limit)s imports that have not ended. Finish or cancel one of them "
                    "first."
                ),
                limit=MAX_OPEN,
            )

    # -- look up ---------------------------------------------------------------------------

    def get_owned(self, owner_id: int, import_id: int) -> Import:
        """With its report. Raises NotFound if there is no such import of this owner."""
        query = select(Import).where(Import.id == import_id, Import.owner_id == owner_id)
        found = self.session.scalar(
            query.options(undefer(Import.report)).execution_options(populate_existing=True)
        )
        if found is None:
            raise NotFound(NO_IMPORT)
        return found

    def mine(
        self, owner_id: int, limit: int = SHOWN, before: int | None = None
    ) -> Sequence[Import]:
        """The latest imports of an account, newest first, or those before the import ``before``."""
        query = select(Import).where(Import.owner_id == owner_id)
        if before is not None:
            query = query.where(Import.id < before)
        return self.session.scalars(query.order_by(Import.id.desc()).limit(limit)).all()

    def remaining(self, import_id: int) -> int:
        """How many pictures of an import are in the gallery still."""
        return self.session.scalar(select(func.count()).where(_came_with(import_id))) or 0

    def refusal(self, row: Import) -> AppError | None:
        """Why there is no room for what a checked archive would bring; None: there is."""
        if row.status is not ImportStatus.READY or row.report is None:
            return None
        try:
            self.keeper.require_room(row.owner_id, int(row.report["bytes"]))
        except AppError as error:
            return error
        return None

    # -- choose ----------------------------------------------------------------------------

    def confirm(self, owner_id: int, import_id: int, choices: Choices) -> Import:
        """Let the pictures of a checked archive come.

        Raises:
            NotFound: no such import of this owner.
            Conflict: it does not wait for this.
            InvalidInput: something of ``choices`` cannot be, or nothing would come.
        """
        row = self.get_owned(owner_id, import_id)
        if row.status is not ImportStatus.READY or row.report is None:
            raise Conflict(NOT_READY)
        options = asdict(_cleaned(row.report, choices))
        if not row.report["pictures"]:
            raise InvalidInput(
                N_("Nothing would come: you have these pictures already, or none can be read.")
            )
        self.keeper.require_room(owner_id, int(row.report["bytes"]))
        values = {"status": ImportStatus.QUEUED, "options": options, "progress": 0.0}
        values |= {"attempts": 0, "queued_at": utcnow()}
        if not self._change(import_id, Import.status == ImportStatus.READY, **values):
            raise Conflict(NOT_READY)
        self.session.commit()
        self.queue.enqueue(import_id)
        return self.get_owned(owner_id, import_id)

    def cancel(self, owner_id: int, import_id: int) -> bool:
        """Let nothing come; False: it had ended already.

        Raises:
            NotFound: no such import of this owner.
        """
        key = self.get_owned(owner_id, import_id).file_key
        idle = (ImportStatus.WAITING, ImportStatus.READY, ImportStatus.QUEUED)
        ended = {"status": ImportStatus.CANCELLED, "cancelled": True, "finished_at": utcnow()}
        at_once = self._change(import_id, Import.status.in_(idle), **ended)
        working = (ImportStatus.CHECKING, ImportStatus.RUNNING)
        done = at_once or self._change(import_id, Import.status.in_(working), cancelled=True)
        self.session.commit()
        if at_once:
            self.storage.delete(key)
        return done

    # -- undo ------------------------------------------------------------------------------

    def undo(self, owner_id: int, import_id: int) -> int:
        """Move every picture of an import to the trash; how many there were.

        Again is no error: a picture that was restored goes there once more.

        Raises:
            NotFound: no such import of this owner.
            Conflict: it has not come to its end.
        """
        row = self.get_owned(owner_id, import_id)
        if row.status not in (ImportStatus.DONE, ImportStatus.UNDONE):
            raise Conflict(N_("This import has put nothing into your gallery that could go."))
        moved = 0
        while True:
            query = select(Image.id).where(Image.owner_id == owner_id, _came_with(import_id))
            ids = self.session.scalars(query.limit(MAX_AT_ONCE)).all()
            if not ids:
                break
            moved += self.trash.move(owner_id, ids).done
        self._change(import_id, Import.status == ImportStatus.DONE, status=ImportStatus.UNDONE)
        self.session.commit()
        return moved

    def forget(self, owner_id: int, import_id: int) -> None:
        """Take an import that has ended off the list; its pictures stay.

        Raises:
            NotFound: no such import of this owner.
            Conflict: it has not ended.
        """
        if not self.get_owned(owner_id, import_id).status.settled:
            raise Conflict(N_("This import has not ended. Cancel it first."))
        self.session.execute(
            delete(Import)
            .where(Import.id == import_id, Import.status.not_in(OPEN))
            .execution_options(**NO_SYNC)
        )
        self.session.commit()

    def _change(self, import_id: int, *where: ColumnElement[bool], **values: object) -> bool:
        """Does not commit; whether the row was changed."""
        statement = update(Import).where(Import.id == import_id, *where).values(**values)
        found = self.session.scalar(statement.returning(Import.id).execution_options(**NO_SYNC))
        return found is not None


def _came_with(import_id: int) -> ColumnElement[bool]:
    keys = select(ImportedPicture.key).where(ImportedPicture.import_id == import_id)
    return Image.key.in_(keys)


def _cleaned(report: dict[str, Any], choices: Choices) -> Choices:
    """``choices`` as they can be done; every class has a label that is usable.

    Raises:
        InvalidInput: the text says what cannot be.
    """
    known = {row["name"]: row["becomes"] for row in report["classes"]}
    if report["kind"] == NATIVE and (choices.classes or choices.reviewed or choices.detect):
        raise InvalidInput(
            N_("This archive is restored exactly as it was. Only tags can be added to it.")
        )
    unknown = next((name for name in choices.classes if name not in known), None)
    if unknown is not None:
        raise InvalidInput(N_("There is no class “%(name)s” in this archive."), name=unknown[:80])
    if len(choices.tags) > MAX_TAGS:
        raise InvalidInput(N_("At most %(limit)s tags fit."), limit=MAX_TAGS)
    classes: dict[str, str | None] = {}
    for name, suggested in known.items():
        wanted = choices.classes.get(name, suggested)
        classes[name] = None if wanted is None else _label(name, wanted)
    tags = tuple(dict.fromkeys(clean_name(tag) for tag in choices.tags))
    return Choices(classes, choices.reviewed, tags, choices.detect)


def _label(name: str, wanted: str) -> str:
    try:
        return clean_label(wanted)
    except AppError as error:
        raise InvalidInput(
            N_("The class “%(name)s” cannot be called “%(wanted)s”: a label has 1 to 40 "
               "characters, none of them invisible."),
            name=name[:80],
            wanted=wanted[:80],
        ) from error  # fmt: skip
