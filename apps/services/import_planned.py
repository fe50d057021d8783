"""A picture that would come from an archive, and what is said of several formats."""

from collections.abc import Callable
from dataclasses import dataclass, field

from apps.errors import N_
from apps.services.native import NativePicture
from apps.vision.formats.dataset import Corners

NATIVE = "native"  # the kind that is restored as it was
TWICE = N_("The archive holds this picture twice, also as “%(name)s”. This one is left out.")
HERE = N_("You have this picture already. It is left as it is.")

Progress = Callable[[float], None]  # hears how much is done, 0 to 1; may raise to end it


@dataclass(frozen=True, slots=True)
class ModelBox:
    """A box that labels say a model found."""

    label: str
    corners: Corners  # pixels of the upright picture
    model: str
    score: float  # 0 to 1


@dataclass(slots=True)
class Planned:
    """A picture that would come."""

    file: str  # its name in the archive
    title: str
    sha256: str
    bytes: int
    boxes: list[tuple[str, Corners]]  # label, and corners in pixels of the upright picture
    found: list[ModelBox] = field(default_factory=list)  # by models, beside what people said
    models: tuple[str, ...] = ()  # that looked, also if they found nothing; the first is shown
    corrected: frozenset[Corners] = frozenset()  # of boxes, those that became of ones in found
    record: NativePicture | None = None  # of a native archive: without its boxes and tags
    count: int = 0  # boxes of the record
    count_found: int = 0  # those of models among them
