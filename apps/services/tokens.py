"""Personal tokens: made, shown once, checked, revoked."""

import hashlib
import re
import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Forbidden, InvalidInput, NotFound, Unauthorized
from apps.models import FOR_A_TEST, TEST_START, Token, User, utcnow
from apps.services.webhooks import end_of_token

SCOPES = ("read", "write", "detect", "admin")
START = "sb_"  # of every token: whoever finds one lying about knows what it is
LETTERS = string.ascii_letters + string.digits
PREFIX = 8  # visible characters after START
VISIBLE = re.compile(f"{START}[{LETTERS}]{{{PREFIX}}}")
SECRET = 40  # hidden ones: 238 bits
MOST = 50  # tokens of an account that work
NAME_LENGTH = 60  # characters
MAX_DAYS = 3660
MAX_BOXES = 1000
FRESH = timedelta(minutes=1)  # how exactly the last use is known
KEPT = timedelta(days=30)  # that a revoked or expired token is still listed
TEST_FOR = timedelta(minutes=5)  # that a token made for one test works, if nobody ends it
TEST_MOST = 5  # of them at once: a few windows of one account
UNKNOWN = N_("This token is not known here. Copy it again, or make a new one.")


@dataclass(frozen=True)
class Caller:
    """The account behind a request of a program, and what its token allows.

    Plain values: they outlive every transaction of the request.
    """

    user_id: int
    name: str
    is_admin: bool
    threshold: float  # lowest score that makes a tag
    scopes: frozenset[str]
    token: str  # the visible start; empty: none was needed
    max_boxes: int | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes and (scope != "admin" or self.is_admin)


