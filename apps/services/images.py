"""Pictures: upload, look up, delete."""

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload, scoped_session, selectinload

from apps.errors import N_, AppError, InvalidImage, NotFound
from apps.jobs import Queue
from apps.models import Detection, Image, ImageStatus, ImageTag, Tag, TagSource, User, fold
from apps.services.pictures import NO_PICTURE, require_picture
from apps.storage import Storage
from apps.vision.decode import DISPLAY_SIDE, Decoded, decode, derivatives, safe_title

logger = logging.getLogger(__name__)

Observer = Callable[[str], None]  # told of each file: "stored", or the code of its error


def _unobserved(_result: str) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Limits:
    file_bytes: int
    image_pixels: int
    quota_bytes: int  # 0 is no limit


@dataclass(frozen=True)
class Outcome:
    """What became of one file of an upload: a picture or an error, never both."""

    title: str
    image: Image | None = None
    error: AppError | None = None


@dataclass(frozen=True)
class StoredFile:
    """A file of a picture, ready to be sent."""

    stream: BinaryIO
    size: int  # bytes
    media_type: str
    etag: str
    download_name: str
    original: bool


@dataclass(frozen=True)
class ImageService:
    session: scoped_session[Session]
    storage: Storage
    queue: Queue
    limits: Limits
    observe: Observer = _unobserved

    # -- upload ----------------------------------------------------------------------------

    def upload_many(
        self, owner_id: int, files: Iterable[tuple[str | None, BinaryIO]]
    ) -> list[Outcome]:
        """Upload (name, stream) pairs; a bad file never stops the good ones."""
        outcomes = []
        for name, stream in files:
            try:
                image = self.upload(owner_id, name, stream)
            except AppError as error:
                outcomes.append(Outcome(safe_title(name), error=error))
            else:
                outcomes.append(Outcome(image.title, image=image))
        return outcomes

    def upload(self, owner_id: int, name: str | None, stream: BinaryIO) -> Image:
        """Check, store and queue one picture.

        Order matters: files, row, commit, job. A failed commit leaves no file, and a worker never
        sees a row that may still be rolled back.

        Raises:
            InvalidImage: code ``not_a_picture``, ``truncated``, ``too_many_pixels``,
                ``too_large``, ``over_quota`` or ``duplicate``.
        """
        try:
            image = self._keep(owner_id, name, stream)
        except AppError as error:
            self.observe(error.code)
            raise
        self.observe("stored")
        self.queue.enqueue(image.id)
        return image

    def _keep(self, owner_id: int, name: str | None, stream: BinaryIO) -> Image:
        data = self._read(stream)
        digest = hashlib.sha256(data).hexdigest()
        self._refuse_duplicate(owner_id, digest)
        self._refuse_over_quota(owner_id, len(data))
        self.session.commit()  # decoding is slow: no transaction stays open meanwhile
        decoded = decode(data, self.limits.image_pixels, DISPLAY_SIDE)
        image = Image(
            owner_id=owner_id,
            title=safe_title(name),
            key=uuid.uuid4().hex,
            extension=decoded.extension,
            media_type=decoded.media_type,
            sha256=digest,
            bytes=len(data),
            width=decoded.size[0],
            height=decoded.size[1],
            status=ImageStatus.QUEUED,
        )
        self._store(image, data, decoded)
        return image

    def _read(self, stream: BinaryIO) -> bytes:
        data = stream.read(self.limits.file_bytes + 1)
        if len(data) > self.limits.file_bytes:
            raise InvalidImage(
                "too_large",
                N_("The file is larger than %(limit)s MB."),
                limit=round(self.limits.file_bytes / 2**20, 1),
            )
        return data

    def _refuse_duplicate(self, owner_id: int, digest: str) -> None:
        query = select(Image.id).where(Image.owner_id == owner_id, Image.sha256 == digest)
        if self.session.scalar(query) is not None:
            raise _duplicate()

    def _refuse_over_quota(self, owner_id: int, size: int) -> None:
        quota = self.quota(owner_id)
        if quota and self.used_bytes(owner_id) + size > quota:
            raise InvalidImage(
                "over_quota",
                N_("Your space of %(quota)s MB is full. Delete some pictures, or ask for more."),
                quota=round(quota / 2**20, 1),
            )

    def _store(self, image: Image, data: bytes, decoded: Decoded) -> None:
        display, thumbnail = derivatives(decoded.picture)
        keys = image.storage_keys
        try:
            for key, content in zip(keys, (data, display, thumbnail), strict=True):
                self.storage.put(key, content)
            # Once more, alone now: several uploads at once each saw room for themselves.
            owner = select(User.id).where(User.id == image.owner_id).with_for_update()
            if self.session.scalar(owner) is None:
                raise NotFound(N_("There is no such account."))
            self._refuse_over_quota(image.owner_id, image.bytes)
            self.session.add(image)
            self.session.commit()
        except BaseException as error:
            self.session.rollback()
            self.storage.delete(*keys)
            if isinstance(error, IntegrityError):  # the same file twice, at the same moment
                raise _duplicate() from error
            if isinstance(error, OSError):
                logger.exception("storage failed")
                raise _not_stored() from error
            raise

    def quota(self, owner_id: int) -> int:
        """Bytes of originals the account may keep; 0 is no limit."""
        own = self.session.scalar(select(User.quota_bytes).where(User.id == owner_id))
        return self.limits.quota_bytes if own is None else own

    def used_bytes(self, owner_id: int) -> int:
        """Bytes of originals the account keeps."""
        query = select(func.coalesce(func.sum(Image.bytes), 0)).where(Image.owner_id == owner_id)
        return int(self.session.scalar(query) or 0)

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

    def gallery_query(self, owner_id: int, tag: str = "") -> Select[Image]:
        """The owner's pictures, newest first, with their tags.

        Args:
            tag: when given, only pictures with this tag; if the owner has no tag spelled so,
                those with a tag that contains it.
        """
        query = (
            select(Image)
            .where(Image.owner_id == owner_id)
            .options(selectinload(Image.tags))
            .order_by(Image.created_at.desc(), Image.id.desc())
        )
        return query.where(self._tagged(owner_id, tag)) if tag else query

    def _tagged(self, owner_id: int, tag: str) -> ColumnElement[bool]:
        def has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
            return exists().where(
                ImageTag.image_id == Image.id,
                ImageTag.source != TagSource.REMOVED,
                Tag.id == ImageTag.tag_id,
                condition,
            )

        folded = fold(tag.strip())
        exact = has(Tag.folded == folded)
        known = select(Image.id).where(and_(Image.owner_id == owner_id, exact)).limit(1)
        if self.session.scalar(known) is not None:
            return exact
        return has(Tag.folded.contains(folded, autoescape=True))

    def waiting(self, owner_id: int) -> int:
        """How many of the owner's pictures are queued or running."""
        query = select(func.count()).where(
            Image.owner_id == owner_id,
            Image.status.in_((ImageStatus.QUEUED, ImageStatus.RUNNING)),
        )
        return self.session.scalar(query) or 0

    def statuses(self, owner_id: int, image_ids: Iterable[int]) -> dict[int, ImageStatus]:
        """Status of those of ``image_ids`` that are the owner's."""
        rows = self.session.execute(
            select(Image.id, Image.status).where(
                Image.owner_id == owner_id, Image.id.in_(list(image_ids))
            )
        )
        return {row.id: row.status for row in rows}

    def neighbours(self, image: Image) -> tuple[int | None, int | None]:
        """Ids of the pictures before (newer) and after (older) ``image`` in its gallery."""
        mine = select(Image.id).where(Image.owner_id == image.owner_id)
        place = (image.created_at, image.id)
        newer = (Image.created_at > place[0]) | (
            (Image.created_at == place[0]) & (Image.id > place[1])
        )
        older = (Image.created_at < place[0]) | (
            (Image.created_at == place[0]) & (Image.id < place[1])
        )
        return (
            self.session.scalar(mine.where(newer).order_by(Image.created_at, Image.id).limit(1)),
            self.session.scalar(
                mine.where(older).order_by(Image.created_at.desc(), Image.id.desc()).limit(1)
            ),
        )

    # -- files -----------------------------------------------------------------------------

    def open_file(self, filename: str, owner_id: int | None) -> StoredFile:
        """One of the three stored files by its name in the address.

        Args:
            owner_id: whose picture it must be; None for an administrator.

        Raises:
            NotFound: no such file of this owner.
        """
        stem = filename.rpartition(".")[0]
        key, _, kind = stem.partition("-")
        query = select(Image).where(Image.key == key)
        if owner_id is not None:
            query = query.where(Image.owner_id == owner_id)
        image = None if "\0" in key else self.session.scalar(query)  # PostgreSQL takes no NUL
        names = (image.original_name, image.display_name, image.thumbnail_name) if image else ()
        if image is None or filename not in names:
            raise NotFound(NO_PICTURE)
        storage_key = image.storage_keys[names.index(filename)]
        try:
            size = self.storage.size(storage_key)
            stream = self.storage.open(storage_key)
        except FileNotFoundError:
            raise NotFound(N_("The stored file of this picture is gone.")) from None
        original = filename == image.original_name
        return StoredFile(
            stream,
            size,
            image.media_type if original else "image/webp",
            f"{image.sha256[:32]}{kind}",
            image.title if original else filename,
            original,
        )

    def read_original(self, image: Image) -> bytes:
        """The untouched bytes of the upload.

        Raises:
            NotFound: the file is gone from the storage.
        """
        try:
            with self.storage.open(image.original_key) as file:
                return file.read()
        except FileNotFoundError:
            raise NotFound(N_("The stored file of this picture is gone.")) from None

    # -- delete ----------------------------------------------------------------------------

    def delete_owned(self, owner_id: int, image_id: int) -> None:
        """Delete one picture of an owner for good.

        Raises:
            NotFound: no such picture of this owner.
        """
        require_picture(self.session, image_id, owner_id)
        self.delete([image_id])

    def delete(self, image_ids: Iterable[int]) -> int:
        """Delete pictures with their boxes, tag links and files; the number that existed."""
        images = self.session.scalars(select(Image).where(Image.id.in_(list(image_ids)))).all()
        keys = [key for image in images for key in image.storage_keys]
        for image in images:
            self.session.delete(image)
        self.session.commit()
        self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not
        return len(images)


def _not_stored() -> InvalidImage:
    return InvalidImage(
        "not_stored",
        N_("The server could not keep this file; its disk may be full."),
    )


def _duplicate() -> InvalidImage:
    return InvalidImage("duplicate", N_("You have uploaded this picture already."))
