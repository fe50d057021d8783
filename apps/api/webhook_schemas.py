"""What goes over the wire for webhooks; see schemas for the rest."""

from typing import Any

from marshmallow import Schema, fields, validate

from apps.api.schemas import Strict, about
from apps.models import URL_LENGTH
from apps.services.webhooks import EVENTS


class Webhook(Schema):
    id = fields.Integer(required=True)
    url = fields.String(required=True)
    events = fields.List(fields.String(), required=True)
    active = fields.Boolean(required=True)
    off_reason = fields.String(
        required=True,
        allow_none=True,
        metadata=about(
            "“owner”; “failing”: no good answer for days; “gone”: it answered 410; “token”: the "
            "one that gave the address was revoked or has expired."
        ),
    )
    failing_since = fields.AwareDateTime(required=True, allow_none=True)
    token = fields.String(
        required=True,
        allow_none=True,
        metadata=about("How the token begins that gave the address; null: the page did."),
    )
    ends_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata=about("When that token stops working.")
    )
    created_at = fields.AwareDateTime(required=True)


class WebhookWithSecret(Webhook):
    secret = fields.String(required=True, metadata=about("Shown this once: it checks signatures."))


class WebhookList(Schema):
    items = fields.List(fields.Nested(Webhook), required=True)


class Delivery(Schema):
    id = fields.Integer(required=True)
    message = fields.String(required=True, metadata=about("The header webhook-id of each try."))
    event = fields.String(required=True)
    status = fields.String(
        required=True, metadata=about("“waiting”, “delivered” or “failed” for good.")
    )
    attempts = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)
    tried_at = fields.AwareDateTime(required=True, allow_none=True)
    next_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata=about("Of the next try, while it waits.")
    )
    duration_ms = fields.Integer(required=True, allow_none=True)
    answer_status = fields.Integer(required=True, allow_none=True)
    answer = fields.String(
        required=True, allow_none=True, metadata=about("The beginning of what came back.")
    )
    error = fields.String(required=True, allow_none=True)


class DeliveryPage(Schema):
    items = fields.List(fields.Nested(Delivery), required=True)
    next = fields.String(required=True, allow_none=True)


def events(**options: Any) -> fields.List:
    return fields.List(
        fields.String(validate=validate.OneOf(EVENTS)),
        validate=validate.Length(1, len(EVENTS)),
        **options,
    )


class NewWebhook(Strict):
    url = fields.String(required=True, validate=validate.Length(1, URL_LENGTH))
    events = events(load_default=list(EVENTS))


class WebhookChanges(Strict):
    url = fields.String(validate=validate.Length(1, URL_LENGTH))
    events = events()
    active = fields.Boolean()
