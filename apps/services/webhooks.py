"""Addresses that an account wants to have told, and the outbox of what they are told."""

import base64
import json
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session, scoped_session

from apps import outbound
from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import (
    URL_LENGTH,
    Delivery,
    DeliveryStatus,
    Image,
    ImageStatus,
    OffReason,
    Token,
    Video,
    VideoStatus,
    Webhook,
    utcnow,
)
from apps.vision.types import Box

DONE, LOST, TEST = "detection.done", "detection.failed", "webhook.test"
EVENTS = (DONE, LOST)
MOST = 10  # webhooks of one account
MOST_WAITING = 1000  # messages of one webhook
KEPT = timedelta(days=30)  # of the log
KEPT_ROWS = 500  # of the log of one webhook
TOO_MANY = N_("Given up, because too many messages waited for this address.")
MOST_BOXES = 100  # of one message, the surest
SECRET_START = "whsec_"  # as Standard Webhooks has it
SECRET_BYTES = 32
BOTH = timedelta(days=1)  # for which an old secret signs beside the new one


# What a person has asked for just now: a test, or a message sent again. It waits for no pause.
_AGAIN = or_(Delivery.tried_at.is_not(None), Delivery.error.is_not(None))
WISHED = or_(Delivery.event == TEST, and_(Delivery.attempts == 0, _AGAIN))


@dataclass(frozen=True)
class Outbox:
    """Writes messages in the transaction of what they tell of, so that neither is without the
    other; sending them is somebody else's work."""

    session: scoped_session[Session]
    wake: Callable[[], object]  # tell who sends that there is something; losing it loses nothing

    def picture(self, image_id: int, boxes: Iterable[Box] = ()) -> int:
        """A detection has ended; how many messages that makes. Does not commit."""
        hooks = self._hooks(Image, image_id)
        if not hooks:
            return 0
        row = self.session.execute(
            select(Image.id, Image.title, Image.status, Image.error, Image.model, Image.width,
                   Image.height, Image.duration_ms).where(Image.id == image_id)
        ).one()  # fmt: skip
        done = row.status is ImageStatus.DONE
        best = sorted(boxes, key=lambda box: -box.score)[:MOST_BOXES]
        data = {
            "kind": "image",
            "id": row.id,
            "title": row.title,
            "status": row.status.value,
            "width": row.width,
            "height": row.height,
            "model": row.model if done else None,
            "duration_ms": row.duration_ms if done else None,
            "error": row.error,
            "detections": [_box_json(box) for box in best],
            "path": f"/api/v1/images/{row.id}",
        }
        return self._write(hooks, DONE if done else LOST, data)

    def clip(self, video_id: int) -> int:
        """As ``picture``, of a clip; one that its owner cancelled is not told of."""
        hooks = self._hooks(Video, video_id)
        if not hooks:
            return 0
        row = self.session.execute(
            select(Video.id, Video.title, Video.status, Video.error, Video.model, Video.width,
                   Video.height).where(Video.id == video_id)
        ).one()  # fmt: skip
        if row.status not in (VideoStatus.DONE, VideoStatus.FAILED):
            return 0
        data = {
            "kind": "clip",
            "id": row.id,
            "title": row.title,
            "status": row.status.value,
            "width": row.width,
            "height": row.height,
            "model": row.model,
            "error": row.error,
            "path": f"/api/v1/clips/{row.id}",
        }
        return self._write(hooks, DONE if row.status is VideoStatus.DONE else LOST, data)

    def _hooks(self, kind: type[Image] | type[Video], row_id: int) -> dict[int, str]:
        """Which are on, with their events; most accounts have none, and that ends it."""
        query = (
            select(Webhook.id, Webhook.events)
            .join(kind, kind.owner_id == Webhook.owner_id)
            .where(kind.id == row_id, Webhook.off_at.is_(None), not_ended())
        )
        return {row.id: row.events for row in self.session.execute(query)}

    def _write(self, hooks: dict[int, str], event: str, data: dict[str, Any]) -> int:
        asked = [hook_id for hook_id, events in hooks.items() if event in events.split()]
        for hook_id in asked:
            self._make_room(hook_id)
        self.session.add_all(_message(hook_id, event, data) for hook_id in asked)
        return len(asked)

    def _make_room(self, webhook_id: int) -> None:
        """Of an address that takes too few, the oldest messages are given up."""
        now = utcnow()
        waits = (
            Delivery.webhook_id == webhook_id,
            Delivery.status == DeliveryStatus.WAITING,
            ~WISHED,
            or_(Delivery.claimed_until.is_(None), Delivery.claimed_until <= now),
        )
        newest = select(Delivery.id).where(*waits).order_by(Delivery.id.desc())
        # SQLite wants a LIMIT before an OFFSET
        too_many = newest.offset(MOST_WAITING - 1).limit(MOST_WAITING)
        given_up = self.session.scalars(
            update(Delivery)
            .where(Delivery.id.in_(too_many))
            .values(status=DeliveryStatus.FAILED, error=TOO_MANY)
            .returning(Delivery.id)
            .execution_options(synchronize_session=False)
        ).all()
        if given_up:
            trim_log(self.session, webhook_id)


