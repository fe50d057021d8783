"""Archives that Sightbox exported: looked at line by line, and restored as they were."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from apps.errors import N_, AppError, InvalidInput
from apps.models import MAX_LABEL_LENGTH
from apps.services.changes import MAX_MODEL_LENGTH, MAX_NUMBER, MAX_SAID
from apps.services.import_files import ImportLimits, ZipFiles
from apps.services.import_planned import TWICE, Planned, Progress
from apps.services.native import (
    MANIFEST,
    PICTURES,
    NativeAnnotation,
    NativeBox,
    NativePicture,
    read_manifest,
    read_pictures,
)
from apps.services.tags import clean_name, has_controls
from apps.vision.decode import refuse_too_many_pixels, safe_title, upright_size
from apps.vision.formats.dataset import Corners
from apps.vision.formats.incoming.found import Problems
from apps.vision.masks import fits

MAX_BOXES = 5_000_000  # of one archive; they are read line by line
YEARS = (1970, 9000)  # of times that every database can keep
MAX_ERROR = 300  # characters of a failed detection's reason
OUTSIDE = 1.0  # pixels by which a box may reach out of its picture
MANIFEST_BYTES = 64 * 2**20
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)

NO_FILE = N_("“%(name)s” is in the archive without its file, so it cannot come.")
OTHER_FILE = N_("The file of “%(name)s” is not what the archive says. The picture is left out.")
BAD_RECORD = N_("What the archive says of “%(name)s” cannot be: %(reason)s. It is left out.")
OTHER_COUNT = N_("The archive is damaged: it should hold %(said)s pictures, but has %(count)s.")


def is_native(files: ZipFiles) -> bool:
    """Whether the archive says that Sightbox made it."""
    return MANIFEST in files.names and PICTURES in files.names


def records(files: ZipFiles) -> Iterator[NativePicture]:
    """The records of an archive, one after the other; raises as read_pictures."""
    with files.opened(PICTURES) as stream:
        yield from read_pictures(stream)


def look_at_native(
    files: ZipFiles, limits: ImportLimits, problems: Problems, progress: Progress
) -> Iterator[Planned]:
    """Every picture that would come, with the checks of uploads.

    Raises:
        InvalidInput: the archive is damaged, of a newer version, or holds too much.
    """
    manifest = read_manifest(files.read(MANIFEST, MANIFEST_BYTES))
    seen: dict[str, str] = {}
    count = boxes = 0
    for record in records(files):
        count += 1
        boxes += number_of_boxes(record)
        if boxes > MAX_BOXES:
            raise InvalidInput(
                N_("There are more than %(limit)s boxes in this archive. Split it."),
                limit=MAX_BOXES,
            )
        planned = _planned(record, files, limits, problems)
        if planned is not None and planned.sha256 in seen:
            problems.add(planned.file, TWICE, name=seen[planned.sha256])
        elif planned is not None:
            seen[planned.sha256] = planned.file
            yield planned
        progress(min(count / max(manifest.pictures, 1), 1.0))
    if count != manifest.pictures:
        raise InvalidInput(OTHER_COUNT, said=manifest.pictures, count=count)


def number_of_boxes(record: NativePicture) -> int:
    """Of models and of people."""
    return sum(len(result.boxes) for result in record.results) + len(record.annotations)


def _planned(
    record: NativePicture, files: ZipFiles, limits: ImportLimits, problems: Problems
) -> Planned | None:
    """None after a problem, which is noted."""
    name = record.file or ""
    if name not in files.names:
        problems.add(name, NO_FILE, name=record.title)
        return None
    try:
        data = files.read(name, limits.picture_bytes)
        size = upright_size(data)
        refuse_too_many_pixels(size, limits.picture_pixels)
    except AppError as error:
        problems.note(name, error)
        return None
    if hashlib.sha256(data).hexdigest() != record.sha256 or len(data) != record.bytes:
        problems.add(name, OTHER_FILE, name=record.title)
        return None
    reason = _wrong_with(record, size)
    if reason is not None:
        problems.add(name, BAD_RECORD, name=record.title, reason=reason)
        return None
    light = replace(record, results=(), annotations=(), tags=())
    title = safe_title(record.title)
    found = sum(len(result.boxes) for result in record.results)
    return Planned(
        name,
        title,
        record.sha256,
        record.bytes,
        [],
        record=light,
        count=number_of_boxes(record),
        count_found=found,
    )


def _wrong_with(record: NativePicture, size: tuple[int, int]) -> str | None:
    """What in a record no database of ours would have."""
    if (record.width, record.height) != size:
        return f"the picture has {size[0]} × {size[1]} pixels"
    models = [result.model for result in record.results]
    if any(not _is_text(m, MAX_MODEL_LENGTH) for m in (*models, record.model, record.wanted_model)):
        return "the name of a model"
    if record.model is not None and record.model not in models:
        return "the result that it shows is not there"
    if len(record.error or "") > MAX_ERROR:
        return "the text of an error"
    if not all(YEARS[0] <= moment.year <= YEARS[1] for moment in _moments(record)):
        return "a time"
    durations = (record.duration_ms, *(result.duration_ms for result in record.results))
    if any((duration or 0) > MAX_NUMBER for duration in durations):
        return "a duration"
    if len(record.annotations) > MAX_SAID:
        return "the number of boxes"
    if not all(_is_good_word(word, size) for word in record.annotations):
        return "an annotation"
    if not all(_is_good_box(box, size) for result in record.results for box in result.boxes):
        return "a box of a model"
    return _wrong_tag(record)


def _moments(record: NativePicture) -> Iterator[datetime]:
    yield from (record.created_at, *(result.detected_at for result in record.results))
    yield from (moment for moment in (record.detected_at, record.reviewed_at) if moment)
    for word in record.annotations:
        yield from (word.created_at, word.updated_at)


def _wrong_tag(record: NativePicture) -> str | None:
    try:
        names = [clean_name(tag.name) for tag in record.tags]
    except AppError:
        return "a tag"
    return None if names == [tag.name for tag in record.tags] else "a tag"


def _is_good_word(word: NativeAnnotation, size: tuple[int, int]) -> bool:
    found = word.found
    good = bool(_UUID.fullmatch(word.ref)) and _is_text(word.label, MAX_LABEL_LENGTH)
    if found is not None:
        named = _is_text(found.model, MAX_MODEL_LENGTH) and _is_text(found.label, MAX_LABEL_LENGTH)
        good = good and named and _is_inside(found.box, size)
    return good and _is_inside(word.box, size)


def _is_good_box(box: NativeBox, size: tuple[int, int]) -> bool:
    good = _is_text(box.label, MAX_LABEL_LENGTH) and _is_inside(box.box, size)
    return good and (box.mask is None or fits(box.mask, size))


def _is_inside(box: Corners, size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    low = x1 >= -OUTSIDE and y1 >= -OUTSIDE
    return low and x2 <= size[0] + OUTSIDE and y2 <= size[1] + OUTSIDE


def _is_text(text: str | None, most: int) -> bool:
    return text is None or (0 < len(text) <= most and not has_controls(text))
