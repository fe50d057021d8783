"""The native archive: a ZIP that holds pictures with all that is known of them, exactly.

docs/export.md describes it. What is here knows neither the database nor the storage: records as
values, to JSON and back.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import IO, Any, TypeVar

from apps.errors import N_, InvalidInput
from apps.vision.formats.dataset import Corners
from apps.vision.formats.incoming.files import MAX_PARTS

T = TypeVar("T")
Line = bytes  # beside a field of that name
FORMAT = "sightbox"
VERSION = 1
MANIFEST = "sightbox.json"
PICTURES = "pictures.jsonl"
TRASH = "trash.jsonl"
ACCOUNT = "account.json"
FILES = "files"  # folder of the originals
CLIPS = "clips"  # folder of the clips
CLIP_LIST = "clips.jsonl"
MESSAGES = "messages.jsonl"  # of webhooks
MAX_LINE = 64 << 20  # bytes of one picture's record: outlines of thousands of boxes

STATUSES = ("queued", "done", "failed")
VERDICTS = ("drawn", "accepted", "changed", "rejected")
SOURCES = ("model", "person", "removed")


@dataclass(frozen=True, slots=True)
class NativeBox:
    """A model's box."""

    label: str
    score: float
    box: Corners
    mask: str | None = None  # COCO RLE at the picture's size
    annotation: str | None = None  # ``ref`` of the person's word that stands for it


@dataclass(frozen=True, slots=True)
class NativeResult:
    """That a model has looked, and what it found."""

    model: str
    detected_at: datetime
    duration_ms: int | None
    boxes: tuple[NativeBox, ...] = ()


@dataclass(frozen=True, slots=True)
class NativeFound:
    """What a model had found before a person said something about it."""

    model: str
    label: str
    score: float
    box: Corners


@dataclass(frozen=True, slots=True)
class NativeAnnotation:
    """A person's word on one box."""

    ref: str  # UUID
    verdict: str  # of VERDICTS
    label: str
    box: Corners
    found: NativeFound | None  # None exactly where the verdict is "drawn"
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NativeTag:
    name: str
    source: str  # of SOURCES


@dataclass(frozen=True, slots=True)
class NativePicture:
    """A picture with everything that is known of it, but for its bytes."""

    title: str
    extension: str
    media_type: str
    sha256: str  # of the original, in hex
    bytes: int
    width: int  # pixels, upright
    height: int
    status: str  # of STATUSES: what ran is "queued"
    error: str | None
    model: str | None  # whose result is the present one
    wanted_model: str | None
    duration_ms: int | None
    uncertainty: float | None
    created_at: datetime
    detected_at: datetime | None
    reviewed_at: datetime | None
    file: str | None  # where in the archive the original is; None: it is not there
    results: tuple[NativeResult, ...] = ()
    annotations: tuple[NativeAnnotation, ...] = ()
    tags: tuple[NativeTag, ...] = ()

    def to_line(self) -> Line:
        """One line of PICTURES."""
        text = json.dumps(asdict(self), ensure_ascii=False, default=_plain, separators=(",", ":"))
        return text.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class NativeManifest:
    """What the archive says of itself; written last."""

    version: int
    created_at: datetime
    pictures: int
    model_boxes: int
    annotations: int
    files: int  # originals of PICTURES in the archive
    with_pictures: bool
    missing: tuple[str, ...] = field(default=())  # titles of pictures whose file was lost

    def to_json(self) -> bytes:
        """The content of MANIFEST."""
        values = {"format": FORMAT} | asdict(self)
        return json.dumps(values, ensure_ascii=False, default=_plain, indent=1).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value)} is no JSON")


# -- reading -------------------------------------------------------------------------------


def read_manifest(data: bytes) -> NativeManifest:
    """The content of MANIFEST.

    Raises:
        InvalidInput: it is not one, or of a later version than this program reads.
    """
    row = _Row(MANIFEST, _json(data, MANIFEST))
    if row.text("format") != FORMAT:
        raise _wrong(MANIFEST, "“format” is not “sightbox”")
    version = row.whole("version")
    if version != VERSION:
        raise InvalidInput(
            N_(
                "This archive has version %(version)s of the format, and this program reads "
                "version %(known)s. Import it with the version of Sightbox that made it."
            ),
            version=version,
            known=VERSION,
        )
    return NativeManifest(
        version,
        row.time("created_at"),
        row.whole("pictures"),
        row.whole("model_boxes"),
        row.whole("annotations"),
        row.whole("files"),
        row.yes("with_pictures"),
        tuple(str(name) for name in row.rows_or_texts("missing")),
    )


def read_pictures(stream: IO[bytes], name: str = PICTURES) -> Iterator[NativePicture]:
    """The records of ``stream``, line by line.

    Raises:
        InvalidInput: a line that is no record; the text names it.
    """
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        place = f"{name}:{number}"
        if len(line) > MAX_LINE:
            raise _wrong(place, "the line is too long")
        if line.strip():
            yield _picture(_Row(place, _json(line, place)))


