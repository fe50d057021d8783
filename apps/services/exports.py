"""Chosen pictures with their boxes as one ZIP, in the formats that trainings read."""

import io
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, InvalidImage, InvalidInput, NotFound
from apps.models import Image
from apps.services.boxes import BoxService
from apps.storage import Storage
from apps.vision.decode import decode, encode_jpeg, orientation
from apps.vision.formats import coco, table, voc, yolo
from apps.vision.formats.dataset import DetectionData, LabelledBox, LabelledPicture

logger = logging.getLogger(__name__)

MAX_PICTURES = 200  # of one export
QUALITY = 95  # of a JPEG that had to be turned upright
MISSING = "missing.txt"


def _coco(data: DetectionData, root: Path) -> None:
    coco.write(data, root / coco.ANNOTATIONS)


def _table(data: DetectionData, root: Path) -> None:
    (root / table.NAME).write_bytes(table.csv_of(data))


@dataclass(frozen=True)
class Format:
    """How labels are written, and in which folder of the ZIP pictures lie beside them."""

    write: Callable[[DetectionData, Path], None]
    folder: str


FORMATS = {
    "coco": Format(_coco, "images"),
    "yolo": Format(yolo.write, yolo.PICTURES),
    "voc": Format(voc.write, voc.PICTURES),
    "csv": Format(_table, "images"),
}


@dataclass(frozen=True)
class Export:
    """A ZIP that is made while it is sent."""

    name: str  # of the file
    pictures: int
    blocks: Iterator[bytes]


@dataclass(frozen=True)
class _Chosen:
    """A picture as the ZIP has it; nothing of the database is needed to send it."""

    labelled: LabelledPicture
    key: str  # of its original in the storage


@dataclass(frozen=True)
class ExportService:
    session: scoped_session[Session]
    storage: Storage
    boxes: BoxService

    def export(
        self,
        owner_id: int,
        image_ids: Iterable[int],
        kind: str,
        threshold: float,
        *,
        with_pictures: bool,
    ) -> Export:
        """The boxes that the pictures show at ``threshold``, as files of the format ``kind``.

        Ends the transaction: sending takes long. A picture whose file is gone is named in
        missing.txt, and its labels are there all the same.

        Raises:
            InvalidInput: an unknown format, or more than MAX_PICTURES.
            NotFound: none of them is there.
        """
        ids = sorted(set(image_ids))
        if kind not in FORMATS:
            raise InvalidInput(N_("There is no such format. Choose one of the list."))
        if len(ids) > MAX_PICTURES:
            raise InvalidInput(
                N_("At most %(limit)s pictures are exported at once. Choose fewer."),
                limit=MAX_PICTURES,
            )
        mine = select(Image).where(Image.owner_id == owner_id, Image.id.in_(ids))
        images = self.session.scalars(mine.order_by(Image.id)).all()
        if not images:
            raise NotFound(N_("None of these pictures is there any more."))
        chosen = self._chosen(images, threshold)
        self.session.commit()
        blocks = self._blocks(FORMATS[kind], chosen, with_pictures)
        return Export(f"sightbox-{kind}.zip", len(chosen), blocks)

    def _chosen(self, images: Iterable[Image], threshold: float) -> list[_Chosen]:
        images = list(images)
        boxes = self.boxes.effective([image.id for image in images], threshold, masks=False)
        taken: set[str] = set()
        chosen = []
        for image in images:
            rows = tuple(
                LabelledBox(box.label, (box.x1, box.y1, box.x2, box.y2)) for box in boxes[image.id]
            )
            name = _name(image, taken)
            labelled = LabelledPicture(name, None, image.width, image.height, rows)
            chosen.append(_Chosen(labelled, image.original_key))
        return chosen

    def _blocks(self, form: Format, chosen: list[_Chosen], with_pictures: bool) -> Iterator[bytes]:
        """The ZIP piece by piece; labels come last, because a turned picture gets another name."""
        sent = _Sent()
        missing = []
        pictures = []
        with zipfile.ZipFile(sent, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in chosen:
                labelled = each.labelled
                if with_pictures:
                    try:
                        labelled, data = self._read(each)
                    except OSError:
                        logger.warning("not exported key=%s", each.key)
                        missing.append(labelled.name)
                    else:  # pictures are compressed already
                        path = f"{form.folder}/{labelled.name}"
                        archive.writestr(path, data, zipfile.ZIP_STORED)
                        yield sent.take()
                pictures.append(labelled)
            yield from _labels(form, pictures, archive, sent)
            if missing:
                archive.writestr(MISSING, "\n".join(missing) + "\n")
        yield sent.take()

    def _read(self, each: _Chosen) -> tuple[LabelledPicture, bytes]:
        """The original as it was uploaded, or upright where only its EXIF data turns it.

        Many programs that read data sets ignore that, and would see every box in a wrong place.

        Raises:
            OSError: it is gone, or cannot be read any more.
        """
        with self.storage.open(each.key) as stream:
            data = stream.read()
        try:
            if orientation(data) == 1:
                return each.labelled, data
            upright = encode_jpeg(decode(data).picture, QUALITY)
        except InvalidImage as error:
            raise OSError(str(error)) from error
        name = PurePosixPath(each.labelled.name).with_suffix(".jpg").name
        return replace(each.labelled, name=name), upright


def _labels(
    form: Format, pictures: list[LabelledPicture], archive: zipfile.ZipFile, sent: "_Sent"
) -> Iterator[bytes]:
    classes = sorted({box.label for picture in pictures for box in picture.boxes})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        form.write(DetectionData(tuple(classes), tuple(pictures)), root)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root).as_posix())
                yield sent.take()


def _name(image: Image, taken: set[str]) -> str:
    """A file name that no other picture of the export has, whatever its extension and case."""
    stem = image.title.rpartition(".")[0] or image.title
    stem = "".join("_" if c in '<>:"/\\|?*' else c for c in stem)[:80].strip(". ") or "picture"
    while stem.casefold() in taken:
        stem = f"{stem}-{image.id}"
    taken.add(stem.casefold())
    return f"{stem}.{image.extension}"


class _Sent(io.RawIOBase):
    """What zipfile has written and nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
