"""Adding weights of one's own: from an uploaded file to a model among the others."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput, InvalidWeights
from apps.models import Result, utcnow
from apps.services.labels import parse_classes
from apps.services.models import ModelService
from apps.vision.decode import safe_title
from apps.vision.engine import AUTO
from apps.vision.zoo import intake
from apps.vision.zoo.architectures import BUILDERS, Origin
from apps.vision.zoo.cards import MAX_TEXT, NAME, spec_of
from apps.vision.zoo.classifiers import is_classifier
from apps.vision.zoo.own import Removed, taken
from apps.vision.zoo.registry import Added, DetectorSpec
from apps.vision.zoo.store import NO_ROOM

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes
RESERVED = frozenset({AUTO, "new", "default", "status"})


@dataclass(frozen=True)
class NewModel:
    """What an administrator says about a file of weights."""

    name: str
    architecture: str
    classes: str  # as typed; see services/labels.py
    by: str  # user name, or empty for the command line
    file_name: str = ""
    origin: Origin = Origin.COCO
    background: bool = True  # whether the network has an output for it, as number 0
    description: str = ""
    licence: str = ""


def clean_name(text: str) -> str:
    """A name that fits into addresses and file names.

    Raises:
        InvalidInput: it does not.
    """
    name = text.strip()
    if not NAME.fullmatch(name) or name in RESERVED:
        raise InvalidInput(
            N_(
                "A name has at most 60 small letters (a to z), digits, dots, hyphens and "
                "underscores, and begins and ends with a letter or digit: street-signs.v2"
            )
        )
    return name


def clean_note(text: str) -> str:
    """A short text, or nothing.

    Raises:
        InvalidInput: too long.
    """
    note = " ".join(text.split())
    if len(note) > MAX_TEXT:
        raise InvalidInput(N_("At most %(limit)s characters."), limit=MAX_TEXT)
    return note


@dataclass(frozen=True)
class OwnModelService:
    session: scoped_session[Session]
    models: ModelService
    limit: int  # bytes in one file

    # -- adding ----------------------------------------------------------------------------

    def keep(self, stream: BinaryIO) -> str:
        """Put an uploaded file aside, so that a mistake in the form does not cost the upload.

        Returns:
            its key for :meth:`kept`; it is deleted after a day.

        Raises:
            InvalidInput: it is too large, or the disk is full.
        """
        self.session.commit()  # a large file takes its time: no transaction stays open meanwhile
        self.models.own.sweep()
        size = stream.seek(0, 2)
        stream.seek(0)
        self._refuse_too_large(size)
        place = self.models.own.incoming()
        self._refuse_full_disk(2 * size)  # the file and what is made of it
        try:
            with place.open("xb") as target:
                shutil.copyfileobj(stream, target, CHUNK)
        except OSError as error:
            place.unlink(missing_ok=True)
            raise InvalidInput(NO_ROOM, size=round(size / 2**20)) from error
        return place.name

    def kept(self, key: str) -> Path:
        """Where a file that was put aside is.

        Raises:
            InvalidInput: it is gone.
        """
        path = self.models.own.incoming(key)
        if not path.is_file():
            raise InvalidInput(N_("The file is not here any more. Choose it again."))
        return path

    def add(self, new: NewModel, file: Path) -> DetectorSpec:
        """Check ``file`` in another process and make it a model. ``file`` itself stays.

        Raises:
            InvalidWeights: this file can never be used.
            InvalidInput: the name, the classes or the network are wrong for it.
            Conflict: the name is taken.
        """
        name = clean_name(new.name)
        classes = parse_classes(new.classes)
        notes = clean_note(new.description), clean_note(new.licence)
        if new.architecture not in BUILDERS:
            raise InvalidInput(N_("There is no network “%(name)s”."), name=new.architecture)
        self.require_free(name)
        size = file.stat().st_size
        self._refuse_too_large(size)
        self.session.commit()  # the check takes seconds: no transaction stays open meanwhile
        target = self.models.own.incoming()
        self._refuse_full_disk(size)
        question = intake.Question(
            str(file.resolve()),
            str(target.resolve()),
            new.architecture,
            len(classes),
            new.origin.value,
            new.background,
        )
        try:
            found = intake.ask(question)
            added = Added(
                new.architecture,
                Origin(found.origin),
                utcnow().replace(microsecond=0),
                new.by,
                safe_title(new.file_name or file.name),
            )
            spec = spec_of(
                name,
                added,
                classes,
                sha256=found.sha256,
                size=found.size,
                parameters=found.parameters,
                description=notes[0],
                licence=notes[1],
            )
            self.models.own.add(spec, target)
        finally:
            target.unlink(missing_ok=True)
        return spec

    def require_free(self, name: str) -> None:
        """Raises Conflict if a model has this name, or a picture keeps results under it."""
        if self.models.registry.is_known(name) or is_classifier(name):
            raise taken(name)
        if self.session.scalar(select(exists().where(Result.model == name))):
            raise Conflict(
                N_(
                    "Pictures keep results of an earlier model “%(name)s”. Choose another name, so "
                    "that it stays clear which one made them."
                ),
                name=name,
            )

    # -- removed ones ----------------------------------------------------------------------

    def removed(self) -> list[Removed]:
        """Models that can still come back, the latest first."""
        self.models.own.sweep()
        return self.models.own.removed()

    def restore(self, key: str) -> DetectorSpec:
        """Bring a removed model back.

        Raises:
            NotFound: it is gone for good.
            Conflict: another model has its name now.
        """
        self.session.commit()  # another process may be moving files at this moment
        return self.models.own.restore(key)

    def discard(self, key: str) -> None:
        """Delete a removed model for good.

        Raises:
            NotFound: it is gone already.
        """
        self.session.commit()
        self.models.own.discard(key)

    # -- rules -----------------------------------------------------------------------------

    def _refuse_too_large(self, size: int) -> None:
        if size > self.limit:
            raise InvalidWeights(
                N_("The file is larger than %(limit)s MB."), limit=round(self.limit / 2**20, 1)
            )

    def _refuse_full_disk(self, needed: int) -> None:
        if shutil.disk_usage(self.models.own.folder).free < needed:
            raise InvalidInput(NO_ROOM, size=round(needed / 2**20))
