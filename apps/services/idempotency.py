"""The same request twice does its work once: Idempotency-Key."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput
from apps.models import KeptAnswer, utcnow

KEY_LENGTH = 200  # characters
KEPT_FOR = timedelta(hours=24)
GIVEN_UP = timedelta(minutes=10)  # a request that was not answered by then died with its process


@dataclass(frozen=True)
class Kept:
    """An answer that was given before."""

    status: int
    body: Any


@dataclass(frozen=True)
class IdempotencyService:
    session: scoped_session[Session]
    writing: Callable[[], AbstractContextManager[object]] = nullcontext  # around what writes

    def begin(self, owner_id: int, key: str, fingerprint: str) -> Kept | None:
        """The answer to the same request before, or None: then do it, and call ``end`` or ``drop``.

        Args:
            fingerprint: SHA-256 of what was sent, in hex.

        Raises:
            InvalidInput: not a usable key, or it came with something else before.
            Conflict: the first request with this key is still at work.
        """
        if not 1 <= len(key) <= KEY_LENGTH or not key.isprintable():
            raise InvalidInput(
                N_("An Idempotency-Key has 1 to %(limit)s printable characters."),
                limit=KEY_LENGTH,
            )
        with self.writing():
            self._forget()
            kept = self._find(owner_id, key)
            if kept is None:
                try:
                    self.session.add(
                        KeptAnswer(owner_id=owner_id, key=key, fingerprint=fingerprint)
                    )
                    self.session.commit()
                except IntegrityError:  # the same key at the same moment
                    self.session.rollback()
                    raise _at_work() from None
                return None
            if kept.fingerprint != fingerprint:
                raise InvalidInput(
                    N_("This Idempotency-Key came with other files before. Use a new one.")
                )
            if kept.status is None:
                raise _at_work()
            return Kept(kept.status, kept.body)

    def end(self, owner_id: int, key: str, status: int, body: Any) -> None:
        """Keep the answer for a day."""
        with self.writing():
            self.session.execute(
                update(KeptAnswer)
                .where(KeptAnswer.owner_id == owner_id, KeptAnswer.key == key)
                .values(status=status, body=body)
            )
            self.session.commit()

    def drop(self, owner_id: int, key: str) -> None:
        """Nothing was done: the same key may be used again."""
        self.session.rollback()
        with self.writing():
            self.session.execute(
                delete(KeptAnswer).where(KeptAnswer.owner_id == owner_id, KeptAnswer.key == key)
            )
            self.session.commit()

    def _find(self, owner_id: int, key: str) -> KeptAnswer | None:
        query = select(KeptAnswer).where(KeptAnswer.owner_id == owner_id, KeptAnswer.key == key)
        return self.session.scalar(query)

    def _forget(self) -> None:
        now = utcnow()
        dead = KeptAnswer.status.is_(None) & (KeptAnswer.created_at < now - GIVEN_UP)
        old = KeptAnswer.created_at < now - KEPT_FOR
        self.session.execute(delete(KeptAnswer).where(dead | old))


def _at_work() -> Conflict:
    return Conflict(N_("The first request with this Idempotency-Key is still at work."))
