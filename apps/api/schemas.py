"""What goes over the wire below ``/api/v1``: names, types, limits, and so the reference."""

from typing import Any

from flask_smorest.fields import Upload
from marshmallow import RAISE, Schema, fields, validate

from apps.models import MAX_TAG_LENGTH, VideoStatus
from apps.services.changes import MAX_PLACE
from apps.services.idempotency import KEY_LENGTH
from apps.services.requests import JOBS, MAX_AT_ONCE
from apps.services.search import MAX_TEXT as MAX_SEARCH
from apps.web import MAX_ID

PAGE = 100  # things in one page of a list, at most
FILES = 100  # pictures of one upload
AT_ONCE = 16  # pictures of one detection without storing
WAIT = 30  # seconds that a request waits for a detection, at most
MAX_TEXT = 200  # characters of a name
MAX_CURSOR = 3000
TWIN = "With the code “duplicate”: the picture of yours that has the same bytes."


def about(text: str, **more: Any) -> dict[str, Any]:
    """What the reference says of a field."""
    return {"description": text} | more


def row_id(**options: Any) -> fields.Integer:
    return fields.Integer(validate=validate.Range(1, MAX_ID), strict=True, **options)


class Strict(Schema):
    """Of what is sent: a name that is not known is an error, not silence."""

    class Meta:
        unknown = RAISE


# -- errors --------------------------------------------------------------------------------


