"""An export from the rows of its pictures to a checked ZIP in a temporary file."""

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from apps.errors import InvalidImage
from apps.jobs import TryLater
from apps.services.export_checks import Expected, ExpectedList, check
from apps.services.export_native import NativeMaker
from apps.services.export_pictures import Boxes, ExportedPicture, PictureReader
from apps.services.export_writers import ACCOUNT, BLOCK, NATIVE, WRITERS, LabelWriter, spool
from apps.storage import Storage
from apps.vision.decode import decode, encode_jpeg, orientation

logger = logging.getLogger(__name__)

QUALITY = 95  # of a JPEG that had to be turned upright
MISSING = "missing.txt"
CHECKING = 0.7  # of the work is done when reading back begins
Tick = Callable[[float], None]  # told how much is done, 0 to 1; what it raises ends the work


@dataclass(frozen=True)
class Order:
    """What is wanted."""

    owner_id: int
    kind: str  # of WRITERS, or NATIVE or ACCOUNT
    boxes: Boxes
    with_pictures: bool


@dataclass(frozen=True)
class Counts:
    """What reading an export back has counted."""

    pictures: int
    boxes: int
    files: int  # pictures whose file is in it
    missing: int  # pictures whose file is gone from the storage


@dataclass(frozen=True)
class Made:
    """A checked ZIP. Whoever takes it closes its file, which then is gone."""

    file: BinaryIO
    size: int  # bytes
    counts: Counts


@dataclass(frozen=True)
class ExportMaker:
    reader: PictureReader
    storage: Storage
    native: NativeMaker

    def make(self, order: Order, ids: Sequence[int], tick: Tick) -> Made:
        """The ZIP of the pictures ``ids``; ends the transaction again and again.

        Raises:
            NotTheSame: it does not say what the pictures do.
            TryLater: the storage is away.
        """
        file = spool()
        try:
            if order.kind in (NATIVE, ACCOUNT):
                counts = Counts(*self.native.make(file, order.owner_id, ids, order.with_pictures,
                                                  order.kind == ACCOUNT, tick))  # fmt: skip
            else:
                counts = self._labels(file, order, ids, tick)
            size = file.seek(0, 2)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return Made(file, size, counts)

    def _labels(self, file: BinaryIO, order: Order, ids: Sequence[int], tick: Tick) -> Counts:
        writer = WRITERS[order.kind](self.reader.labels(ids, order.boxes))
        expected, missing, others = ExpectedList(), list[str](), 0
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                pictures = self.reader.read(order.owner_id, ids, order.boxes)
                for number, picture in enumerate(pictures, 1):
                    row = self._picture(archive, writer, picture, order.with_pictures)
                    if order.with_pictures and row.member is None:
                        missing.append(row.name)
                    expected.add(row)
                    tick(CHECKING * number / max(len(ids), number))
                for name, pieces in writer.end():
                    _write(archive, name, pieces)
                    others += 1
                if missing:
                    archive.writestr(MISSING, "\n".join(missing) + "\n")
                    others += 1
            boxes = check(file, order.kind, expected, others, lambda: tick(CHECKING))
        finally:
            writer.close()
            expected.close()
        files = expected.length - len(missing) if order.with_pictures else 0
        return Counts(expected.length, boxes, files, len(missing))

    def _picture(
        self,
        archive: zipfile.ZipFile,
        writer: LabelWriter,
        picture: ExportedPicture,
        with_pictures: bool,
    ) -> Expected:
        """Write what belongs to a picture; its labels come last, as turning changes its name."""
        member, size, label_file = None, 0, None
        if with_pictures:
            try:
                picture, data = self._read(picture)
            except OSError as error:
                logger.warning("not exported key=%s: %s", picture.key, error)
                self._require_storage()
            else:  # pictures are compressed already
                member, size = writer.place(picture), len(data)
                archive.writestr(member, data, zipfile.ZIP_STORED)
        for label_file, pieces in writer.add(picture):  # at most one
            _write(archive, label_file, pieces)
        boxes = tuple((box.label, box.corners, box.score) for box in picture.boxes)
        return Expected(
            picture.name, picture.width, picture.height, boxes, member, size, label_file
        )

    def _require_storage(self) -> None:
        """One file may be lost; all of them are not: the export waits then."""
        try:
            self.storage.check()
        except OSError as error:
            raise TryLater(f"the storage is away: {error}") from error

    def _read(self, picture: ExportedPicture) -> tuple[ExportedPicture, bytes]:
        """The original as it was uploaded, or upright where only its EXIF data turns it.

        Many programs that read data sets ignore that, and would see every box in a wrong place.

        Raises:
            OSError: it is gone, is not what was uploaded, or cannot be read any more.
        """
        with self.storage.open(picture.key) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != picture.sha256:  # the disk forgot some of it
            raise OSError("its content changed")
        try:
            if orientation(data) == 1:
                return picture, data
            upright = encode_jpeg(decode(data).picture, QUALITY)
        except InvalidImage as error:
            raise OSError(str(error)) from error
        return replace(picture, name=f"{PurePosixPath(picture.name).stem}.jpg"), upright


def _write(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as member:
        for piece in pieces:
            member.write(piece)


def blocks_of_made(made: Made) -> Iterator[bytes]:
    """The ZIP piece by piece; its file is closed in the end, or when nobody asks any more."""
    with made.file as file:
        while block := file.read(BLOCK):
            yield block
