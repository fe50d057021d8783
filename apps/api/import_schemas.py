"""What goes over the wire of imports: see schemas.py."""

from flask_smorest.fields import Upload
from marshmallow import Schema, fields, validate

from apps.api.schemas import MAX_TEXT, Strict, about
from apps.models import MAX_TAG_LENGTH, ImportStatus
from apps.services.import_plan import MAX_CLASSES
from apps.services.imports import MAX_TAGS

RAW_LABEL = 200  # characters of a class in an archive


class ImportFile(Schema):
    archive = Upload(required=True, metadata=about("A ZIP file of pictures and labels."))


class ImportClass(Schema):
    name = fields.String(required=True, metadata=about("As in the archive."))
    becomes = fields.String(required=True, metadata=about("The label here, unless you say more."))
    boxes = fields.Integer(required=True)
    pictures = fields.Integer(required=True)


class ImportProblem(Schema):
    file = fields.String(required=True, metadata=about("Empty: the archive as a whole."))
    message = fields.String(required=True)
    loss = fields.Boolean(required=True, metadata=about("Whether something does not come."))
    more = fields.Integer(required=True, metadata=about("How many more are alike, not listed."))


class ImportPreview(Schema):
    """What would come, and afterwards what came."""

    format = fields.String(required=True)
    pictures = fields.Integer(required=True)
    here = fields.Integer(required=True, metadata=about("Pictures that you have already."))
    boxes = fields.Integer(required=True)
    model_boxes = fields.Integer(metadata=about("How many of them a model found."))
    bytes = fields.Integer(required=True)
    classes = fields.List(fields.Nested(ImportClass), required=True)
    problems = fields.List(fields.Nested(ImportProblem), required=True)
    losses = fields.Integer(required=True, metadata=about("Files and boxes that are left out."))


class Import(Schema):
    id = fields.Integer(required=True)
    title = fields.String(required=True)
    bytes = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(ImportStatus)))
    progress = fields.Float(required=True, metadata=about("0 to 1, of the present step"))
    error = fields.String(required=True, allow_none=True)
    pictures = fields.Integer(required=True, metadata=about("That came."))
    boxes = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)


class ImportWithPreview(Import):
    preview = fields.Nested(ImportPreview, required=True, allow_none=True)


class ImportList(Schema):
    items = fields.List(fields.Nested(Import), required=True)
    next = fields.String(required=True, allow_none=True)


class ImportChoices(Strict):
    classes = fields.Dict(
        keys=fields.String(validate=validate.Length(1, RAW_LABEL)),
        values=fields.String(allow_none=True, validate=validate.Length(max=MAX_TEXT)),
        load_default=dict,
        validate=validate.Length(max=MAX_CLASSES),
        metadata=about("Class of the archive to label here; null: its boxes do not come."),
    )
    reviewed = fields.Boolean(load_default=False)
    tags = fields.List(
        fields.String(validate=validate.Length(1, MAX_TAG_LENGTH)),
        load_default=list,
        validate=validate.Length(max=MAX_TAGS),
        metadata=about("For every picture.", maxItems=MAX_TAGS),
    )
    detect = fields.Boolean(
        load_default=False, metadata=about("Let the default model look at the pictures too.")
    )


class Undone(Schema):
    moved = fields.Integer(required=True, metadata=about("Pictures that went to the trash."))
