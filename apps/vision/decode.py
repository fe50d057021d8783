"""Bytes to pictures: sniffing, limits, orientation and the derivatives that pages show."""

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from apps.errors import InvalidImage, N_

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
ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC"
DISPLAY_SIDE = 2048  # pixels, longest side
THUMBNAIL_SIDE = 384

# A full decode of a large picture takes hundreds of megabytes; this bounds how many at once.
_decoding = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright RGB picture and what its file was."""

    picture: Image.Image
    extension: str
    media_type: str


def decode(data: bytes, max_pixels: int | None = None) -> Decoded:
    """Read any accepted file as an upright RGB picture (EXIF orientation applied, first frame).

    Args:
        data: the whole file.
        max_pixels: largest width x height; checked on the header, before any pixel is decoded.

    Raises:
        InvalidImage: code ``not_a_picture``, ``too_many_pixels`` or ``truncated``.
    """
    file = _open(data)
    extension, media_type = FORMATS[file.format or ""]
    if max_pixels is not None and file.width * file.height > max_pixels:
        raise InvalidImage(
            "too_many_pixels",
            N_("The picture has %(width)s × %(height)s pixels; at most %(limit)s megapixels fit."),
            width=file.width,
            height=file.height,
            limit=round(max_pixels / 1e6, 1),
        )
    with _decoding:
        picture = _guarded(lambda: _upright_rgb(file))
    return Decoded(picture, extension, media_type)


def _open(data: bytes) -> Image.Image:
    """The header alone; the name and the declared type of the upload play no part."""
    if not data:
        raise InvalidImage("not_a_picture", N_("The file is empty."))
    try:
        return Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f != "MPO"])
    except UnidentifiedImageError:
        raise InvalidImage(
            "not_a_picture",
            N_("This is not a picture that Sightbox can read (%(accepted)s)."),
            accepted=ACCEPTED,
        ) from None
    except Exception as error:  # a hostile header can raise nearly anything inside a plug-in
        raise _damaged(error) from error


def _guarded(work: Callable[[], Image.Image]) -> Image.Image:
    try:
        return work()
    except Exception as error:  # as above: SyntaxError, struct.error, EOFError, OSError, ...
        raise _damaged(error) from error


def _damaged(error: Exception) -> InvalidImage:
    return InvalidImage(
        "truncated", N_("The picture is cut short or damaged. Copy it again from its source.")
    )


def _upright_rgb(file: Image.Image) -> Image.Image:
    file.load()
    return flatten(ImageOps.exif_transpose(file))


def flatten(picture: Image.Image) -> Image.Image:
    """Any mode to RGB: transparency over white, 16-bit and float scaled to 8 bits."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith(("I", "F")):
        return _to_8_bit(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Pillow clips these modes at 255 when it converts, which turns 16-bit scans white."""
    wide = picture.convert("F")
    low, high = wide.getextrema()
    if not isinstance(low, float) or not isinstance(high, float):
        raise ValueError("a grey picture has one pair of extremes")
    top = 65535.0 if 255.0 < high <= 65535.0 and low >= 0.0 else max(high, 1.0)
    return wide.point(lambda value: value * (255.0 / top) + 0.0).convert("L")


def encode_webp(picture: Image.Image, side: int, quality: int) -> bytes:
    """``picture`` as WebP with its longest side at most ``side`` pixels; carries no EXIF."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.info.clear()  # a saved picture would otherwise inherit EXIF and XMP from the original
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def derivatives(picture: Image.Image) -> tuple[bytes, bytes]:
    """The display and the thumbnail file of an upright RGB ``picture``."""
    with _decoding:
        return (
            encode_webp(picture, DISPLAY_SIDE, quality=86),
            encode_webp(picture, THUMBNAIL_SIDE, quality=80),
        )


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def safe_title(name: str | None, limit: int = 120) -> str:
    """A file name for people to read: no folders, no control or bidi characters, bounded.

    It is never part of a path on disk. The extension survives shortening.
    """
    text = _CONTROL.sub("", (name or "").replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    if not text:
        return "picture"
    if len(text) <= limit:
        return text
    stem, dot, extension = text.rpartition(".")
    if not dot or len(extension) > 10:
        return text[:limit]
    return f"{stem[: limit - len(extension) - 2]}….{extension}"
