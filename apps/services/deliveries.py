"""Messages of the outbox on their way: signed, sent at least once, tried again for a day."""

import base64
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased, scoped_session

from apps.errors import N_, AppError
from apps.models import (
    ANSWER_TEXT,
    Delivery,
    DeliveryStatus,
    OffReason,
    User,
    Webhook,
    utcnow,
)
from apps.outbound import Answer, post
from apps.services.webhooks import SECRET_START, TEST, WISHED, drop_waiting, trim_log

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for one answer
LEASE = timedelta(seconds=120)  # after which a process that has a message counts as gone
# Seconds before the second try, the third …; together 27.6 hours, as Standard Webhooks has it.
PAUSES = (5, 300, 1800, 7200, 18000, 36000, 36000)
JITTER = 0.2  # of a pause, both ways, so that what failed together does not come back together
LONGEST = 36000.0  # seconds that an address can ask us to wait
# That an address is left alone after a failure, at least and at most; between these, as long as it
# has failed. Each of its messages has the PAUSES of its own, which are longer.
HOOK_PAUSES = (timedelta(seconds=PAUSES[0] * (1 - JITTER)), timedelta(seconds=1800 * (1 - JITTER)))
THREADS = 5  # that send, in one process
# Of them, for all addresses that fail together, and for those of one account that are well, which
# may be slow: so one is left for everybody else.
SHARE = 2
OFF_AFTER = timedelta(days=3)  # without one good answer

REDIRECTED = N_("It answered with a redirect, which is not followed. Give its own address.")
NOT_GOOD = N_("It did not answer with success (a status from 200 to 299).")