def _message(webhook_id: int, event: str, data: dict[str, Any]) -> Delivery:
    now = utcnow()
    body = {
        "type": event,
        "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": data,
    }
    return Delivery(
        webhook_id=webhook_id,
        uid=f"msg_{uuid.uuid4().hex}",
        event=event,
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        next_at=now,
        attempts=0,
        status=DeliveryStatus.WAITING,
    )


def _box_json(box: Box) -> dict[str, Any]:
    corners = (box.x1, box.y1, box.x2, box.y2)
    return {
        "label": box.label,
        "score": round(box.score, 4),
        "box": [round(side, 2) for side in corners],
    }


@dataclass(frozen=True)
class WebhookService:
    session: scoped_session[Session]
    allow_private: bool  # whether addresses inside this server's network may be told
    wake: Callable[[], object]

    def of_owner(self, owner_id: int) -> Sequence[Webhook]:
        """Oldest first."""
        query = select(Webhook).where(Webhook.owner_id == owner_id).order_by(Webhook.id)
        return self.session.scalars(query).all()

    def get(self, owner_id: int, webhook_id: int) -> Webhook:
        """Raises NotFound: no such webhook of this owner."""
        query = select(Webhook).where(Webhook.id == webhook_id, Webhook.owner_id == owner_id)
        found = self.session.scalar(query)
        if found is None:
            raise NotFound(N_("There is no such webhook."))
        return found

    def stopped(self, owner_id: int) -> bool:
        """Whether one was switched off because it failed for long."""
        failing = Webhook.off_reason.in_((OffReason.FAILING, OffReason.GONE))
        query = select(Webhook.id).where(Webhook.owner_id == owner_id, failing).limit(1)
        return self.session.scalar(query) is not None

    def check_address(self, url: str) -> str:
        """``url`` without space around it. Resolves the name, so call it outside of transactions.

        Raises:
            InvalidInput: not an address that may be told.
        """
        url = url.strip()
        if len(url) > URL_LENGTH:
            raise InvalidInput(N_("An address has at most %(limit)s characters."), limit=URL_LENGTH)
        parts = outbound.require_address(url)
        port = parts.port or outbound.PORTS[parts.scheme]
        outbound.resolve(parts.hostname or "", port, allow_private=self.allow_private)
        return url

    def create(
        self, owner_id: int, url: str, events: Iterable[str], token: str | None = None
    ) -> Webhook:
        """A new one, with its secret, for an address that was checked. Commits.

        Args:
            token: the prefix of the one that asks; the webhook ends with it.

        Raises:
            InvalidInput: no event.
            Conflict: the account has MOST of them.
        """
        words = _events(events)
        number = select(func.count()).where(Webhook.owner_id == owner_id)
        if (self.session.scalar(number) or 0) >= MOST:
            raise Conflict(
                N_("You have %(most)s webhooks already. Delete one that is not needed."), most=MOST
            )
        hook = Webhook(owner_id=owner_id, url=url, events=words, secret=_new_secret())
        self._given_by(hook, token)
        self.session.add(hook)
        self.session.commit()
        return hook

    def change(
        self,
        owner_id: int,
        webhook_id: int,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        active: bool | None = None,
        token: str | None = None,
    ) -> Webhook:
        """Another address that was checked, other events; on or off. Commits. Raises NotFound.

        Args:
            token: as in ``create``; whoever gives another address or switches it on answers for it.
        """
        hook = self.get(owner_id, webhook_id)
        moves = url is not None and url != hook.url
        starts, stops = bool(active) and not hook.is_on, active is False and hook.is_on
        if moves or starts:
            self._given_by(hook, token)
            hook.failing_since = hook.paused_until = None
        hook.url = url or hook.url
        if events is not None:
            hook.events = _events(events)
        if starts:
            hook.off_at = hook.off_reason = None
        elif stops:
            hook.off_at, hook.off_reason = utcnow(), OffReason.OWNER
            drop_waiting(self.session, hook.id)
        self.session.commit()
        return hook

    def rotate(self, owner_id: int, webhook_id: int) -> Webhook:
        """A new secret; for a day the old one signs too. Commits. Raises NotFound."""
        hook = self.get(owner_id, webhook_id)
        hook.old_secret, hook.old_until = hook.secret, utcnow() + BOTH
        hook.secret = _new_secret()
        self.session.commit()
        return hook

    def delete(self, owner_id: int, webhook_id: int) -> None:
        """With its log. Commits. Raises NotFound."""
        hook_id = self.get(owner_id, webhook_id).id
        self.session.execute(delete(Delivery).where(Delivery.webhook_id == hook_id))
        self.session.execute(delete(Webhook).where(Webhook.id == hook_id))
        self.session.commit()

    def test(self, owner_id: int, webhook_id: int) -> Delivery:
        """A message that tells of nothing; it waits like others. Commits.

        Raises:
            NotFound: no such webhook.
            Conflict: it is off.
        """
        hook = self._on(owner_id, webhook_id)
        message = _message(hook.id, TEST, {"kind": "test", "webhook": hook.id})
        self.session.add(message)
        self.session.commit()
        self.wake()
        return message

    def again(self, owner_id: int, webhook_id: int, delivery_id: int) -> Delivery:
        """Send a message that has ended once more, with the same id. Commits.

        Raises:
            NotFound: no such webhook or message.
            Conflict: the webhook is off, or the message waits anyway or is on its way.
        """
        hook = self._on(owner_id, webhook_id)
        query = select(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == hook.id)
        message = self.session.scalar(query.with_for_update())
        if message is None:
            raise NotFound(N_("There is no such message."))
        if message.claimed_until is not None and message.claimed_until > utcnow():
            raise Conflict(N_("This message is on its way just now. Look again in a few seconds."))
        if message.status is DeliveryStatus.WAITING and message.attempts == 0:
            raise Conflict(N_("This message waits to be sent already."))
        message.status, message.attempts, message.next_at = DeliveryStatus.WAITING, 0, utcnow()
        message.claimed_until = None
        self.session.commit()
        self.wake()
        return message

    def log(
        self, owner_id: int, webhook_id: int, limit: int, before: int | None = None
    ) -> Sequence[Delivery]:
        """The latest messages, or those before the message ``before``. Raises NotFound."""
        query = select(Delivery).where(Delivery.webhook_id == self.get(owner_id, webhook_id).id)
        if before is not None:
            query = query.where(Delivery.id < before)
        return self.session.scalars(query.order_by(Delivery.id.desc()).limit(limit)).all()

    def _on(self, owner_id: int, webhook_id: int) -> Webhook:
        hook = self.get(owner_id, webhook_id)
        if not hook.is_on:
            raise Conflict(N_("This webhook is off. Switch it on first."))
        return hook

    def _given_by(self, hook: Webhook, token: str | None) -> None:
        """Note who gave the address. Does not commit."""
        hook.token, hook.ends_at = token, None
        if token is not None:
            mine = Token.owner_id == hook.owner_id, Token.prefix == token
            # A token that was revoked meanwhile ends it at once; one that is being revoked waits.
            row = self.session.scalar(select(Token).where(*mine).with_for_update(read=True))
            hook.ends_at = (row.revoked_at or row.expires_at) if row else utcnow()


