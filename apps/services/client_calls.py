"""A short log of what programs asked and what went wrong, for the page that connects them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_
from apps.models import CALL_TEXT, ClientCall, User, utcnow

KEPT = 100  # rows of an account, and of nobody's calls
KEPT_FOR = timedelta(days=14)
PAUSE = timedelta(seconds=10)  # between two writes of calls that are alike
REMEMBERED = 500  # kinds of calls that one process counts
STRANGERS = 50  # of them, of calls that no account can be told from
STALE = timedelta(minutes=10)  # after which a stranger's kind makes room for another
OTHERS = "…"  # in place of what strangers make up, beyond these
MOST_DAMAGED = 10  # rows of an account whose error is DAMAGED
# In place of what the client got, which must not know whose token begins so.
DAMAGED = N_(
    "The token begins like this one of yours, but its rest is another: it was cut off or changed "
    "on the way. Copy it again, or make a new one."
)


@dataclass(frozen=True)
class Call:
    """One call, without its time: what is equal to another is counted with it."""

    owner_id: int | None
    token: str
    method: str
    path: str
    status: int
    error: str
    client: str
    address: str

    @property
    def is_strangers(self) -> bool:
        """Whether anybody can make it up: who knows the visible start of a token has no token."""
        return self.owner_id is None or self.error == DAMAGED


@dataclass
class _Count:
    """Calls alike that were not written yet."""

    calls: int
    first: datetime
    last: datetime
    written: datetime | None = None
    row: int | None = None


@dataclass(frozen=True)
class ClientCallService:
    """A camera asks several times a second: alike calls are counted in memory and written seldom.

    What a process that is killed has not written is lost: at most ten seconds of numbers.
    """

    session: scoped_session[Session]
    writing: Callable[[], AbstractContextManager[object]] = nullcontext  # around what writes
    counts: OrderedDict[Call, _Count] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, call: Call) -> None:
        """Count a call, and write it if it is new or was last written a while ago."""
        call = _bounded(call)
        now = utcnow()
        due: list[tuple[Call, _Count]] = []
        with self.lock:
            if call.is_strangers and call not in self.counts:
                call, due = self._among_strangers(call, now)
            count = self.counts.setdefault(call, _Count(0, now, now))
            self.counts.move_to_end(call)
            count.calls += 1
            count.last = now
            if count.written is None or now - count.written >= PAUSE:
                count.written = now
                due.append((call, count))
            while len(self.counts) > REMEMBERED:
                due.append(self.counts.popitem(last=False))
        self._write(due)

    def _among_strangers(self, call: Call, now: datetime) -> tuple[Call, list[tuple[Call, _Count]]]:
        """``call`` as it is counted, and what made room for it, which is to be written.

        Strangers can make up any number of kinds, and each of them is a row to write, so there
        are only so many. With the lock.
        """
        kinds = [kind for kind in self.counts if kind.is_strangers]
        if len(kinds) < STRANGERS:
            return call, []
        if now - self.counts[kinds[0]].last > STALE:
            return call, [(kinds[0], self.counts.pop(kinds[0]))]
        return replace(call, path=OTHERS, client=OTHERS, address=OTHERS), []

    def latest(self, owner_id: int, *, nobodys: bool = False) -> Sequence[ClientCall]:
        """The latest calls of an account, newest first.

        Args:
            nobodys: also those that no account could be told from: for administrators.
        """
        with self.lock:
            waiting = [(call, count) for call, count in self.counts.items() if count.calls]
        self._write(waiting)
        mine: ColumnElement[bool] = ClientCall.owner_id == owner_id
        if nobodys:
            mine = mine | ClientCall.owner_id.is_(None)
        query = select(ClientCall).where(mine).order_by(ClientCall.last_at.desc(), ClientCall.id)
        return self.session.scalars(query.limit(KEPT + MOST_DAMAGED)).all()

    def _write(self, calls: list[tuple[Call, _Count]]) -> None:
        if not any(count.calls for _, count in calls):
            return
        with self.writing():
            since = self._accounts(calls)
            for call, count in calls:
                if call.owner_id is None or since.get(call.owner_id, count.last) < count.last:
                    self._add(call, count)
                else:
                    with self.lock:
                        self.counts.pop(call, None)
            self.session.commit()

    def _accounts(self, calls: list[tuple[Call, _Count]]) -> dict[int, datetime]:
        """Since when each account of ``calls`` is there; others are gone.

        SQLite gives the number of an account that was deleted to the next one.
        """
        owners = {call.owner_id for call, _ in calls if call.owner_id is not None}
        query = select(User.id, User.created_at).where(User.id.in_(owners))
        return dict(iter(self.session.execute(query)))

    def _add(self, call: Call, count: _Count) -> None:
        with self.lock:
            if not count.calls:
                return
            calls, first, last, row_id = count.calls, count.first, count.last, count.row
            count.calls, count.first = 0, last
        row = self.session.get(ClientCall, row_id) if row_id is not None else None
        if row is None:
            row = ClientCall(calls=0, first_at=first, last_at=last, **vars(call))
            self.session.add(row)
            self._forget(call.owner_id)
        row.calls += calls
        row.last_at = last
        self.session.flush()
        count.row = row.id

    def _forget(self, owner_id: int | None) -> None:
        """All but the latest rows of an account, and what is old.

        Those of damaged tokens are counted by themselves, so that they push no others out.
        """
        mine: ColumnElement[bool] = ClientCall.owner_id.is_(None)
        if owner_id is not None:
            mine = ClientCall.owner_id == owner_id
        self._keep(MOST_DAMAGED, mine & (ClientCall.error == DAMAGED))
        self._keep(KEPT, mine & (ClientCall.error != DAMAGED))
        old = ClientCall.last_at < utcnow() - KEPT_FOR
        self.session.execute(delete(ClientCall).where(old))

    def _keep(self, most: int, rows: ColumnElement[bool]) -> None:
        """Of ``rows`` the latest ones."""
        older = select(ClientCall.id).where(rows).order_by(ClientCall.last_at.desc()).offset(most)
        # SQLite wants a LIMIT before an OFFSET
        ids = self.session.scalars(older.limit(KEPT)).all()
        self.session.execute(delete(ClientCall).where(ClientCall.id.in_(ids)))


def _bounded(call: Call) -> Call:
    """As long as the columns are, without what a text column does not take."""
    texts = {
        name: "".join(c if c.isprintable() else "\ufffd" for c in value)[:CALL_TEXT]
        for name, value in vars(call).items()
        if isinstance(value, str)
    }
    return Call(**(vars(call) | texts))
