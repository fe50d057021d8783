"""The native archive of pictures, and that of a whole account; see docs/export.md."""

import hashlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.jobs import TryLater
from apps.models import (
    Annotation,
    Detection,
    Image,
    Result,
    TagSource,
    TrashedImage,
    Video,
    VideoFrame,
    utcnow,
)
from apps.services import native
from apps.services.export_account import facts_of, messages_of, values_of
from apps.services.export_checks import NOT_THE_SAME, NotTheSame
from apps.services.export_pictures import PictureReader, record_of
from apps.services.export_writers import BLOCK, spool
from apps.services.trash import row_values
from apps.storage import Storage

logger = logging.getLogger(__name__)

MISSING = "missing.txt"
CHECKING = 0.7  # of the work is done when reading back begins
IN_MEMORY = 8 << 20  # bytes of a file; larger ones are copied by way of the disk
OF_CLIP = (
    *("title", "extension", "media_type", "sha256", "bytes", "width", "height", "duration_ms"),
    *("every", "status", "error", "wanted_model", "model", "created_at", "finished_at"),
)
OLDEST = (1980, 1, 1, 0, 0, 0)  # time of members: there is none to tell
Tick = Callable[[float], None]


@dataclass
class _Archive:
    """One archive while it is written."""

    zip: zipfile.ZipFile
    with_pictures: bool
    pictures: int = 0
    model_boxes: int = 0
    annotations: int = 0
    members: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NativeMaker:
    session: scoped_session[Session]
    storage: Storage
    reader: PictureReader

    def make(
        self,
        file: BinaryIO,
        owner_id: int,
        ids: Sequence[int],
        with_pictures: bool,
        account: bool,
        tick: Tick,
    ) -> tuple[int, int, int, int]:
        """Write the archive to ``file`` and read it back.

        Args:
            account: with all else that the account has; ``ids`` are all of its pictures.

        Returns:
            Pictures, boxes (of models and people), originals, and how many of those are lost.

        Raises:
            NotTheSame: it does not say what was written.
            TryLater: the storage is away.
        """
        with spool() as kept, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            made = _Archive(archive, with_pictures)
            whole = max(len(ids), 1)
            for number, (record, key) in enumerate(self.reader.native(owner_id, ids), 1):
                kept.write(self._add(made, record, key).to_line())
                tick(CHECKING * number / whole)
            files = len(made.members)
            _write(archive, native.PICTURES, _again(kept))
            if account:
                self._account(made, owner_id, tick)
            if made.missing:
                archive.writestr(MISSING, "\n".join(made.missing) + "\n")
            manifest = native.NativeManifest(
                native.VERSION,
                utcnow(),
                made.pictures,
                made.model_boxes,
                made.annotations,
                files,
                with_pictures,
                tuple(made.missing),
            )
            archive.writestr(native.MANIFEST, manifest.to_json())
            archive.close()
            _check(file, kept, manifest, made.members, lambda: tick(CHECKING))
        boxes = made.model_boxes + made.annotations
        return made.pictures, boxes, files, len(made.missing)

    def _add(self, made: _Archive, record: native.NativePicture, key: str) -> native.NativePicture:
        """Write the original of a picture and count it; the record with its place."""
        if made.with_pictures:
            place = f"{native.FILES}/{record.sha256}.{record.extension}"
            if self._file(made, place, key, record.title):
                record = replace(record, file=place)
        made.pictures += 1
        made.model_boxes += sum(len(result.boxes) for result in record.results)
        made.annotations += len(record.annotations)
        return record

    def _file(self, made: _Archive, place: str, key: str, title: str) -> bool:
        """Copy a stored file; False if it is gone, which then is said in the archive."""
        try:
            stream = self.storage.open(key)
        except OSError as error:
            logger.warning("not exported key=%s: %s", key, error)
            try:
                self.storage.check()
            except OSError as away:
                raise TryLater(f"the storage is away: {away}") from away
            made.missing.append(title)
            return False
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
            with stream:
                digest = hashlib.sha256()
                while block := stream.read(BLOCK):
                    digest.update(block)
                    copy.write(block)
            if digest.hexdigest() != sha256_of(place):  # the disk forgot some of it
                logger.error("not exported, its content changed: key=%s", key)
                made.missing.append(title)
                return False
            copy.seek(0)
            with made.zip.open(zipfile.ZipInfo(place, OLDEST), "w", force_zip64=True) as member:
                while block := copy.read(BLOCK):  # pictures are compressed already
                    member.write(block)
        made.members.append(place)
        return True

    # -- all else of an account ------------------------------------------------------------

    def _account(self, made: _Archive, owner_id: int, tick: Tick) -> None:
        facts = facts_of(self.session, owner_id)
        text = json.dumps(facts, ensure_ascii=False, indent=1, default=_plain)
        made.zip.writestr(native.ACCOUNT, text)
        for name, lines in (
            (native.TRASH, self._trash(made, owner_id, tick)),
            (native.CLIP_LIST, self._clips(made, owner_id, tick)),
            (native.MESSAGES, (_line(one) for one in messages_of(self.session, owner_id))),
        ):
            with spool() as gathered:  # files are written meanwhile, and a ZIP takes one at a time
                for line in lines:
                    gathered.write(line)
                _write(made.zip, name, _again(gathered))

    def _trash(self, made: _Archive, owner_id: int, tick: Tick) -> Iterator[bytes]:
        query = select(TrashedImage.id).where(TrashedImage.owner_id == owner_id)
        for trashed_id in self.session.scalars(query.order_by(TrashedImage.id)).all():
            row = self.session.get(TrashedImage, trashed_id, options=[undefer(TrashedImage.rows)])
            if row is None:
                continue
            record, key, deleted = _trashed(row), row.storage_keys[0], row.deleted_at
            self.session.commit()
            place = f"{native.FILES}/{record.sha256}.{record.extension}"
            there = place in made.members or self._file(made, place, key, record.title)
            values = asdict(replace(record, file=place if there else None))
            yield _line(values | {"deleted_at": deleted})
            tick(CHECKING)

    def _clips(self, made: _Archive, owner_id: int, tick: Tick) -> Iterator[bytes]:
        query = select(Video).where(Video.owner_id == owner_id).order_by(Video.id)
        clips = [
            (clip.id, clip.file_key, values_of(clip, *OF_CLIP))
            for clip in self.session.scalars(query)
        ]
        for clip_id, key, values in clips:
            frames = select(VideoFrame).where(VideoFrame.video_id == clip_id)
            rows = self.session.scalars(frames.order_by(VideoFrame.number))
            values["frames"] = [values_of(frame, "number", "time_ms", "boxes") for frame in rows]
            self.session.commit()
            place = f"{native.CLIPS}/{values['sha256']}.{values['extension']}"
            there = self._file(made, place, key, values["title"])
            yield _line(values | {"file": place if there else None})
            tick(CHECKING)


