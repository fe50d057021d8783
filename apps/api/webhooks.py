"""Webhooks of the account: addresses that are told when a detection has ended."""

from typing import Any

from apps.api import schemas, webhook_schemas
from apps.api.access import caller, needs
from apps.api.pages import part_of, read_cursor
from apps.api.spec import Blueprint
from apps.container import services
from apps.extensions import begin_writing, db
from apps.i18n import stored_text
from apps.models import Delivery, DeliveryStatus, Webhook

bp = Blueprint(
    "webhook_api",
    __name__,
    description="Addresses that are told when a detection has ended, signed as Standard Webhooks",
)


@bp.get("/webhooks")
@needs("read")
@bp.response(200, webhook_schemas.WebhookList)
def webhooks() -> dict[str, Any]:
    """List webhooks, oldest first"""
    found = services().webhooks.of_owner(caller().user_id)
    return {"items": [_webhook_json(hook) for hook in found]}


@bp.post("/webhooks")
@needs("read write")
@bp.arguments(webhook_schemas.NewWebhook)
@bp.response(201, webhook_schemas.WebhookWithSecret)
def new_webhook(body: dict[str, Any]) -> dict[str, Any]:
    """Have an address told

    The answer has the secret that its signatures are made with; it is not shown again. What is sent
    is what a token with `read` may see, and it ends when the token is revoked or expires.
    """
    url = services().webhooks.check_address(body["url"])
    begin_writing()
    hook = services().webhooks.create(caller().user_id, url, body["events"], caller().token)
    return _webhook_json(hook) | {"secret": hook.secret}


@bp.get("/webhooks/<int:webhook_id>")
@needs("read")
@bp.response(200, webhook_schemas.Webhook)
def webhook(webhook_id: int) -> dict[str, Any]:
    """Look up a webhook"""
    return _webhook_json(services().webhooks.get(caller().user_id, webhook_id))


@bp.patch("/webhooks/<int:webhook_id>")
@needs("read write")
@bp.arguments(webhook_schemas.WebhookChanges)
@bp.response(200, webhook_schemas.Webhook)
def change_webhook(body: dict[str, Any], webhook_id: int) -> dict[str, Any]:
    """Change a webhook, or switch it on or off

    What waits when it is switched off is not sent any more. Whoever gives another address or
    switches it on answers for it: it ends with that token.
    """
    services().webhooks.get(caller().user_id, webhook_id)
    db.session.commit()  # resolving a name takes its time
    if "url" in body:
        body["url"] = services().webhooks.check_address(body["url"])
    begin_writing()
    asked = caller()
    found = services().webhooks.change(asked.user_id, webhook_id, **body, token=asked.token)
    return _webhook_json(found)


@bp.delete("/webhooks/<int:webhook_id>")
@needs("write")
@bp.response(204)
def delete_webhook(webhook_id: int) -> None:
    """Delete a webhook with its log"""
    begin_writing()
    services().webhooks.delete(caller().user_id, webhook_id)


@bp.post("/webhooks/<int:webhook_id>/secret")
@needs("read write")
@bp.response(200, webhook_schemas.WebhookWithSecret)
def rotate_secret(webhook_id: int) -> dict[str, Any]:
    """Make a new secret

    For a day each message has two signatures, so that the old secret still checks them.
    """
    begin_writing()
    hook = services().webhooks.rotate(caller().user_id, webhook_id)
    return _webhook_json(hook) | {"secret": hook.secret}


@bp.post("/webhooks/<int:webhook_id>/test")
@needs("write")
@bp.response(202, webhook_schemas.Delivery)
def test_webhook(webhook_id: int) -> dict[str, Any]:
    """Send a test message, once; its log says what came of it"""
    begin_writing()
    return _delivery_json(services().webhooks.test(caller().user_id, webhook_id))


@bp.get("/webhooks/<int:webhook_id>/deliveries")
@needs("read")
@bp.arguments(schemas.Page, location="query")
@bp.response(200, webhook_schemas.DeliveryPage)
def deliveries(query: dict[str, Any], webhook_id: int) -> dict[str, Any]:
    """List the messages of a webhook, the latest first

    The log goes back 30 days, and 500 messages.
    """
    last = read_cursor(query["cursor"])
    limit = query["limit"]
    found = services().webhooks.log(caller().user_id, webhook_id, limit + 1, last)
    shown, following = part_of(found, limit, "id")
    return {"items": [_delivery_json(one) for one in shown], "next": following}


@bp.post("/webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/again")
@needs("write")
@bp.response(202, webhook_schemas.Delivery)
def send_again(webhook_id: int, delivery_id: int) -> dict[str, Any]:
    """Send a message once more, with the same id"""
    begin_writing()
    found = services().webhooks.again(caller().user_id, webhook_id, delivery_id)
    return _delivery_json(found)


def _webhook_json(hook: Webhook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "events": hook.event_list,
        "active": hook.is_on,
        "off_reason": hook.why_off,
        "failing_since": hook.failing_since,
        "token": hook.token,
        "ends_at": hook.ends_at,
        "created_at": hook.created_at,
    }


def _delivery_json(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "message": one.uid,
        "event": one.event,
        "status": one.status.value,
        "attempts": one.attempts,
        "created_at": one.created_at,
        "tried_at": one.tried_at,
        "next_at": one.next_at if one.status is DeliveryStatus.WAITING else None,
        "duration_ms": one.duration_ms,
        "answer_status": one.answer_status,
        "answer": one.answer,
        "error": stored_text(one.error) or None,
    }
