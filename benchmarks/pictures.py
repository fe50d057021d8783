"""Photographs to measure with: real ones where there are some, else drawn ones."""

import io
import os
from pathlib import Path

from PIL import Image

from apps.config import ROOT
from tests.smear import smear

DATA = Path(os.environ.get("SIGHTBOX_TEST_DATA", ROOT.parent / "shared" / "data"))


def files(folder: str | None = None) -> list[bytes]:
    """JPEG files of about 640 x 480 pixels, each different."""
    photos = (Path(folder) if folder else DATA) / "photos"
    if photos.is_dir():
        return [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    return [_jpeg(smear(seed)[0]) for seed in range(26)]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.resize((640, 480)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
