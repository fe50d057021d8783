"""Bytes to pictures: sniffing, limits, orientation and the derivatives that pages show."""

import io
import math
import re
import threading
from dataclasses import dataclass

import pillow_heif
from PIL import ExifTags, Image, UnidentifiedImageError

from apps.errors import N_, InvalidImage
from apps.vision.bombs import DECODE_READS, Frugal, refuse_bombs, refuse_slow

pillow_heif.register_heif_opener()

# Our own guard in sniff() reads the header and answers with a text; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None

# Pillow's name of the format -> extension and media type of the stored original. MPO is the
# multi-picture JPEG of many phones: its first frame is an ordinary JPEG.
FORMATS: dict[str, tuple[str, str]] = {
    "JPEG": ("jpg", "image/jpeg"),
    "MPO": ("jpg", "image/jpeg"),
    "PNG": ("png", "image/png"),
    "WEBP": ("webp", "image/webp"),
    "GIF": ("gif", "image/gif"),
    "BMP": ("bmp", "image/bmp"),
    "TIFF": ("tif", "image/tiff"),
    "AVIF": ("avif", "image/avif"),
    "HEIF": ("heic", "image/heic"),
}
MEDIA_TYPES = dict(FORMATS.values())  # by extension
COPY_EXTENSION = "jpg"  # of derivatives
ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC"
DISPLAY_SIDE = 2048  # pixels, longest side
THUMBNAIL_SIDE = 384
TILE_PIXELS = 1 << 24  # libtiff unpacks whole tiles, even of a picture that is smaller than one

# EXIF orientation -> what makes the picture upright; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
# Brightest possible value of grey pictures with more than 8 bits: 8-bit and 12-bit cameras also
# write such files, which would be nearly black if white were always 65535.
_WHITES = (255.0, 4095.0, 65535.0)

