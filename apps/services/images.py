"""Pictures: look up, read, delete."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import (
    InstrumentedAttribute,
    Session,
    joinedload,
    scoped_session,
    selectinload,
)

from apps.errors import N_, NotFound, Unavailable
from apps.models import (
    VISIBLE,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Tag,
    TagCount,
    TrashedImage,
    fold,
)
from apps.services.pictures import (
    MANY,
    NO_PICTURE,
    Pictures,
    Totals,
    delete_pictures,
    totals_of,
)
from apps.storage import Storage
from apps.vision.decode import MEDIA_TYPES

logger = logging.getLogger(__name__)

GONE = N_("The stored file of this picture is gone.")
AWAY = N_("The storage of the pictures does not answer. Try again in a moment.")


@dataclass(frozen=True)
class StoredFile:
    """A file of a picture, ready to be sent."""

    stream: BinaryIO  # seekable
    size: int  # bytes
    media_type: str
    etag: str
    download_name: str
    original: bool


@dataclass(frozen=True)
class StoredLink:
    """Where a file of a picture can be had from the storage itself, for a short time."""

    address: str


@dataclass(frozen=True)
class ImageService:
    session: scoped_session[Session]
    storage: Storage

    def totals(self, owner_id: int) -> Totals:
        """How many pictures the account has, how many of them wait, and their bytes."""
        return totals_of(self.session, owner_id)

    # -- look up ---------------------------------------------------------------------------

    def get_owned(self, owner_id: int, image_id: int, *, boxes: bool = False) -> Image:
        """A picture with its tags; another owner's is reported as missing.

        Args:
            boxes: whether its present boxes and their masks are needed too.

        Raises:
            NotFound: no such picture of this owner.
        """
        return self._one(Image.id == image_id, Image.owner_id == owner_id, boxes=boxes)

    def get(self, image_id: int) -> Image:
        """Any picture, with its owner: for administrators.

        Raises:
            NotFound: no such picture.
        """
        return self._one(Image.id == image_id)

    def _one(self, *where: ColumnElement[bool], boxes: bool = False) -> Image:
        query = (
            select(Image)
            .where(*where)
            .options(
                selectinload(Image.tag_links).joinedload(ImageTag.tag),
                selectinload(Image.tags),
                joinedload(Image.owner),
            )
        )
        if boxes:
            query = query.options(selectinload(Image.detections).undefer(Detection.mask))
        image = self.session.scalar(query.execution_options(populate_existing=True))
        if image is None:
            raise NotFound(NO_PICTURE)
        return image

    def gallery(self, owner_id: int, tag: str = "", *, total: int) -> Pictures:
        """The owner's pictures, the latest upload first, with their tags.

        Args:
            tag: when given, only pictures with this tag; if the owner has no tag spelled so,
                those with a tag that contains it.
            total: how many pictures the owner has, see ``totals``.
        """
        if tag:
            return self._tagged(owner_id, tag)
        mine = select(Image.id).where(Image.owner_id == owner_id)
        return self._latest_first(mine, Image.id, total)

    def _tagged(self, owner_id: int, text: str) -> Pictures:
        """The pictures with the tag spelled like ``text``, or with one that contains it."""
        folded = fold(text.strip())
        query = self.tags_like(owner_id, text).add_columns(func.sum(TagCount.pictures))
        found = self.session.execute(query).all()
        exact = [row for row in found if row[1] == folded]
        return self._with_any(owner_id, {row[0]: row[2] for row in exact or found})

    def tags_like(self, owner_id: int, text: str) -> Select[int, str]:
        """(id, folded name) of the owner's tags that contain ``text``."""
        folded = fold(text.strip())
        return (
            select(Tag.id, Tag.folded)
            .join(TagCount, TagCount.tag_id == Tag.id)
            .where(TagCount.owner_id == owner_id, Tag.folded.contains(folded, autoescape=True))
            .group_by(Tag.id, Tag.folded)
            .having(func.sum(TagCount.pictures) > 0)
        )

    def uses(self, owner_id: int, tag_ids: Iterable[int]) -> int:
        """On how many of the owner's pictures the tags are; one with two of them counts twice."""
        mine = (TagCount.owner_id == owner_id, TagCount.tag_id.in_(list(tag_ids)))
        return int(self.session.scalar(select(func.sum(TagCount.pictures)).where(*mine)) or 0)

    def _with_any(self, owner_id: int, pictures: dict[int, int]) -> Pictures:
        """The pictures with one or more of the tags.

        Args:
            pictures: on how many of the owner's pictures each tag is, by the tag's id.
        """
        most = max(pictures.values(), default=0)
        mine = and_(ImageTag.owner_id == owner_id, VISIBLE)
        if len(pictures) == 1:
            links = select(ImageTag.image_id).where(mine, ImageTag.tag_id == next(iter(pictures)))
            return self._latest_first(links, ImageTag.image_id, most)
        mine = and_(mine, ImageTag.tag_id.in_(list(pictures)))
        if most <= MANY:
            links = select(ImageTag.image_id).where(mine).distinct()
            total = self.session.scalar(select(func.count()).select_from(links.subquery()))
            return self._latest_first(links, ImageTag.image_id, total or 0)
        # Some tag is frequent: walking along the gallery fills a page soon, and nobody counts.
        walk = select(Image.id).where(
            Image.owner_id == owner_id, exists().where(ImageTag.image_id == Image.id, mine)
        )
        return self._latest_first(walk, Image.id, most, exact=False)

    def _latest_first(
        self, ids: Select[int], order: InstrumentedAttribute[int], total: int, exact: bool = True
    ) -> Pictures:
        tags = (selectinload(Image.tags),)
        return Pictures(self.session, ids, (order,), True, total, exact, tags)

    def statuses(self, owner_id: int, image_ids: Iterable[int]) -> dict[int, ImageStatus]:
        """Status of those of ``image_ids`` that are the owner's."""
        rows = self.session.execute(
            select(Image.id, Image.status).where(
                Image.owner_id == owner_id, Image.id.in_(list(image_ids))
            )
        )
        return {row.id: row.status for row in rows}

    # -- files -----------------------------------------------------------------------------

    def open_file(self, filename: str, owner_id: int | None) -> StoredFile | StoredLink:
        """One of the three stored files by its name in the address, or where it is.

        Args:
            owner_id: whose picture it must be; None for an administrator.

        Raises:
            NotFound: no such file of this owner.
            Unavailable: the storage does not answer.
        """
        stem = filename.rpartition(".")[0]
        key, _, kind = stem.partition("-")
        query = select(Image).where(Image.key == key)
        if owner_id is not None:
            query = query.where(Image.owner_id == owner_id)
        image = None if "\0" in key else self.session.scalar(query)  # PostgreSQL takes no NUL
        if image is None and owner_id is not None and kind == "thumbnail":
            return self._open_trashed(filename, key, owner_id)
        names = (image.original_name, image.display_name, image.thumbnail_name) if image else ()
        if image is None or filename not in names:
            raise NotFound(NO_PICTURE)
        storage_key = image.storage_keys[names.index(filename)]
        original = filename == image.original_name
        media_type = image.media_type if original else MEDIA_TYPES[image.copy_extension]
        title = image.title if original else None
        etag = f"{image.sha256[:32]}{kind}"
        return self._open(storage_key, media_type, etag, title, filename)

    def _open_trashed(self, filename: str, key: str, owner_id: int) -> StoredFile | StoredLink:
        """The thumbnail of a picture in its owner's trash; nobody else has a page that shows it."""
        query = select(TrashedImage).where(
            TrashedImage.key == key, TrashedImage.owner_id == owner_id
        )
        trashed = None if "\0" in key else self.session.scalar(query)
        if trashed is None or filename != trashed.thumbnail_name:
            raise NotFound(NO_PICTURE)
        media_type = MEDIA_TYPES[trashed.copy_extension]
        storage_key = trashed.storage_keys[2]
        return self._open(storage_key, media_type, f"{key}thumbnail", None, filename)

    def _open(
        self, storage_key: str, media_type: str, etag: str, title: str | None, filename: str
    ) -> StoredFile | StoredLink:
        """A stored file; ``title`` names an original, which is only saved."""
        self.session.commit()  # no transaction stays open while the storage is asked
        with storage_errors():
            link = self.storage.link(storage_key, media_type, title)
            if link is not None:
                return StoredLink(link)
            stream = self.storage.open(storage_key)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        original = title is not None
        return StoredFile(stream, size, media_type, etag, title or filename, original)

    def read_original(self, image: Image) -> bytes:
        """The untouched bytes of the upload.

        Raises:
            NotFound: the file is gone from the storage.
            Unavailable: the storage does not answer.
        """
        key = image.original_key
        self.session.commit()  # as in open_file
        with storage_errors(), self.storage.open(key) as file:
            return file.read()

    # -- delete ----------------------------------------------------------------------------

    def delete(self, image_ids: Iterable[int]) -> int:
        """Delete pictures with their boxes, tag links and files for good; how many there were.

        Their owners' pages use the trash instead, see services/trash.py.
        """
        ids = list(image_ids)
        images = self.session.scalars(select(Image).where(Image.id.in_(ids))).all()
        keys = [key for image in images for key in image.storage_keys]
        delete_pictures(self.session, Image.id.in_(ids))
        self.session.commit()
        self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not
        return len(images)


@contextmanager
def storage_errors(gone: str = GONE, away: str = AWAY) -> Iterator[None]:
    """Errors of reading, as what a user may be told.

    Args:
        gone, away: English message ids for a file that is missing and for a silent storage.
    """
    try:
        yield
    except FileNotFoundError:
        raise NotFound(gone) from None
    except OSError as error:
        logger.exception("storage failed")
        raise Unavailable(away) from error