def _picture(row: "_Row") -> NativePicture:
    picture = NativePicture(
        title=row.text("title"),
        extension=row.text("extension"),
        media_type=row.text("media_type"),
        sha256=row.text("sha256"),
        bytes=row.whole("bytes", least=1),
        width=row.whole("width", least=1),
        height=row.whole("height", least=1),
        status=row.one_of("status", STATUSES),
        error=row.maybe("error", row.text),
        model=row.maybe("model", row.text),
        wanted_model=row.maybe("wanted_model", row.text),
        duration_ms=row.maybe("duration_ms", row.whole),
        uncertainty=row.maybe("uncertainty", row.share),
        created_at=row.time("created_at"),
        detected_at=row.maybe("detected_at", row.time),
        reviewed_at=row.maybe("reviewed_at", row.time),
        file=row.maybe("file", row.text),
        results=tuple(_result(each) for each in row.rows("results")),
        annotations=tuple(_annotation(each) for each in row.rows("annotations")),
        tags=tuple(
            NativeTag(each.text("name"), each.one_of("source", SOURCES))
            for each in row.rows("tags")
        ),
    )
    refs = {word.ref for word in picture.annotations}
    models = {result.model for result in picture.results}
    if len(refs) < len(picture.annotations) or len(models) < len(picture.results):
        raise _wrong(row.place, "two results of one model, or two annotations of one “ref”")
    for result in picture.results:
        if any(box.annotation not in refs | {None} for box in result.boxes):
            raise _wrong(row.place, "a box names an annotation that is not there")
    return picture


def _result(row: "_Row") -> NativeResult:
    boxes = tuple(
        NativeBox(
            each.text("label"),
            each.share("score"),
            each.corners("box"),
            each.maybe("mask", each.text),
            each.maybe("annotation", each.text),
        )
        for each in row.rows("boxes")
    )
    duration = row.maybe("duration_ms", row.whole)
    return NativeResult(row.text("model"), row.time("detected_at"), duration, boxes)


def _annotation(row: "_Row") -> NativeAnnotation:
    verdict = row.one_of("verdict", VERDICTS)
    found = None
    if verdict != "drawn":
        each = row.row("found")
        found = NativeFound(
            each.text("model"), each.text("label"), each.share("score"), each.corners("box")
        )
    return NativeAnnotation(
        row.text("ref"),
        verdict,
        row.text("label"),
        row.corners("box"),
        found,
        row.time("created_at"),
        row.time("updated_at"),
    )


class _Row:
    """An object of JSON whose values are asked for by type; errors name the place."""

    def __init__(self, place: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise _wrong(place, "this is no object")
        self.place, self._content = place, content

    def _get(self, key: str, good: Callable[[Any], bool], what: str) -> Any:
        value = self._content.get(key)
        if not good(value):
            raise _wrong(self.place, f"“{key}” is not {what}")
        return value

    def maybe(self, key: str, read: Callable[[str], T]) -> T | None:
        return None if self._content.get(key) is None else read(key)

    def text(self, key: str) -> str:
        found: str = self._get(key, lambda v: isinstance(v, str) and "\0" not in v, "a text")
        return found

    def one_of(self, key: str, words: tuple[str, ...]) -> str:
        found: str = self._get(key, lambda v: v in words, f"one of {', '.join(words)}")
        return found

    def yes(self, key: str) -> bool:
        return bool(self._get(key, lambda v: isinstance(v, bool), "true or false"))

    def whole(self, key: str, least: int = 0) -> int:
        def good(v: Any) -> bool:
            return isinstance(v, int) and not isinstance(v, bool) and least <= v < 2**53

        return int(self._get(key, good, f"a whole number of at least {least}"))

    def share(self, key: str) -> float:
        return float(self._get(key, lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"))

    def time(self, key: str) -> datetime:
        try:
            found = datetime.fromisoformat(self.text(key))
        except ValueError as error:
            raise _wrong(self.place, f"“{key}” is no time") from error
        if found.tzinfo is None:
            raise _wrong(self.place, f"“{key}” has no time zone")
        return found

    def corners(self, key: str) -> Corners:
        def good(v: Any) -> bool:
            four = isinstance(v, list) and len(v) == 4 and all(_number(side) for side in v)
            return four and v[0] < v[2] and v[1] < v[3]

        x1, y1, x2, y2 = self._get(key, good, "a box [x1, y1, x2, y2]")
        return float(x1), float(y1), float(x2), float(y2)

    def rows_or_texts(self, key: str) -> list[Any]:
        found: list[Any] = self._get(key, lambda v: isinstance(v, list), "a list")
        return found

    def rows(self, key: str) -> "Iterator[_Row]":
        for number, each in enumerate(self.rows_or_texts(key)):
            yield _Row(f"{self.place}: {key}[{number}]", each)

    def row(self, key: str) -> "_Row":
        return _Row(f"{self.place}: {key}", self._content.get(key))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _json(data: bytes, place: str) -> Any:
    if sum(map(data.count, (b"[", b"{", b":"))) > MAX_PARTS:
        raise _wrong(place, f"it has more than {MAX_PARTS} lists and fields")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _wrong(place, "this is no JSON") from error


def _wrong(place: str, reason: str) -> InvalidInput:
    return InvalidInput(N_("%(place)s cannot be used: %(reason)s."), place=place, reason=reason)