def _trashed(row: TrashedImage) -> native.NativePicture:
    """The record of a picture whose rows are kept as JSON."""
    rows = row.rows
    return record_of(
        row_values(Image, rows["images"][0]),
        [row_values(Result, each) for each in rows.get("results", ())],
        [row_values(Detection, each) for each in rows.get("detections", ())],
        [row_values(Annotation, each) for each in rows.get("annotations", ())],
        [
            {"name": each["name"], "source": TagSource(each["source"])}
            for each in rows.get("image_tags", ())
        ],
    )


def sha256_of(place: str) -> str:
    """What the file at ``place`` of the archive must hash to: its name says so."""
    return place.rpartition("/")[2].partition(".")[0]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value)} is no JSON")


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, default=_plain).encode() + b"\n"


def _write(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as member:
        for piece in pieces:
            member.write(piece)


def _again(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK):
        yield block


# -- reading back ----------------------------------------------------------------------------


def _check(
    file: BinaryIO,
    kept: BinaryIO,
    manifest: native.NativeManifest,
    members: list[str],
    tick: Callable[[], None],
) -> None:
    """The records as the reader sees them, against those that were written; files by their hash."""
    kept.seek(0)
    with zipfile.ZipFile(file) as archive:
        same = native.read_manifest(archive.read(native.MANIFEST)) == manifest
        files = 0
        with archive.open(native.PICTURES) as stream:
            pictures = native.read_pictures(stream)
            for line in kept:
                picture = next(pictures, None)
                same = same and picture is not None and picture.to_line() == line
                files += picture is not None and picture.file is not None
            same = same and next(pictures, None) is None and files == manifest.files
        for place in members:
            with archive.open(place) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
            if digest != sha256_of(place):
                logger.error("export differs: %s has the hash %s", place, digest)
                same = False
            tick()
    if not same:
        logger.error("export differs: records")
        raise NotTheSame(NOT_THE_SAME)
