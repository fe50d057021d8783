"""Clips: upload, look up, read, ask again, cancel, delete. Looking at them: video_detections."""

import hashlib
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image as Pictures
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, AppError, Conflict, InvalidImage, InvalidInput, NotFound, Unavailable
from apps.jobs import Queue
from apps.models import Video, VideoFrame, VideoStatus, utcnow
from apps.services.images import StoredFile, StoredLink, storage_errors
from apps.services.keeping import Keeper, require_small
from apps.services.models import ModelService
from apps.storage import Storage
from apps.vision.clips import ClipFacts, frame_at, read_facts
from apps.vision.decode import encode_jpeg, heavy_work, safe_title, shrunk

NO_CLIP = N_("There is no such clip.")
GONE = N_("The stored file of this clip is gone.")
AWAY = N_("The storage of the clips does not answer. Try again in a moment.")
BLOCK = 2**20  # bytes read at a time
MAX_EVERY = 1000
MOST_LOOKS = 36_000  # frames of one clip that are looked at, each a row
POSTER_SIDE = 640  # pixels, longest side
FRAME_SIDE = 1280
AGAIN = {
    "status": VideoStatus.QUEUED, "attempts": 0, "error": None, "cancelled": False,
    "progress": 0.0, "model": None, "finished_at": None,
}  # fmt: skip


@dataclass(frozen=True)
class ClipLimits:
    file_bytes: int
    seconds: float
    pixels: int  # width x height