@dataclass(frozen=True)
class _Try:
    """What one try needs, and the right to make it."""

    delivery_id: int
    attempt: int
    webhook_id: int
    uid: str
    event: str
    body: bytes
    url: str
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class DeliveryService:
    """The sender's side of the outbox.

    Args:
        allow_private: as outbound.post has it.
        reading: around what only reads.
    """

    session: scoped_session[Session]
    allow_private: bool
    reading: Callable[[], AbstractContextManager[object]] = nullcontext
    send: Callable[..., Answer] = post

    def next_due(self, but: Collection[int] = ()) -> int | None:
        """The message that is due the longest, except ``but``.

        Those of addresses that answered last time come first. Others never take all THREADS, so
        that no number of dead addresses holds up one that is well; nor do those of one account,
        which may be slow.

        Args:
            but: what this process has in hand.
        """
        now = utcnow()
        in_hand = or_(Delivery.id.in_(but), Delivery.claimed_until > now)
        waiting = Delivery.status == DeliveryStatus.WAITING
        failing = Webhook.failing_since.is_not(None)
        busy = select(Delivery.webhook_id).where(waiting, in_hand)
        tried = select(func.count()).select_from(Delivery).join(Webhook).where(waiting, in_hand)
        mine = Delivery.id.in_(but)  # a killed process has its messages for minutes
        of_one = select(Webhook.owner_id).join(Delivery).where(waiting, mine, ~failing)
        crowded = of_one.group_by(Webhook.owner_id).having(func.count() >= SHARE)
        query = (
            select(Delivery.id)
            .join(Webhook)
            .where(
                _due(now),
                Delivery.webhook_id.not_in(busy),
                or_(
                    and_(~failing, Webhook.owner_id.not_in(crowded)),
                    and_(failing, tried.where(failing).scalar_subquery() < SHARE),
                ),
            )
            .order_by(failing, WISHED.desc(), Delivery.next_at, Delivery.id)
            .limit(1)
        )
        with self.reading():
            found = self.session.scalar(query)
            self.session.commit()
        return found

    def run(self, delivery_id: int) -> None:
        """Try once to send a message that is due. Again, or by two at once, does nothing more."""
        one = self._claim(delivery_id)
        if one is None:
            return
        answer, error, started = None, "", time.perf_counter()
        try:
            answer = self.send(
                one.url,
                one.body,
                headers_of(one.uid, one.body, one.secrets, int(time.time())),
                timeout=TIMEOUT,
                allow_private=self.allow_private,
            )
        except AppError as refusal:
            error = str(refusal)
        except Exception:
            logger.exception("delivery failed delivery_id=%d", delivery_id)
            error = "unexpected error"
        self._settle(one, answer, error, round(1000 * (time.perf_counter() - started)))

    def run_due(self) -> int:
        """Send all that is due, one after the other; how many."""
        number = 0
        while (delivery_id := self.next_due()) is not None:
            self.run(delivery_id)
            number += 1
        return number

    def _claim(self, delivery_id: int) -> _Try | None:
        now = utcnow()
        hook = self.session.execute(
            select(
                Webhook.id, Webhook.url, Webhook.secret, Webhook.old_secret, Webhook.old_until,
                Webhook.off_at, Webhook.ends_at, User.active,
            )
            .join(User, User.id == Webhook.owner_id)
            .join(Delivery)
            .where(Delivery.id == delivery_id)
            # Of an address only one message is on its way. A detection that writes another one
            # has to wait for neither.
            .with_for_update(of=Webhook, key_share=True)
        ).one_or_none()  # fmt: skip
        if hook is None:
            self.session.rollback()
            return None
        ended = hook.ends_at is not None and hook.ends_at <= now
        if not hook.active or hook.off_at is not None or ended:
            drop_waiting(self.session, hook.id)
            self.session.commit()
            return None
        other = aliased(Delivery)
        waits = other.status == DeliveryStatus.WAITING
        busy = select(other.id).where(other.webhook_id == hook.id, waits, other.claimed_until > now)
        row = self.session.execute(
            update(Delivery)
            .where(Delivery.id == delivery_id, _due(now), ~busy.exists())
            .values(claimed_until=now + LEASE, attempts=Delivery.attempts + 1)
            .returning(Delivery.attempts, Delivery.uid, Delivery.event, Delivery.body)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        self.session.commit()
        if row is None:
            return None
        old = hook.old_secret if hook.old_until is not None and hook.old_until > now else None
        return _Try(
            delivery_id, row.attempts, hook.id, row.uid, row.event, row.body.encode(),
            hook.url, (hook.secret, old) if old else (hook.secret,),
        )  # fmt: skip

    def _settle(self, one: _Try, answer: Answer | None, error: str, duration_ms: int) -> None:
        """Write what came of a try; nothing if the message was taken from it meanwhile."""
        now = utcnow()
        # As _claim has it: the webhook before its messages, or two could wait for each other.
        mine = select(Webhook.id).where(Webhook.id == one.webhook_id)
        self.session.execute(mine.with_for_update(key_share=True))
        status, next_at = _next(one, answer, now)
        kept = self.session.scalar(
            update(Delivery)
            .where(
                Delivery.id == one.delivery_id,
                Delivery.attempts == one.attempt,
                Delivery.status == DeliveryStatus.WAITING,
            )
            .values(
                status=status,
                next_at=next_at,
                claimed_until=None,
                tried_at=now,
                answer_status=answer.status if answer else None,
                answer=_text(answer.body) if answer else None,
                error=(error or _fault(answer))[:300] or None,
                duration_ms=duration_ms,
            )
            .returning(Delivery.id)
            .execution_options(synchronize_session=False)
        )
        if kept is not None:
            self._note(one.webhook_id, now, answer)
            trim_log(self.session, one.webhook_id)
        self.session.commit()
        logger.info(
            "delivery id=%d attempt=%d status=%s answer=%s ms=%d",
            *(one.delivery_id, one.attempt, status.value, answer.status if answer else "none"),
            duration_ms,
        )

    def _note(self, webhook_id: int, now: datetime, answer: Answer | None) -> None:
        """How its address behaves: one that fails is left alone for as long as it has failed, and
        switched off if that is long, or if it is gone."""
        here = update(Webhook).where(Webhook.id == webhook_id)
        here = here.execution_options(synchronize_session=False)
        if _is_good(answer):
            self.session.execute(
                here.where(Webhook.failing_since.is_not(None)).values(
                    failing_since=None, paused_until=None
                )
            )
            return
        self.session.execute(here.where(Webhook.failing_since.is_(None)).values(failing_since=now))
        since = self.session.scalar(select(Webhook.failing_since).where(Webhook.id == webhook_id))
        pause = min(max(now - (since or now), HOOK_PAUSES[0]), HOOK_PAUSES[1])
        pause = max(pause, _asked(answer))
        self.session.execute(here.values(paused_until=now + pause))
        gone = _is_gone(answer)
        reason = OffReason.GONE if gone else OffReason.FAILING
        off = here.where(Webhook.off_at.is_(None)).values(off_at=now, off_reason=reason)
        if not gone:
            off = off.where(Webhook.failing_since <= now - OFF_AFTER)
        if self.session.scalar(off.returning(Webhook.id)) is not None:
            logger.warning("webhook switched off id=%d reason=%s", webhook_id, reason.value)
            drop_waiting(self.session, webhook_id)


def _next(one: _Try, answer: Answer | None, now: datetime) -> tuple[DeliveryStatus, datetime]:
    """What becomes of a message after a try, and when it is due again if it waits."""
    if _is_good(answer):
        return DeliveryStatus.DELIVERED, now
    if one.attempt > len(PAUSES) or one.event == TEST or _is_gone(answer):
        return DeliveryStatus.FAILED, now
    return DeliveryStatus.WAITING, now + _pause(one.attempt, answer)


def _is_good(answer: Answer | None) -> bool:
    return answer is not None and 200 <= answer.status < 300


def _is_gone(answer: Answer | None) -> bool:
    return answer is not None and answer.status == 410


def _fault(answer: Answer | None) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if answer is None or _is_good(answer):
        return ""
    return REDIRECTED if 300 <= answer.status < 400 else NOT_GOOD


def _due(now: datetime) -> ColumnElement[bool]:
    """Messages that may be tried, as far as one knows from them and their webhook."""
    paused = select(Webhook.id).where(Webhook.paused_until > now)
    return and_(
        Delivery.status == DeliveryStatus.WAITING,
        Delivery.next_at <= now,
        or_(Delivery.claimed_until.is_(None), Delivery.claimed_until <= now),
        or_(WISHED, Delivery.webhook_id.not_in(paused)),
    )


def headers_of(uid: str, body: bytes, secrets: Collection[str], timestamp: int) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time (seconds since 1970) and one signature for each
    secret."""
    signed = f"{uid}.{timestamp}.".encode() + body
    return {
        "Content-Type": "application/json",
        "User-Agent": "Sightbox-Webhook",
        "webhook-id": uid,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_START))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _pause(attempt: int, answer: Answer | None) -> timedelta:
    """How long until the next try, at least as long as the address asks for."""
    seconds = PAUSES[attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return max(timedelta(seconds=seconds), _asked(answer))


def _asked(answer: Answer | None) -> timedelta:
    """How long the address wants to be left alone."""
    asked = _retry_after(answer.retry_after) if answer is not None else 0.0
    return timedelta(seconds=min(max(asked, 0.0), LONGEST))


def _retry_after(text: str) -> float:
    """Seconds that a Retry-After asks for, a number or a date; 0 if it says nothing."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - utcnow()).total_seconds()


def _text(body: bytes) -> str:
    """For people: no bytes that are no text."""
    text = body.decode("utf-8", "replace")[:ANSWER_TEXT]
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)
