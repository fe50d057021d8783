"""What "Download my data" says of an account itself: everything but pictures, clips and secrets."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session, undefer

from apps.models import (
    FOR_A_TEST,
    ClientCall,
    Delivery,
    Export,
    Import,
    LabelStudio,
    SavedFilter,
    Token,
    User,
    Webhook,
)

PART = 100  # rows that are in memory at the same time
OF_USER = (
    *("username", "email", "active", "role", "threshold", "quota_bytes", "created_at"),
    "confirmed_at",
)
OF_TOKEN = (
    *("name", "prefix", "scopes", "max_boxes", "created_at", "expires_at", "last_used_at"),
    "revoked_at",
)
OF_FILTER = ("name", "address", "created_at")
OF_WEBHOOK = (
    *("id", "url", "events", "token", "created_at", "ends_at", "off_at", "off_reason"),
    "failing_since",
)
OF_DELIVERY = (
    *("uid", "event", "body", "status", "attempts", "created_at", "tried_at", "answer_status"),
    *("answer", "error", "duration_ms"),
)
OF_LABEL_STUDIO = ("host", "prefix", "model", "min_score", "created_at", "last_used_at")
OF_CALL = (
    *("token", "method", "path", "status", "error", "client", "address", "calls", "first_at"),
    "last_at",
)
OF_IMPORT = (
    *("title", "bytes", "status", "error", "error_params", "report", "options", "pictures"),
    *("boxes", "created_at", "finished_at"),
)
OF_EXPORT = (
    *("kind", "search", "boxes", "threshold", "with_pictures", "status", "error", "bytes"),
    *("counts", "created_at", "finished_at", "expires_at"),
)


def facts_of(session: scoped_session[Session], owner_id: int) -> dict[str, Any]:
    """All that is known of an account itself, as values for JSON; ends the transaction.

    No password, no secret of a token, of a webhook or of a connection.
    """

    def rows(model: Any, names: Sequence[str], *where: Any) -> list[dict[str, Any]]:
        mine = select(model).where(model.owner_id == owner_id, *where).order_by(model.id)
        later = [undefer(Import.report)] if model is Import else []
        return [values_of(row, *names) for row in session.scalars(mine.options(*later))]

    facts = values_of(session.get_one(User, owner_id), *OF_USER) | {
        "tokens": rows(Token, OF_TOKEN, ~FOR_A_TEST),
        "saved_searches": rows(SavedFilter, OF_FILTER),
        "webhooks": rows(Webhook, OF_WEBHOOK),
        "label_studios": rows(LabelStudio, OF_LABEL_STUDIO),
        "calls": rows(ClientCall, OF_CALL),
        "imports": rows(Import, OF_IMPORT),
        "exports": rows(Export, OF_EXPORT),
    }
    session.commit()
    return facts


def messages_of(session: scoped_session[Session], owner_id: int) -> Iterator[dict[str, Any]]:
    """What the webhooks of an account were sent, one after the other; ends the transaction."""
    log = (
        select(Delivery)
        .join(Webhook)
        .where(Webhook.owner_id == owner_id)
        .order_by(Delivery.webhook_id, Delivery.id)
        .execution_options(yield_per=PART)
    )
    for message in session.scalars(log):
        yield values_of(message, "webhook_id", *OF_DELIVERY)
    session.commit()


def values_of(row: Any, *names: str) -> dict[str, Any]:
    """Columns of a row by their names."""
    return {name: getattr(row, name) for name in names}