@dataclass(frozen=True)
class TokenService:
    session: scoped_session[Session]
    writing: Callable[[], AbstractContextManager[object]] = nullcontext  # around what writes

    def create(
        self,
        owner_id: int,
        name: str,
        scopes: Iterable[str],
        days: int | None = None,
        max_boxes: int | None = None,
    ) -> tuple[Token, str]:
        """A new token and its text, which cannot be had again.

        Args:
            days: that it works; None is for ever.
            max_boxes: in one answer of a detection.

        Raises:
            InvalidInput: a rule is broken.
            Forbidden: the scope ``admin`` for somebody who is no administrator.
        """
        name, words = _clean_name(name), [scope for scope in SCOPES if scope in set(scopes)]
        if not words:
            raise InvalidInput(N_("Tick at least one thing that the token may do."))
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise InvalidInput(N_("A token works for 1 to %(most)s days."), most=MAX_DAYS)
        if max_boxes is not None and not 1 <= max_boxes <= MAX_BOXES:
            raise InvalidInput(N_("Give a number of boxes from 1 to %(most)s."), most=MAX_BOXES)
        owner = self.session.get_one(User, owner_id)
        if "admin" in words and not owner.is_admin:
            raise Forbidden(N_("Only administrators can make a token that administers."))
        self._make_room(owner_id)
        token, text = _new(START, owner_id, name=name, scopes=" ".join(words), max_boxes=max_boxes)
        token.expires_at = None if days is None else utcnow() + timedelta(days=days)
        self.session.add(token)
        self.session.commit()
        return token, text

    def create_for_test(self, owner_id: int) -> tuple[int, str]:
        """The id and the text of a token that may detect for TEST_FOR and is in no list.

        Those of anybody that have expired are forgotten, and this owner's oldest above TEST_MOST.
        """
        self.session.execute(delete(Token).where(FOR_A_TEST, Token.expires_at <= utcnow()))
        mine = select(Token.id).where(FOR_A_TEST, Token.owner_id == owner_id)
        ids = self.session.scalars(mine.order_by(Token.id.desc())).all()
        self.session.execute(delete(Token).where(Token.id.in_(ids[TEST_MOST - 1 :])))
        token, text = _new(TEST_START, owner_id, name="test", scopes="detect")
        token.expires_at = utcnow() + TEST_FOR
        self.session.add(token)
        self.session.commit()
        return token.id, text

    def end_test(self, owner_id: int, token_id: int) -> None:
        """Forget a token of create_for_test; one that is gone already is no error."""
        mine = Token.id == token_id, Token.owner_id == owner_id
        self.session.execute(delete(Token).where(FOR_A_TEST, *mine))
        self.session.commit()

    def of_owner(self, owner_id: int) -> Sequence[Token]:
        """The account's tokens, the newest first, without those of tests."""
        mine = select(Token).where(Token.owner_id == owner_id, ~FOR_A_TEST)
        return self.session.scalars(mine.order_by(Token.id.desc())).all()

    def number_active(self, owner_id: int) -> int:
        """How many tokens of the account work, without those of tests."""
        return sum(token.state == "active" for token in self.of_owner(owner_id))

    def revoke(self, owner_id: int, token_id: int) -> Token:
        """Make a token useless from now on, with the webhooks it made; again is no error.

        Raises:
            NotFound: no such token of this owner.
        """
        query = select(Token).where(Token.id == token_id, Token.owner_id == owner_id)
        token = self.session.scalar(query)
        if token is None:
            raise NotFound(N_("There is no such token."))
        token.revoked_at = token.revoked_at or utcnow()
        end_of_token(self.session, owner_id, token.prefix)
        self.session.commit()
        return token

    def check(self, text: str) -> Caller:
        """Whose token this is; its use is noted, at most once a minute.

        Raises:
            Unauthorized: it is unknown, was revoked or has expired, or the account is disabled.
        """
        query = select(Token, User).join(User, User.id == Token.owner_id)
        row = self.session.execute(query.where(Token.digest == _digest(text))).one_or_none()
        if row is None:
            raise self._unknown(text)
        token, user = row
        if token.state == "revoked":
            raise Unauthorized(N_("This token was revoked. Make a new one."), user.id, token.prefix)
        if token.state == "expired":
            raise Unauthorized(N_("This token has expired. Make a new one."), user.id, token.prefix)
        if not user.active:
            raise Unauthorized(N_("The account of this token is disabled."), user.id, token.prefix)
        scopes = frozenset(token.scope_list)
        caller = Caller(
            user.id,
            user.username,
            user.is_admin,
            user.threshold,
            scopes,
            token.prefix,
            token.max_boxes,
        )
        self._note_use(token)
        return caller

    def _unknown(self, text: str) -> Unauthorized:
        """The refusal of what is no token, with whose token begins as it does, for their log.

        Its words are the same for all texts. It looks for all of them, so that its time is too.
        """
        start = VISIBLE.match(text.strip())
        prefix = start[0] if start else ""
        owners = self.session.scalars(select(Token.owner_id).where(Token.prefix == prefix)).all()
        if len(owners) != 1:
            return Unauthorized(UNKNOWN)
        return Unauthorized(UNKNOWN, owners[0], prefix, damaged=True)

    def _note_use(self, token: Token) -> None:
        """Ends the transaction: who asks for a detection holds none meanwhile."""
        now = utcnow()
        token_id, last = token.id, token.last_used_at
        if last is not None and now - last < FRESH:
            self.session.commit()
            return
        with self.writing():
            self.session.execute(update(Token).where(Token.id == token_id).values(last_used_at=now))
            self.session.commit()

    def _make_room(self, owner_id: int) -> None:
        """Forget what stopped working long ago, and refuse more than MOST that work."""
        long_ago = utcnow() - KEPT
        gone = (Token.revoked_at < long_ago) | (Token.expires_at < long_ago)
        mine = Token.owner_id == owner_id
        self.session.execute(delete(Token).where(mine, gone))
        good = (
            Token.revoked_at.is_(None),
            or_(Token.expires_at.is_(None), Token.expires_at > utcnow()),
        )
        working = select(func.count()).where(mine, ~FOR_A_TEST, *good)
        if (self.session.scalar(working) or 0) >= MOST:
            raise InvalidInput(
                N_("You have %(most)s tokens already. Revoke one that is not needed."), most=MOST
            )


def _new(start: str, owner_id: int, **values: Any) -> tuple[Token, str]:
    """A token whose visible part begins with ``start``, and its whole text."""
    prefix = start + _random(PREFIX)
    text = f"{prefix}_{_random(SECRET)}"
    return Token(owner_id=owner_id, prefix=prefix, digest=_digest(text), **values), text


def _clean_name(text: str) -> str:
    name = " ".join(text.split())
    if not name or not name.isprintable():
        raise InvalidInput(N_("Give the token a name that tells where it is used."))
    if len(name) > NAME_LENGTH:
        raise InvalidInput(N_("A name has at most %(limit)s characters."), limit=NAME_LENGTH)
    return name


def _digest(text: str) -> str:
    """A plain hash is enough: nobody can try all texts of 238 random bits."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))