@dataclass(frozen=True)
class VideoService:
    """What people do with clips."""

    session: scoped_session[Session]
    storage: Storage
    queue: Queue
    models: ModelService
    limits: ClipLimits
    keeper: Keeper

    # -- upload ----------------------------------------------------------------------------

    def upload(
        self, owner_id: int, name: str | None, file: BinaryIO, every: int, model: str | None = None
    ) -> Video:
        """Check, store and queue one clip; the order is that of UploadService.upload.

        Args:
            file: seekable; it is read in blocks.
            every: one frame of so many is looked at.
            model: which detector looks; None for the default one.

        Raises:
            InvalidImage: code ``too_large``, ``duplicate``, ``over_quota``, ``not_stored`` or one
                of read_facts.
            InvalidInput: ``every`` is out of range, or would leave too many frames.
            NotFound: no such model.
        """
        self._refuse_request(every, model)
        size = file.seek(0, os.SEEK_END)
        require_small(size, self.limits.file_bytes)
        digest = _digest(file)
        same = select(Video.id).where(Video.owner_id == owner_id, Video.sha256 == digest)
        if self.session.scalar(same) is not None:
            raise _duplicate()
        self.keeper.require_room(owner_id, size)
        self.session.commit()  # reading is slow: no transaction stays open meanwhile
        facts = read_facts(file, self.limits.pixels, self.limits.seconds)
        _refuse_looks(facts.frames, every)
        video = Video(
            owner_id=owner_id,
            title=safe_title(name),
            key=uuid.uuid4().hex,
            extension=facts.extension,
            media_type=facts.media_type,
            sha256=digest,
            bytes=size,
            width=facts.size[0],
            height=facts.size[1],
            duration_ms=facts.duration_ms,
            frames=facts.frames,
            every=every,
            wanted_model=model,
        )
        self._store(video, file, facts)
        self.queue.enqueue(video.id)
        return video

    def _refuse_request(self, every: int, model: str | None) -> None:
        if not 1 <= every <= MAX_EVERY:
            raise InvalidInput(
                N_("Choose a whole number from 1 to %(most)s: every how many frames to look."),
                most=MAX_EVERY,
            )
        if model is not None:
            self.models.require_ready(model)

    def _store(self, video: Video, file: BinaryIO, facts: ClipFacts) -> None:
        poster = encode_jpeg(shrunk(facts.first, POSTER_SIDE), quality=82)

        def put() -> None:
            file.seek(0)
            self.storage.put_file(video.file_key, file)
            self.storage.put(video.poster_key, poster)

        try:
            self.keeper.keep(video, put)
        except IntegrityError as error:  # the same file twice, at the same moment
            raise _duplicate() from error

    # -- look up ---------------------------------------------------------------------------

    def get_owned(self, owner_id: int, video_id: int) -> Video:
        """Raises NotFound if there is no such clip of this owner."""
        query = select(Video).where(Video.id == video_id, Video.owner_id == owner_id)
        video = self.session.scalar(query.execution_options(populate_existing=True))
        if video is None:
            raise NotFound(NO_CLIP)
        return video

    def mine(self, owner_id: int, ids: Iterable[int] | None = None) -> list[Video]:
        """The clips of an account, or those of ``ids`` among them, newest first."""
        query = select(Video).where(Video.owner_id == owner_id).order_by(Video.id.desc())
        if ids is not None:
            query = query.where(Video.id.in_(list(ids)))
        return list(self.session.scalars(query))

    def page(self, owner_id: int, limit: int, before: int | None = None) -> Sequence[Video]:
        """The latest clips of an account, newest first, or those before the clip ``before``."""
        query = select(Video).where(Video.owner_id == owner_id)
        if before is not None:
            query = query.where(Video.id < before)
        return self.session.scalars(query.order_by(Video.id.desc()).limit(limit)).all()

    def frames(self, video_id: int, after: int = -1, limit: int | None = None) -> list[VideoFrame]:
        """What was found, in the order of time, after frame number ``after``."""
        query = select(VideoFrame).where(VideoFrame.video_id == video_id, VideoFrame.number > after)
        return list(self.session.scalars(query.order_by(VideoFrame.number).limit(limit)))

    # -- files -----------------------------------------------------------------------------

    def open_file(self, video: Video, *, save: bool = False) -> StoredFile | StoredLink:
        """The untouched clip, or where it is; see ImageService.open_file."""
        etag = video.sha256[:32]
        return self._open(video.file_key, video.media_type, etag, video.title, save)

    def open_poster(self, video: Video) -> StoredFile | StoredLink:
        """The first frame as a JPEG."""
        etag = f"{video.sha256[:32]}poster"
        return self._open(video.poster_key, "image/jpeg", etag, "poster.jpg", False)

    def _open(
        self, key: str, media_type: str, etag: str, name: str, save: bool
    ) -> StoredFile | StoredLink:
        self.session.commit()  # no transaction stays open while the storage is asked
        with storage_errors(GONE, AWAY):
            link = self.storage.link(key, media_type, name if save else None)
            if link is not None:
                return StoredLink(link)
            stream = self.storage.open(key)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        return StoredFile(stream, size, media_type, etag, name, save)

    def frame_picture(self, video: Video, number: int) -> bytes:
        """A frame that was looked at, as a JPEG of at most FRAME_SIDE pixels.

        Raises:
            NotFound: that frame was not looked at, or the file is gone.
            Unavailable: the storage does not answer.
        """
        frame = self.session.get(VideoFrame, (video.id, number))
        if frame is None:
            raise NotFound(N_("This frame of the clip was not looked at."))
        key, extension, time_ms = video.file_key, video.extension, frame.time_ms
        self.session.commit()  # as in _open
        with heavy_work, storage_errors(GONE, AWAY), self.storage.open(key) as file:
            try:
                picture: Pictures.Image | None = frame_at(
                    file, extension, time_ms, self.limits.pixels
                )
            except AppError as error:
                raise Unavailable(error.message, **error.params) from error
        if picture is None:
            raise NotFound(N_("This frame of the clip was not looked at."))
        return encode_jpeg(shrunk(picture, FRAME_SIDE), quality=85)

    # -- change ----------------------------------------------------------------------------

    def again(self, owner_id: int, video_id: int, every: int, model: str | None = None) -> None:
        """Look at a settled clip once more; what was found before goes.

        Raises:
            NotFound: no such clip of this owner, or no such model.
            InvalidInput: as ``upload``, or the weights of ``model`` are not there.
            Conflict: it waits or runs already.
        """
        video = self.get_owned(owner_id, video_id)
        self._refuse_request(every, model)
        _refuse_looks(video.frames or 0, every)
        settled = Video.status.not_in((VideoStatus.QUEUED, VideoStatus.RUNNING))
        values = AGAIN | {"every": every, "wanted_model": model, "queued_at": utcnow()}
        if not self._change(Video.id == video_id, settled, **values):
            raise Conflict(N_("This clip is being looked at already."))
        self.session.execute(delete(VideoFrame).where(VideoFrame.video_id == video_id))
        self.session.commit()
        self.queue.enqueue(video_id)

    def cancel(self, owner_id: int, video_id: int) -> bool:
        """Stop looking at a clip; what was found so far stays. False: it had ended already.

        Raises:
            NotFound: no such clip of this owner.
        """
        self.get_owned(owner_id, video_id)
        mine = Video.id == video_id
        ended = {"status": VideoStatus.CANCELLED, "cancelled": True, "finished_at": utcnow()}
        done = self._change(mine, Video.status == VideoStatus.QUEUED, **ended) or self._change(
            mine, Video.status == VideoStatus.RUNNING, cancelled=True
        )
        self.session.commit()
        return done

    def _change(self, *where: ColumnElement[bool], **values: object) -> bool:
        """Does not commit; whether a row was changed."""
        statement = update(Video).where(*where).values(**values).returning(Video.id)
        options = {"synchronize_session": False}
        return self.session.scalar(statement.execution_options(**options)) is not None

    def delete_owned(self, owner_id: int, video_id: int) -> None:
        """Delete a clip with all that was found in it; a worker at it finds its claim gone.

        Raises:
            NotFound: no such clip of this owner.
        """
        keys = self.get_owned(owner_id, video_id).storage_keys
        self.session.execute(delete(Video).where(Video.id == video_id))
        self.session.commit()
        self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _refuse_looks(frames: int, every: int) -> None:
    looks = -(-frames // every)
    if looks > MOST_LOOKS:
        raise InvalidInput(
            N_(
                "That would be %(looks)s frames to look at; at most %(most)s fit. Look at every "
                "%(every)sth frame or fewer."
            ),
            looks=looks,
            most=MOST_LOOKS,
            every=-(-frames // MOST_LOOKS),
        )


def _duplicate() -> InvalidImage:
    return InvalidImage("duplicate", N_("You have uploaded this clip already."))
