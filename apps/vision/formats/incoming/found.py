"""What the readers of sent labels find, and what they could not use."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from apps.errors import N_, AppError, InvalidInput
from apps.vision.formats.dataset import Corners

LISTED = 40  # problems of one kind that are listed with the names of their files
KINDS = 200  # of problems, each with a text of its own
MAX_BOXES = 500_000  # of one archive


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box as the labels say it, which may be anywhere or nowhere."""

    label: str
    corners: Corners  # in pixels, or in parts of the picture
    model: str | None = None  # that found it, as the labels call it; None: a person's box
    score: float = 1.0  # 0 to 1, of a model's box
    corrected: bool = False  # of a person: it is what became of a model's box


@dataclass(slots=True)
class FoundPicture:
    """A picture of the archive with the boxes that labels give it."""

    file: str  # its name in the archive
    boxes: list[FoundBox] = field(default_factory=list)
    parts: bool = False  # corners are parts of width and height (0 to 1) instead of pixels
    models: dict[str, None] = field(default_factory=dict)  # that looked, also if they found nothing
    size: tuple[int, int] = (0, 0)  # that pixels refer to, as the labels say; 0: they do not


@dataclass
class Problems:
    """What cannot come, or comes otherwise than people may think: counted, and listed in part."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # by message
    losses: int = 0  # files and boxes that are left out
    reasons: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # of label files

    def add(self, file: str, message: str, *, loss: bool = True, **params: Any) -> None:
        """Note one problem.

        Args:
            file: the name in the archive, for people.
            message: an English message id; the cause, and what becomes of it.
            loss: whether something of the archive does not come.
        """
        if message not in self.counts and len(self.counts) >= KINDS:
            return
        self.counts[message] += 1
        self.losses += loss
        if self.counts[message] <= LISTED:
            self.listed.append(
                {
                    "file": shown(file),
                    "message": message,
                    "params": {name: shown(str(value)) for name, value in params.items()},
                    "loss": loss,
                }
            )

    def note(self, file: str, error: AppError) -> None:
        """Note that ``file`` is left out because of ``error``."""
        params: dict[str, Any] = error.params
        self.add(file, error.message, **params)

    def as_json(self) -> list[dict[str, Any]]:
        """The listed ones; the last of a kind says how many more there are."""
        more = {message: count - LISTED for message, count in self.counts.items() if count > LISTED}
        last = {row["message"]: place for place, row in enumerate(self.listed)}
        return [
            row | {"more": more.get(row["message"], 0) if last[row["message"]] == place else 0}
            for place, row in enumerate(self.listed)
        ]


@dataclass
class Found:
    """Everything that an archive says."""

    kind: str  # coco, yolo, voc, csv, labelstudio
    pictures: dict[str, FoundPicture] = field(default_factory=dict)  # by name in the archive
    classes: dict[str, None] = field(default_factory=dict)  # in order, those without boxes too
    boxes: int = 0

    def picture(self, file: str) -> FoundPicture:
        """The picture of that name, which is a new one if no label named it yet."""
        return self.pictures.setdefault(file, FoundPicture(file))

    def add(
        self,
        picture: FoundPicture,
        label: str,
        corners: Corners,
        model: str | None = None,
        score: float = 1.0,
        *,
        corrected: bool = False,
    ) -> None:
        """Give ``picture`` a box; see FoundBox.

        Raises:
            InvalidInput: these are more than MAX_BOXES.
        """
        if self.boxes >= MAX_BOXES:
            raise InvalidInput(
                N_("There are more than %(limit)s boxes in this archive. Split it."),
                limit=MAX_BOXES,
            )
        label = label[:200]
        self.classes.setdefault(label)
        picture.boxes.append(FoundBox(label, corners, model, score, corrected))
        if model is not None:
            picture.models.setdefault(model)
        self.boxes += 1


def shown(text: str, most: int = 160) -> str:
    """``text`` as a page may show it: strangers' names can hold anything, and be of any length."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= most else f"{clean[: most // 2]}…{clean[-(most // 2) :]}"
