"""Clips in, frames out: sniffing, limits, rotation. Everything that knows PyAV is here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from apps.errors import N_, DetectionError, InvalidImage
from apps.vision.prepare import DETAIL_SIDE

# What a file is called -> FFmpeg's demuxer, and the media type that pages are told. The demuxer is
# always named: FFmpeg's own guessing also knows lists of addresses (HLS, concat), which it opens.
CONTAINERS: dict[str, tuple[str, str]] = {
    "mp4": ("mov", "video/mp4"),
    "mov": ("mov", "video/quicktime"),
    "webm": ("matroska", "video/webm"),
    "mkv": ("matroska", "video/x-matroska"),
    "avi": ("avi", "video/x-msvideo"),
    "ts": ("mpegts", "video/mp2t"),
}
ACCEPTED_CLIPS = "MP4, MOV, WebM, MKV, AVI, MPEG-TS"
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PROBE = {"probesize": "20000000", "analyzeduration": "10000000"}  # bytes, microseconds
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
NO_PICTURE = N_("The clip holds no picture that can be decoded.")
DAMAGED = N_("The clip is cut short or damaged. Copy it again from its source.")
MOST_STRETCH = 4  # of pixels that are not square; beyond it the file is wrong
MOST_DAMAGE = 200  # packets in a row that no frame can be made of
THREADS = 2  # of one decoder: the detector needs the cores more


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the header of a clip and its first frame say."""

    extension: str
    media_type: str
    size: tuple[int, int]  # (width, height), upright, in square pixels
    duration_ms: int
    frames: int  # as the header says, or as its rate and length make likely
    first: Image.Image  # upright RGB


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame that was asked for."""

    number: int  # from 0, in the order of time
    time_ms: int  # from the beginning of the clip
    picture: Image.Image  # upright RGB; at most DETAIL_SIDE pixels on its longest side
    size: tuple[int, int]  # (width, height) in full


def sniff(start: bytes) -> str | None:
    """The extension that the first 400 bytes of a file call for; None: no clip that is read here.

    The name and the declared type of the upload play no part.
    """
    if start[4:8] in _ATOMS:
        return "mov" if start[4:8] != b"ftyp" or start[8:12] == b"qt  " else "mp4"
    if start.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if b"webm" in start[:64] else "mkv"
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "avi"
    if len(start) > 376 and start[0] == start[188] == start[376] == 0x47:
        return "ts"
    return None


def read_facts(file: BinaryIO, max_pixels: int, max_seconds: float) -> ClipFacts:
    """Check a clip: its header first, then one frame.

    Raises:
        InvalidImage: code ``not_a_clip``, ``no_picture``, ``too_many_pixels``, ``too_long`` or
            ``truncated``.
    """
    file.seek(0)
    extension = sniff(file.read(400))
    if extension is None:
        raise InvalidImage(
            "not_a_clip",
            N_("This is not a clip that Sightbox can read (%(accepted)s)."),
            accepted=ACCEPTED_CLIPS,
        )
    try:
        with _opened(file, extension, max_pixels) as (container, stream):
            _refuse_pixels(stream.width, stream.height, max_pixels)
            duration = _duration(container, stream)
            if duration is None:  # recorded live, by a browser for example
                duration = _measured(file, extension, max_pixels)
            if duration > max_seconds:
                raise InvalidImage(
                    "too_long",
                    N_("The clip is %(length)s s long; at most %(limit)s s fit."),
                    length=round(duration),
                    limit=round(max_seconds),
                )
            frame = next(_frames(container, stream), None)
            if frame is None:
                raise _no_picture()
            picture = _upright(frame, stream)
            size = _upright_size(frame, stream)
            _refuse_pixels(*size, max_pixels)
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            frames = stream.frames or max(1, round(duration * rate))
    except av.FFmpegError as error:
        raise InvalidImage("truncated", DAMAGED) from error
    milliseconds = max(1, round(1000 * duration))
    media_type = CONTAINERS[extension][1]
    return ClipFacts(extension, media_type, size, milliseconds, frames, picture)


def frames_of(
    file: BinaryIO,
    extension: str,
    every: int,
    max_pixels: int,
    after: tuple[int, int] | None = None,
) -> Iterator[ClipFrame]:
    """One frame of so many: those whose number is a multiple of ``every``.

    Args:
        after: (number, time_ms) of the last frame that is known already; those up to it are left
            out, and where the file allows it they are not decoded either.

    Raises:
        DetectionError: the file holds no frame that can be decoded.
        OSError: the file cannot be read.
    """
    try:
        with _opened(file, extension, max_pixels) as (container, stream):
            start, frames = _from(container, stream, after)
            number = start - 1
            for number, frame in enumerate(frames, start):
                if number % every == 0 and (after is None or number > after[0]):
                    rate = float(stream.average_rate or stream.guessed_rate or 25)
                    time_ms = _time_ms(frame, container)
                    if time_ms is None:  # a file that gives no times
                        time_ms = round(1000 * number / rate)
                    picture = _upright(frame, stream)
                    yield ClipFrame(number, time_ms, picture, _upright_size(frame, stream))
            if number < 0:
                raise DetectionError(NO_PICTURE)
    except av.FFmpegError as error:
        _refuse(error)


def frame_at(file: BinaryIO, extension: str, time_ms: int, max_pixels: int) -> Image.Image | None:
    """The upright frame shown at ``time_ms``; None if the clip ends before it.

    Raises:
        DetectionError: the file is damaged.
        OSError: the file cannot be read.
    """
    try:
        with _opened(file, extension, max_pixels) as (container, stream):
            _seek(container, time_ms)
            for frame in _frames(container, stream):
                shown = _time_ms(frame, container)
                if shown is not None and shown >= time_ms:
                    return _upright(frame, stream)
    except av.FFmpegError as error:
        _refuse(error)
    return None


# -- PyAV ----------------------------------------------------------------------------------


@contextmanager
def _opened(
    file: BinaryIO, extension: str, max_pixels: int
) -> Iterator[tuple[InputContainer, VideoStream]]:
    file.seek(0)
    with av.open(
        file,
        "r",
        format=CONTAINERS[extension][0],
        container_options=_PROBE,
        io_open=_no_other_file,
    ) as container:
        if not container.streams.video:
            raise _no_picture()
        stream = container.streams.video[0]
        context = stream.codec_context
        context.options = {"max_pixels": str(max_pixels)}
        context.thread_type, context.thread_count = "AUTO", THREADS
        yield container, stream


def _no_other_file(url: str, _flags: int, _options: dict[str, Any]) -> NoReturn:
    """A clip may name other files; none is opened."""
    raise OSError(f"a clip asked for another file: {url[:80]!r}")


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every frame that can be decoded; damaged parts are passed over, as players do."""
    damaged = 0
    packets = container.demux(stream)
    while damaged < MOST_DAMAGE:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            found = packet.decode()
        except av.EOFError:
            return
        except av.InvalidDataError:
            damaged += 1
            continue
        damaged = 0
        for frame in found:
            if isinstance(frame, VideoFrame):
                yield frame


