"""A picture that would come from an archive, and what is said of several formats."""

from collections.abc import Callable
from dataclasses import dataclass

from apps.errors import N_
from apps.services.native import NativePicture
from apps.vision.formats.dataset import Corners

NATIVE = "native"  # the kind that is restored as it was
TWICE = N_("The archive holds this picture twice, also as “%(name)s”. This one is left out.")
HERE = N_("You have this picture already. It is left as it is.")

Progress = Callable[[float], None]  # hears how much is done, 0 to 1; may raise to end it


@dataclass(slots=True)
class Planned:
    """A picture that would come."""

    file: str  # its name in the archive
    title: str
    sha256: str
    bytes: int
    boxes: list[tuple[str, Corners]]  # label, and corners in pixels of the upright picture
    record: NativePicture | None = None  # of a native archive: without its boxes and tags
    count: int = 0  # boxes of the record
