"""New pictures: what is accepted, and how it is kept."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, DuplicateImage, InvalidImage
from apps.jobs import Queue
from apps.models import Image, ImageStatus
from apps.services.archives import Unpacker, is_archive
from apps.services.keeping import Keeper, require_small
from apps.storage import Storage
from apps.vision.decode import (
    COPY_EXTENSION,
    DISPLAY_SIDE,
    Decoded,
    decode,
    derivatives,
    safe_title,
)
from apps.vision.handover import Handover

Observer = Callable[[str], None]  # told of each file: "stored", or the code of its error


def _unobserved(_result: str) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Limits:
    file_bytes: int
    image_pixels: int
    archive_files: int = 2000  # in the archives of one request
    archive_bytes: int = 4 * 2**30  # of them all, unpacked


class Readable(Protocol):
    """Gives its first bytes: an uploaded file, or a member of an archive."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one file of an upload: a picture or an error, never both."""

    title: str
    image: Image | None = None
    error: AppError | None = None
    archive: str | None = None  # the title of the ZIP file that it came in


def read_upload(stream: Readable, most: int) -> bytes:
    """The bytes of one file, of which there are at most ``most``.

    Raises:
        InvalidImage: code ``too_large``.
    """
    data = stream.read(most + 1)
    require_small(len(data), most)
    return data


@dataclass(frozen=True)
class UploadService:
    session: scoped_session[Session]
    storage: Storage
    queue: Queue
    limits: Limits
    keeper: Keeper
    observe: Observer = _unobserved
    handover: Handover = field(default_factory=lambda: Handover(limit=0))

    def upload_many(
        self, owner_id: int, files: Iterable[tuple[str | None, BinaryIO]]
    ) -> list[Outcome]:
        """Upload (name, stream) pairs; a bad file never stops the good ones.

        Of a ZIP file each member is a file of its own.
        """
        unpacker = Unpacker(self.limits.archive_files, self.limits.archive_bytes)
        outcomes: list[Outcome] = []
        for name, stream in files:
            if is_archive(stream):
                outcomes.extend(self._unpack(owner_id, name, stream, unpacker))
            else:
                outcomes.append(self._outcome(owner_id, name, stream))
        return outcomes

    def _unpack(
        self, owner_id: int, name: str | None, stream: BinaryIO, unpacker: Unpacker
    ) -> Iterator[Outcome]:
        archive = safe_title(name)
        try:
            for member in unpacker.members(stream):
                yield self._outcome(owner_id, member.name, member, archive)
        except InvalidImage as error:  # of the archive as a whole
            self.observe(error.code)
            yield Outcome(archive, error=error)

    def _outcome(
        self, owner_id: int, name: str | None, stream: Readable, archive: str | None = None
    ) -> Outcome:
        try:
            image = self.upload(owner_id, name, stream)
        except AppError as error:
            return Outcome(safe_title(name), error=error, archive=archive)
        return Outcome(image.title, image=image, archive=archive)

    def upload(self, owner_id: int, name: str | None, stream: Readable) -> Image:
        """Check, store and queue one picture.

        Order matters: files, row, commit, job. A failed commit leaves no file, and a worker never
        sees a row that may still be rolled back.

        Raises:
            InvalidImage: code ``not_a_picture``, ``truncated``, ``too_many_pixels``,
                ``too_large``, ``over_quota`` or ``duplicate`` (a DuplicateImage).
        """
        try:
            image = self._keep(owner_id, name, stream)
        except AppError as error:
            self.observe(error.code)
            raise
        self.observe("stored")
        self.queue.enqueue(image.id)
        return image

    def _keep(self, owner_id: int, name: str | None, stream: Readable) -> Image:
        data = read_upload(stream, self.limits.file_bytes)
        digest = hashlib.sha256(data).hexdigest()
        self._refuse_duplicate(owner_id, digest)
        self.keeper.require_room(owner_id, len(data))
        self.session.commit()  # decoding is slow: no transaction stays open meanwhile
        decoded = decode(data, self.limits.image_pixels, DISPLAY_SIDE)
        image = Image(
            owner_id=owner_id,
            title=safe_title(name),
            key=uuid.uuid4().hex,
            extension=decoded.extension,
            media_type=decoded.media_type,
            copy_extension=COPY_EXTENSION,
            sha256=digest,
            bytes=len(data),
            width=decoded.size[0],
            height=decoded.size[1],
            status=ImageStatus.QUEUED,
        )
        self._store(image, data, decoded)
        return image

    def _refuse_duplicate(self, owner_id: int, digest: str) -> None:
        if (twin := self._twin(owner_id, digest)) is not None:
            raise _duplicate(twin)

    def _twin(self, owner_id: int, digest: str) -> int | None:
        """The picture of the account that has the same bytes."""
        query = select(Image.id).where(Image.owner_id == owner_id, Image.sha256 == digest)
        return self.session.scalar(query)

    def _store(self, image: Image, data: bytes, decoded: Decoded) -> None:
        display, thumbnail = derivatives(decoded.picture)
        owner_id, digest, original = image.owner_id, image.sha256, image.original_key

        def put() -> None:
            for key, content in zip(image.storage_keys, (data, display, thumbnail), strict=True):
                self.storage.put(key, content)
            self.handover.put(original, decoded)

        try:
            self.keeper.keep(image, put)
        except BaseException as error:
            self.handover.take(original)
            if isinstance(error, IntegrityError):  # the same file twice, at the same moment
                raise _duplicate(self._twin(owner_id, digest)) from error
            raise


def _duplicate(twin: int | None) -> DuplicateImage:
    return DuplicateImage(twin, N_("You have uploaded this picture already."))