# A full decode of a large picture takes hundreds of megabytes; this bounds how many at once.
heavy_work = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright RGB picture and what its file was."""

    picture: Image.Image
    size: tuple[int, int]  # (width, height) of the upright original; see decode(side=)
    extension: str
    media_type: str
    turn: int = 1  # EXIF orientation of the file, 1 to 8, which made it upright


def reduction(size: tuple[int, int], side: int) -> int:
    """The largest whole factor that leaves ``side`` pixels on the longest side; at least 1."""
    return max(1, max(size) // side)


def decode(data: bytes, max_pixels: int | None = None, side: int | None = None) -> Decoded:
    """Read any accepted file as an upright RGB picture (EXIF orientation applied, first frame).

    Args:
        data: the whole file.
        max_pixels: largest width x height; checked on the header, before any pixel is decoded.
        side: pixels that the longest side needs to have. JPEGs that are at least twice as large
            are unpacked at a half, a quarter or an eighth of their size, which is much faster
            and takes much less memory.

    Raises:
        InvalidImage: code ``not_a_picture``, ``too_many_pixels`` or ``truncated``.
    """
    source = Frugal(data)
    file = _open(data, source)
    extension, media_type = FORMATS[file.format or ""]
    refuse_too_many_pixels(file.size, max_pixels)
    source.reads_left = DECODE_READS
    with heavy_work:
        try:
            size = file.size
            refuse_slow(data, size)
            if side and (factor := reduction(size, side)) > 1:
                file.draft("RGB", (size[0] // factor, size[1] // factor))
            full = file.size == size
            picture, turn = _upright_rgb(file)
        except Exception as error:  # SyntaxError, struct.error, EOFError, OSError, ...
            raise _damaged() from error
    refuse_too_many_pixels(picture.size, max_pixels)  # a HEIC header may understate
    if full:
        size = picture.size
    elif (picture.width < picture.height) != (size[0] < size[1]):  # turned upright
        size = size[1], size[0]
    return Decoded(picture, size, extension, media_type, turn)


def upright_size(data: bytes) -> tuple[int, int]:
    """(width, height) that :func:`decode` would give, from the header alone.

    Raises:
        InvalidImage: code ``not_a_picture`` or ``truncated``.
    """
    file = _open(data, Frugal(data))
    # Pillow gives the size of a turned TIFF as of the upright picture.
    turned = file.format != "TIFF" and _orientation(file) in _SIDEWAYS
    return (file.height, file.width) if turned else file.size


def header(data: bytes) -> Image.Image:
    """The file as Pillow sees it before any pixel is decoded: for what is written beside them.

    Raises:
        InvalidImage: code ``not_a_picture`` or ``truncated``.
    """
    return _open(data, Frugal(data))


def orientation(data: bytes) -> int:
    """The EXIF orientation of a file, 1 to 8, that :func:`decode` has turned upright.

    Raises:
        InvalidImage: code ``not_a_picture`` or ``truncated``.
    """
    return _orientation(header(data))


def _open(data: bytes, source: Frugal) -> Image.Image:
    """The header alone; the name and the declared type of the upload play no part."""
    if not data:
        raise InvalidImage("not_a_picture", N_("The file is empty."))
    try:
        refuse_bombs(data)
        return Image.open(source, formats=[f for f in FORMATS if f != "MPO"])
    except UnidentifiedImageError as error:
        if _looks_known(data[:16]):
            raise _damaged() from error
        raise InvalidImage(
            "not_a_picture",
            N_("This is not a picture that Sightbox can read (%(accepted)s)."),
            accepted=ACCEPTED,
        ) from None
    except Exception as error:  # a hostile header can raise nearly anything inside a plug-in
        raise _damaged() from error


def _looks_known(start: bytes) -> bool:
    """Whether the first 16 bytes promise an accepted format; "BM" alone is no promise."""
    checks = [Image.OPEN[f][1] for f in FORMATS if f in Image.OPEN and f not in ("BMP", "MPO")]
    return any(check is not None and check(start) is True for check in checks)


def refuse_too_many_pixels(size: tuple[int, int], max_pixels: int | None) -> None:
    """Raise InvalidImage, code ``too_many_pixels``, if a picture is larger than that."""
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise InvalidImage(
            "too_many_pixels",
            N_("The picture has %(width)s × %(height)s pixels; at most %(limit)s megapixels fit."),
            width=size[0],
            height=size[1],
            limit=round(max_pixels / 1e6, 1),
        )


def _damaged() -> InvalidImage:
    return InvalidImage(
        "truncated", N_("The picture is cut short or damaged. Copy it again from its source.")
    )


def _upright_rgb(file: Image.Image) -> tuple[Image.Image, int]:
    """The picture, and the EXIF orientation that it had."""
    _refuse_giant_tiles(file)
    before = _orientation(file)
    file.load()
    if 0 in file.size:
        raise ValueError("no pixels")
    turn = _orientation(file)  # of a TIFF, Pillow turns it upright itself, and forgets that
    return flatten(file if turn == 1 else file.transpose(_TURNS[turn])), max(turn, before)


def _refuse_giant_tiles(file: Image.Image) -> None:
    tags = getattr(file, "tag_v2", {})
    tile = tags.get(ExifTags.Base.TileWidth, 0) * tags.get(ExifTags.Base.TileLength, 0)
    if tile > max(TILE_PIXELS, file.width * file.height):
        raise ValueError("the tiles of a TIFF are far larger than its picture")


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the EXIF data is damaged, as the pixels are good."""
    try:
        found = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as hostile as any header
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def flatten(picture: Image.Image) -> Image.Image:
    """Any mode to RGB: transparency over white, 16-bit and float scaled to 8 bits."""
    if picture.mode.startswith(("I", "F")):
        return _to_8_bit(picture).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Pillow clips these modes at 255 when it converts, which turns 16-bit scans white."""
    wide = picture.convert("F")
    _, high = wide.getextrema()
    if not isinstance(high, float):
        raise ValueError("a grey picture has one pair of extremes")
    whites = (1.0, *_WHITES) if picture.mode == "F" else _WHITES
    top = next((white for white in whites if high <= white), high)
    scale = 255.0 / (top if math.isfinite(top) else 65535.0)
    return wide.point(lambda value: value * scale + 0.5).convert("L")


def shrunk(
    picture: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """A copy of an RGB ``picture`` with its longest side at most ``side`` pixels, and no more."""
    small = picture.copy()
    small.thumbnail((side, side), resample)
    small.info.clear()  # else EXIF, XMP and comments of the original go along
    return small


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def derivatives(picture: Image.Image) -> tuple[bytes, bytes]:
    """The display and the thumbnail file (JPEG) of an upright RGB ``picture``."""
    with heavy_work:
        display = shrunk(picture, DISPLAY_SIDE)
        # Hamming looks as sharp at this size and takes a third of the time.
        thumbnail = shrunk(display, THUMBNAIL_SIDE, Image.Resampling.HAMMING)
        return encode_jpeg(display, quality=88), encode_jpeg(thumbnail, quality=82)


# Control, bidirectional, zero-width and line separating characters, lone surrogates and tags:
# they hide what a name says, or break the lines of a log.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_EDGES = re.compile(r"^[\s.]+|[\s.]+$")


def safe_title(name: str | None, limit: int = 120) -> str:
    """A file name for people to read: no folders, no control or bidi characters, bounded.

    It is never part of a path on disk. The extension survives shortening.
    """
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    text = _EDGES.sub("", _HIDDEN.sub("", last))
    if not text:
        return "picture"
    if len(text) <= limit:
        return text
    stem, dot, extension = text.rpartition(".")
    if not dot or len(extension) > 10:
        return text[:limit]
    return f"{stem[: limit - len(extension) - 2]}….{extension}"