class Problem(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(
        required=True, metadata=about("What happened and what to do, for people.")
    )
    code = fields.String(required=True, metadata=about("A stable word for programs."))
    errors = fields.Raw(metadata=about("What is wrong with which field."))
    image = fields.Integer(metadata=about(TWIN))


# -- answers -------------------------------------------------------------------------------


class Box(Schema):
    """One object that was found; corners in pixels of the upright picture."""

    label = fields.String(required=True)
    score = fields.Float(required=True, metadata=about("0 to 1"))
    box = fields.List(
        fields.Float(), required=True, metadata=about("[x1, y1, x2, y2]", minItems=4, maxItems=4)
    )


class StoredBox(Box):
    id = fields.Integer(required=True)
    segmentation = fields.Raw(metadata=about("Of a model with masks: COCO's RLE."))


class Tag(Schema):
    id = fields.Integer(required=True)
    name = fields.String(required=True)


class ImageTag(Tag):
    source = fields.String(required=True, metadata=about("“model” or “person”"))


class TagUse(Schema):
    name = fields.String(required=True)
    pictures = fields.Integer(required=True)


class TagPage(Schema):
    items = fields.List(fields.Nested(TagUse), required=True)
    next = fields.String(required=True, allow_none=True)


class Files(Schema):
    original = fields.String(required=True)
    display = fields.String(required=True)
    thumbnail = fields.String(required=True)


class Image(Schema):
    """A stored picture."""

    id = fields.Integer(required=True)
    title = fields.String(required=True)
    sha256 = fields.String(required=True)
    media_type = fields.String(required=True)
    bytes = fields.Integer(required=True)
    width = fields.Integer(required=True, metadata=about("Pixels, upright."))
    height = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(
        ["queued", "running", "done", "failed"]))  # fmt: skip
    error = fields.String(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
    detected_at = fields.AwareDateTime(required=True, allow_none=True)
    tags = fields.List(fields.String(), required=True)
    files = fields.Nested(Files, required=True, metadata=about("Addresses on this server."))


class ImagePage(Schema):
    items = fields.List(fields.Nested(Image), required=True)
    next = fields.String(
        required=True, allow_none=True, metadata=about("Cursor of the next page; null: the last.")
    )


class FileError(Schema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    image = fields.Integer(metadata=about(TWIN))


class UploadResult(Schema):
    file = fields.String(required=True)
    image = fields.Nested(Image, required=True, allow_none=True)
    error = fields.Nested(FileError, required=True, allow_none=True)


class Uploaded(Schema):
    """One result for each file, in order: a picture or an error."""

    results = fields.List(fields.Nested(UploadResult), required=True)


class Job(Schema):
    """The detection of one stored picture, whose number is the picture's."""

    id = fields.Integer(required=True)
    status = fields.String(required=True)
    error = fields.String(required=True, allow_none=True)
    model = fields.String(
        required=True,
        allow_none=True,
        metadata=about("That looked at it; while it waits, that was asked for."),
    )
    queued_at = fields.AwareDateTime(required=True, allow_none=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
    duration_ms = fields.Integer(required=True, allow_none=True)


class JobList(Schema):
    waiting = fields.Integer(
        required=True, metadata=about("Pictures that are queued or looked at.")
    )
    items = fields.List(fields.Nested(Job), required=True)
    next = fields.String(required=True, allow_none=True)


class Detections(Schema):
    image = fields.Integer(required=True)
    status = fields.String(required=True)
    model = fields.String(required=True, allow_none=True)
    detections = fields.List(fields.Nested(StoredBox), required=True)


class OneBox(Schema):
    """A box as people see it; corners in pixels of the upright picture."""

    id = fields.String(
        required=True, metadata=about("A model's box has another one once it is judged or changed.")
    )
    label = fields.String(required=True)
    box = fields.List(
        fields.Float(), required=True, metadata=about("[x1, y1, x2, y2]", minItems=4, maxItems=4)
    )
    source = fields.String(required=True, metadata=about("“model” or “person”"))
    verdict = fields.String(
        required=True,
        allow_none=True,
        metadata=about("“drawn”, “accepted”, “changed” or “rejected”; null: nobody has judged it."),
    )
    score = fields.Float(required=True, allow_none=True, metadata=about("Of the model, 0 to 1."))
    model = fields.String(required=True, allow_none=True, metadata=about("That found it."))
    author = fields.String(required=True, allow_none=True)


class ReviewState(Schema):
    image = fields.Integer(required=True)
    version = fields.Integer(required=True, metadata=about("Grows with each change."))
    reviewed = fields.Boolean(required=True)


class Boxes(ReviewState):
    boxes = fields.List(fields.Nested(OneBox), required=True)


class Clip(Schema):
    id = fields.Integer(required=True)
    title = fields.String(required=True)
    sha256 = fields.String(required=True)
    media_type = fields.String(required=True)
    bytes = fields.Integer(required=True)
    width = fields.Integer(required=True, metadata=about("Pixels, upright."))
    height = fields.Integer(required=True)
    duration_ms = fields.Integer(required=True, allow_none=True)
    every = fields.Integer(required=True, metadata=about("One frame of so many is looked at."))
    status = fields.String(required=True, validate=validate.OneOf(list(VideoStatus)))
    progress = fields.Float(required=True, metadata=about("0 to 1"))
    error = fields.String(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)


class ClipPage(Schema):
    items = fields.List(fields.Nested(Clip), required=True)
    next = fields.String(required=True, allow_none=True)


class Frame(Schema):
    number = fields.Integer(required=True, metadata=about("In the clip, from 0."))
    time_ms = fields.Integer(required=True, metadata=about("From the beginning."))
    detections = fields.List(fields.Nested(Box), required=True)


class FramePage(Schema):
    items = fields.List(fields.Nested(Frame), required=True)
    next = fields.String(required=True, allow_none=True)


class InstantResult(Schema):
    file = fields.String(required=True)
    model = fields.String(required=True, allow_none=True)
    width = fields.Integer(required=True, allow_none=True)
    height = fields.Integer(required=True, allow_none=True)
    detections = fields.List(fields.Nested(Box), required=True)
    error = fields.Nested(FileError, required=True, allow_none=True)


class Instant(Schema):
    results = fields.List(fields.Nested(InstantResult), required=True)


class Guess(Schema):
    label = fields.String(required=True)
    probability = fields.Float(required=True)


class Classified(Schema):
    model = fields.String(required=True)
    guesses = fields.List(fields.Nested(Guess), required=True)


class Model(Schema):
    name = fields.String(required=True)
    kind = fields.String(required=True, metadata=about("“detector” or “classifier”"))
    title = fields.String(required=True)
    ready = fields.Boolean(required=True, metadata=about("Whether its weights are here."))
    default = fields.Boolean(required=True, metadata=about("Used when no model is named."))
    labels = fields.Integer(required=True, metadata=about("How many classes it knows."))


class ModelList(Schema):
    items = fields.List(fields.Nested(Model), required=True)


class Me(Schema):
    id = fields.Integer(required=True)
    username = fields.String(required=True)
    admin = fields.Boolean(required=True)
    scopes = fields.List(fields.String(), required=True)
    threshold = fields.Float(required=True, metadata=about("Lowest score that makes a tag."))
    pictures = fields.Integer(required=True)
    waiting = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    quota_bytes = fields.Integer(required=True, metadata=about("0: no limit."))


class User(Schema):
    id = fields.Integer(required=True)
    username = fields.String(required=True)
    email = fields.String(required=True)
    role = fields.String(required=True)
    active = fields.Boolean(required=True)
    quota_bytes = fields.Integer(required=True, allow_none=True)
    pictures = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)


class UserPage(Schema):
    items = fields.List(fields.Nested(User), required=True)
    next = fields.String(required=True, allow_none=True)


# -- what is sent --------------------------------------------------------------------------


class Page(Schema):
    limit = fields.Integer(load_default=50, validate=validate.Range(1, PAGE))
    cursor = fields.String(
        load_default="",
        validate=validate.Length(max=MAX_CURSOR),
        metadata=about("“next” of the page before."),
    )


class FrameQuery(Page):
    min_score = fields.Float(load_default=0.0, validate=validate.Range(0, 1))


class ImageQuery(Page):
    search = fields.String(
        load_default="",
        validate=validate.Length(max=MAX_SEARCH),
        metadata=about("As in the gallery."),
    )


class JobQuery(Page):
    status = fields.String(
        load_default="waiting",
        validate=validate.OneOf(JOBS),
        metadata=about("“waiting”: queued or running."),
    )


class UploadFiles(Schema):
    image = fields.List(
        Upload(), required=True, validate=validate.Length(1, FILES),
        metadata=about("One or many files.", minItems=1, maxItems=FILES),
    )  # fmt: skip


class InstantFiles(Schema):
    image = fields.List(
        Upload(), required=True, validate=validate.Length(1, AT_ONCE),
        metadata=about("One or many files.", minItems=1, maxItems=AT_ONCE),
    )  # fmt: skip


class OneFile(Schema):
    image = Upload(required=True)


class UploadHeaders(Schema):
    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        validate=validate.Length(1, KEY_LENGTH),
        metadata=about("The same request with the same key does its work once, for 24 hours."),
    )


class InstantForm(Schema):
    model = fields.String(
        load_default="", validate=validate.Length(max=MAX_TEXT),
        metadata=about("A name of /models, or “fast”; by default the one in use."),
    )  # fmt: skip
    min_score = fields.Float(load_default=0.4, validate=validate.Range(0, 1))


class ClassifyForm(Schema):
    top = fields.Integer(load_default=5, validate=validate.Range(1, 100))


class DetectBody(Strict):
    model = fields.String(
        load_default=None, allow_none=True, validate=validate.Length(1, MAX_TEXT),
        metadata=about("A name of /models; by default the one in use."),
    )  # fmt: skip
    wait = fields.Integer(
        load_default=0, validate=validate.Range(0, WAIT), strict=True,
        metadata=about("Seconds to wait for the result; 0 answers at once."),
    )  # fmt: skip


class DetectMany(Strict):
    images = fields.List(
        row_id(), required=True, validate=validate.Length(1, MAX_AT_ONCE),
        metadata=about("Numbers of pictures."),
    )  # fmt: skip
    model = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, MAX_TEXT))