def not_ended() -> ColumnElement[bool]:
    """That the token which gave the address still works, or a person gave it."""
    return or_(Webhook.ends_at.is_(None), Webhook.ends_at > utcnow())


def end_of_token(session: scoped_session[Session], owner_id: int, prefix: str) -> None:
    """A token was revoked: what it made tells nobody anything any more. Does not commit."""
    mine = Webhook.owner_id == owner_id, Webhook.token == prefix
    for hook_id in session.scalars(select(Webhook.id).where(*mine, not_ended())).all():
        session.execute(update(Webhook).where(Webhook.id == hook_id).values(ends_at=utcnow()))
        drop_waiting(session, hook_id)


def trim_log(session: scoped_session[Session], webhook_id: int) -> None:
    """Forget of the log what is old or too much. Does not commit."""
    mine = (Delivery.webhook_id == webhook_id) & (Delivery.status != DeliveryStatus.WAITING)
    newest = select(Delivery.id).where(mine).order_by(Delivery.id.desc())
    oldest = newest.offset(KEPT_ROWS).limit(1).scalar_subquery()
    session.execute(
        delete(Delivery)
        .where(mine, or_(Delivery.created_at < utcnow() - KEPT, Delivery.id <= oldest))
        .execution_options(synchronize_session=False)
    )


def drop_waiting(session: scoped_session[Session], webhook_id: int) -> None:
    """What waits for a webhook that is off is not sent any more. Does not commit."""
    session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == webhook_id, Delivery.status == DeliveryStatus.WAITING)
        .values(status=DeliveryStatus.FAILED, error=N_("The webhook was switched off."))
        .execution_options(synchronize_session=False)
    )
    trim_log(session, webhook_id)


def _events(words: Iterable[str]) -> str:
    chosen = [event for event in EVENTS if event in set(words)]
    if not chosen:
        raise InvalidInput(N_("Tick at least one event."))
    return " ".join(chosen)


def _new_secret() -> str:
    return SECRET_START + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
