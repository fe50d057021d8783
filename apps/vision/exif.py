"""What a camera wrote into a file beside the pixels; never where the picture was taken."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags

from apps.vision.decode import header

MAX_TEXT = 80  # characters
_TAGS = ExifTags.Base


@dataclass(frozen=True)
class CameraFacts:
    """Texts for people; None for what the file does not say."""

    camera: str | None = None
    lens: str | None = None
    taken_at: str | None = None  # ISO 8601 without a zone, as the camera's clock showed it
    exposure: str | None = None  # "1/250 s, f/2.8, ISO 100, 50 mm"
    position: bool = False  # whether the file says where it was taken


def camera_facts(data: bytes) -> CameraFacts:
    """The facts in a file's EXIF block; empty for a file without one, or with a broken one."""
    try:
        with header(data) as file:
            exif = file.getexif()
            tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
            position = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
    except Exception:  # InvalidImage; and a hostile block can raise nearly anything
        return CameraFacts()
    return CameraFacts(
        camera=_camera(_text(tags.get(_TAGS.Make)), _text(tags.get(_TAGS.Model))),
        lens=_text(tags.get(_TAGS.LensModel)),
        taken_at=_time(_text(tags.get(_TAGS.DateTimeOriginal) or tags.get(_TAGS.DateTime))),
        exposure=_exposure(tags),
        position=position,
    )


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    text = "".join(c for c in value.split("\0")[0] if c.isprintable()).strip()
    return text[:MAX_TEXT] or None


def _camera(make: str | None, model: str | None) -> str | None:
    """Many makers repeat their name in the model's."""
    if make and model and model.casefold().startswith(make.split()[0].casefold()):
        return model
    return " ".join(part for part in (make, model) if part) or None


def _time(text: str | None) -> str | None:
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007
    except ValueError:
        return None


def _exposure(tags: dict[int, Any]) -> str | None:
    seconds = _number(tags.get(_TAGS.ExposureTime))
    aperture = _number(tags.get(_TAGS.FNumber))
    iso = tags.get(_TAGS.ISOSpeedRatings)
    iso = _number(iso[0] if isinstance(iso, tuple) and iso else iso)
    length = _number(tags.get(_TAGS.FocalLength))
    parts = []
    if seconds:
        parts.append(f"1/{round(1 / seconds)} s" if seconds < 0.4 else f"{seconds:.3g} s")
    if aperture:
        parts.append(f"f/{aperture:.3g}")
    if iso:
        parts.append(f"ISO {iso:.0f}")
    if length:
        parts.append(f"{length:.3g} mm")
    return ", ".join(parts) or None


def _number(value: Any) -> float | None:
    """A positive number of a size that a camera may have; rationals may divide by nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and 1e-6 < number < 1e7 else None