class Queued(Schema):
    queued = fields.Integer(required=True)
    waiting = fields.Integer(required=True, metadata=about("Left alone: they wait already."))
    missing = fields.Integer(required=True, metadata=about("Gone, or somebody else's."))


class WaitQuery(Schema):
    wait = fields.Integer(load_default=0, validate=validate.Range(0, WAIT))


class ResultQuery(Schema):
    model = fields.String(load_default="", validate=validate.Length(max=MAX_TEXT))
    min_score = fields.Float(load_default=0.0, validate=validate.Range(0, 1))


class BoxQuery(Schema):
    min_score = fields.Float(
        load_default=0.0,
        validate=validate.Range(0, 1),
        metadata=about("Of a model's boxes that nobody has judged."),
    )
    rejected = fields.Boolean(load_default=False, metadata=about("Whether rejected ones come too."))


class IfMatch(Schema):
    if_match = fields.String(
        data_key="If-Match", metadata=about("An ETag of the picture's boxes, or “*”.")
    )


def corners(**options: Any) -> fields.List:
    return fields.List(
        fields.Float(validate=validate.Range(-MAX_PLACE, MAX_PLACE)),
        validate=validate.Length(equal=4),
        metadata=about("[x1, y1, x2, y2] in pixels of the upright picture"),
        **options,
    )


class NewBox(Strict):
    label = fields.String(required=True, validate=validate.Length(1, MAX_TAG_LENGTH))
    box = corners(required=True)


class BoxChanges(Strict):
    label = fields.String(validate=validate.Length(1, MAX_TAG_LENGTH))
    box = corners()


class Reviewed(Strict):
    reviewed = fields.Boolean(required=True)


class NewTag(Strict):
    name = fields.String(required=True, validate=validate.Length(1, MAX_TEXT))


class UserQuery(Page):
    search = fields.String(load_default="", validate=validate.Length(max=MAX_TEXT))


class NewUser(Strict):
    username = fields.String(required=True, validate=validate.Length(1, MAX_TEXT))
    email = fields.String(required=True, validate=validate.Length(3, 254))
    password = fields.String(required=True, validate=validate.Length(8, 200))
    role = fields.String(load_default="user", validate=validate.OneOf(["user", "admin"]))
    quota_bytes = fields.Integer(
        load_default=None, allow_none=True, strict=True, validate=validate.Range(0, 2**53)
    )


class UserChanges(Strict):
    username = fields.String(validate=validate.Length(1, MAX_TEXT))
    email = fields.String(validate=validate.Length(3, 254))
    role = fields.String(validate=validate.OneOf(["user", "admin"]))
    active = fields.Boolean()
    quota_bytes = fields.Integer(allow_none=True, strict=True, validate=validate.Range(0, 2**53))