def _from(
    container: InputContainer, stream: VideoStream, after: tuple[int, int] | None
) -> tuple[int, Iterator[VideoFrame]]:
    """The number of the next frame, and the frames from it on."""
    if after is not None:
        _seek(container, after[1])
        frames = _frames(container, stream)
        times = (_time_ms(frame, container) for frame in frames)
        found = next((time for time in times if time is None or time >= after[1]), None)
        if found == after[1]:
            return after[0] + 1, frames
        container.seek(0)  # nothing tells which frame this is
    return 0, _frames(container, stream)


def _seek(container: InputContainer, time_ms: int) -> None:
    """To the last frame at or before ``time_ms`` that needs none before it."""
    try:
        container.seek(1000 * time_ms + (container.start_time or 0))
    except av.FFmpegError:  # a file without an index
        container.seek(0)


def _time_ms(frame: VideoFrame, container: InputContainer) -> int | None:
    if frame.pts is None:
        return None
    return max(0, round(1000 * frame.time - (container.start_time or 0) / 1000))


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds, as the header says."""
    if container.duration and container.duration > 0:
        return container.duration / 1_000_000
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def _measured(file: BinaryIO, extension: str, max_pixels: int) -> float:
    """Seconds from the first to the last packet: the whole file is read, nothing is decoded."""
    with _opened(file, extension, max_pixels) as (container, stream):
        times = [p.pts for p in container.demux(stream) if p.pts is not None]
        base = stream.time_base
    if not times or base is None:
        raise _no_picture()
    return float((max(times) - min(times)) * base)


def _upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    width, height = round(frame.width * _stretch(stream)), frame.height
    return (height, width) if frame.rotation % 180 == 90 else (width, height)


def _stretch(stream: VideoStream) -> float:
    """Width of a pixel by its height: old cameras made pixels that are not square."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not 1 / MOST_STRETCH <= ratio <= MOST_STRETCH:
        return 1.0
    return float(ratio)


def _upright(frame: VideoFrame, stream: VideoStream) -> Image.Image:
    """RGB, as people see the frame; at most DETAIL_SIDE pixels on its longest side."""
    width, height = round(frame.width * _stretch(stream)), frame.height
    scale = min(1.0, DETAIL_SIDE / max(width, height))
    to_image: Callable[..., Image.Image] = frame.to_image
    picture = to_image(width=max(1, round(width * scale)), height=max(1, round(height * scale)))
    turn = _TURNS.get(frame.rotation % 360)
    return picture if turn is None else picture.transpose(turn)


def _refuse_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise InvalidImage(
            "too_many_pixels",
            N_("The clip has %(width)s × %(height)s pixels; at most %(limit)s megapixels fit."),
            width=width,
            height=height,
            limit=round(most / 1e6, 1),
        )


def _no_picture() -> InvalidImage:
    return InvalidImage("no_picture", NO_PICTURE)


def _refuse(error: av.FFmpegError) -> NoReturn:
    if isinstance(error, OSError):  # of the storage, not of the clip
        raise error
    raise DetectionError(DAMAGED) from error
