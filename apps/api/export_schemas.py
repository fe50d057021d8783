"""What goes over the wire for exports; see schemas for the rest."""

from marshmallow import Schema, fields, validate

from apps.api.schemas import Strict, about, row_id
from apps.services.export_pictures import BOTH, WHOSE
from apps.services.export_writers import KINDS
from apps.services.exports import MAX_CHOSEN
from apps.services.search import MAX_TEXT


class NewExport(Strict):
    """Which pictures, as what. Without `ids` and `search`: all of them."""

    format = fields.String(
        required=True,
        validate=validate.OneOf(KINDS),
        metadata=about("“native” restores exactly"),
    )
    ids = fields.List(row_id(), validate=validate.Length(1, MAX_CHOSEN))
    search = fields.String(validate=validate.Length(max=MAX_TEXT), metadata=about("as /images"))
    boxes = fields.String(load_default=BOTH, validate=validate.OneOf(WHOSE))
    threshold = fields.Float(
        validate=validate.Range(0, 1),
        metadata=about("Lowest score of a model’s box; without it your account’s."),
    )
    pictures = fields.Boolean(load_default=True, metadata=about("Whether their files are in it"))


class ExportCounts(Schema):
    """What reading the finished ZIP back has counted."""

    pictures = fields.Integer(required=True)
    boxes = fields.Integer(required=True)
    files = fields.Integer(required=True)
    missing = fields.Integer(required=True, metadata=about("Pictures whose file is lost"))


class Export(Schema):
    id = fields.Integer(required=True)
    format = fields.String(required=True)
    search = fields.String(required=True, allow_none=True)
    boxes = fields.String(required=True)
    threshold = fields.Float(required=True)
    pictures = fields.Boolean(required=True)
    status = fields.String(
        required=True,
        metadata=about("“queued”, “running”, “ready”, “failed”, “cancelled” or “expired”"),
    )
    progress = fields.Float(required=True, metadata=about("0 to 1"))
    error = fields.String(required=True, allow_none=True)
    bytes = fields.Integer(required=True, allow_none=True)
    counts = fields.Nested(ExportCounts, required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
    finished_at = fields.AwareDateTime(required=True, allow_none=True)
    expires_at = fields.AwareDateTime(required=True, allow_none=True)
    file = fields.String(
        required=True, allow_none=True, metadata=about("Its address, once it is ready")
    )
