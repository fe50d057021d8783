"""Which processes detect, and which of them are gone."""

import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, type_coerce, update
from sqlalchemy.orm import Session, scoped_session

from apps.models import Image, ImageStatus, Worker
from apps.models.types import UTCDateTime
from apps.vision.types import EngineStatus, LoadedModel

STUCK_AFTER = timedelta(minutes=30)  # no detection takes that long, however alive its worker is
FORGOTTEN_AFTER = timedelta(days=1)  # until then people can see which worker disappeared

Claimed = tuple[str | None, datetime | None]  # by which worker, and when
Running = Any  # a row with id, claimed_by and claimed_at


@dataclass(frozen=True)
class WorkerState:
    """One process that detects, as people want to see it."""

    name: str
    host: str
    pid: int
    device: str | None  # "cpu", "cuda (NVIDIA H200)"; None before its first picture
    started_at: datetime
    seen_at: datetime
    alive: bool
    pictures: tuple[int, ...]  # ids of what it looks at just now
    engine: EngineStatus | None  # when it was last seen; None: an earlier version's

    @property
    def trouble(self) -> str | None:
        """In English, why it could not work when it was last seen."""
        return self.engine.trouble if self.engine else None


@dataclass(frozen=True)
class WorkerService:
    """The list of workers.

    Args:
        lost_after: silence after which a worker counts as gone.
        engine: how the one of this process is.
    """

    session: scoped_session[Session]
    lost_after: timedelta
    engine: Callable[[], EngineStatus]

    def beat(self) -> None:
        """Say that this process is there. A process that stops saying so loses its pictures."""
        name = worker_name()
        engine = self.engine()
        values = {
            "seen_at": func.now(),
            "device": engine.device[:80] if engine.device else None,
            "engine": asdict(engine),
        }
        known = self.session.scalar(
            update(Worker).where(Worker.name == name).values(values).returning(Worker.name)
        )
        if known is None:
            host, pid = socket.gethostname()[:60], os.getpid()
            self.session.add(Worker(name=name, host=host, pid=pid, started_at=func.now(), **values))
            forgotten = self._now() - FORGOTTEN_AFTER
            self.session.execute(delete(Worker).where(Worker.seen_at < forgotten))
        self.session.commit()

    def leave(self) -> None:
        """Say that this process takes no further picture."""
        self.session.execute(delete(Worker).where(Worker.name == worker_name()))
        self.session.commit()

    def all(self) -> list[WorkerState]:
        """Every worker of the last day that did not say good-bye, by host and number."""
        now = self._now()
        claims = self.session.execute(
            select(Image.claimed_by, Image.id).where(Image.status == ImageStatus.RUNNING)
        ).all()
        workers = self.session.scalars(select(Worker).order_by(Worker.host, Worker.pid)).all()
        return [
            WorkerState(
                worker.name,
                worker.host,
                worker.pid,
                worker.device,
                worker.started_at,
                worker.seen_at,
                now - worker.seen_at <= self.lost_after,
                tuple(sorted(row.id for row in claims if row.claimed_by == worker.name)),
                None if worker.engine is None else _engine(worker.engine),
            )
            for worker in workers
        ]

    def abandoned(self, claims: Iterable[Claimed]) -> list[bool]:
        """For each running claim, whether its worker is surely gone, or stuck for good.

        What this process claimed counts as at work: it knows better itself.
        """
        now = self._now()
        rows = self.session.execute(select(Worker.name, Worker.seen_at))
        seen = {row.name: row.seen_at for row in rows}
        # A local database file has no other machines: a name from elsewhere is this one's, from
        # before it was restarted or renamed.
        one_host = self.session.get_bind().dialect.name == "sqlite"

        def is_abandoned(name: str | None, claimed_at: datetime | None) -> bool:
            if name is None or claimed_at is None or claimed_at < now - STUCK_AFTER:
                return True
            alive = is_alive(name)
            if alive is not None:
                return not alive
            return one_host or now - max(claimed_at, seen.get(name, claimed_at)) > self.lost_after

        return [is_abandoned(name, claimed_at) for name, claimed_at in claims]

    def left_behind(self, running: Sequence[Running], busy: Collection[int]) -> list[Running]:
        """Rows that nobody works on any more: of gone workers, or this one's but not ``busy``.

        The end of the latter could not be written.
        """
        gone = self.abandoned((row.claimed_by, row.claimed_at) for row in running)
        me = worker_name()
        return [
            row
            for row, is_gone in zip(running, gone, strict=True)
            if is_gone or (row.claimed_by == me and row.id not in busy)
        ]

    def _now(self) -> datetime:
        return _now(self.session)


def living_engines(session: scoped_session[Session], lost_after: timedelta) -> list[EngineStatus]:
    """How the engines of all workers are that are not gone, as each has told last."""
    told = session.scalars(
        select(Worker.engine).where(Worker.seen_at >= _now(session) - lost_after)
    )
    return [_engine(engine) for engine in told if engine is not None]


def _now(session: scoped_session[Session]) -> datetime:
    """By the database's clock: those of several machines differ."""
    return session.scalars(select(type_coerce(func.now(), UTCDateTime))).one()


def _engine(told: dict[str, Any]) -> EngineStatus:
    """What a worker of this version or a later one has told."""
    known: dict[str, Any] = {field.name: told.get(field.name) for field in fields(EngineStatus)}
    models = [LoadedModel(m["name"], m["bytes"], m["idle_seconds"]) for m in told["models"]]
    return EngineStatus(**known | {"models": tuple(models)})


def is_alive(name: str) -> bool | None:
    """Whether the process of the worker called ``name`` runs; None if it cannot be seen from here.

    A malformed name belongs to nobody.
    """
    number, place, birth = [*name.split(":"), "", "", ""][1:4]
    if not number.isdecimal():
        return False
    return _birth(int(number)) == birth if place == _place() else None


def worker_name() -> str:
    """Who claims: "host:pid:place:birth".

    A later process with the same number has another birth; a container with the same host name,
    which can count from 1 as well, has another place.
    """
    return _name_of(os.getpid())


@cache
def _name_of(pid: int) -> str:
    """Of this process; a child of it has a number of its own, and so a name of its own."""
    return f"{socket.gethostname()[:60]}:{pid}:{_place()}:{_birth(pid)}"


def _place() -> str:
    """Where a process number means one process: a boot and a PID namespace, else this host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # a system without /proc
        return socket.gethostname()[:20]


def _birth(pid: int) -> str:
    """When a process of this place began; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # gone, or a system without /proc
        return "" if not _alive(pid) else "alive"
    return stat.rpartition(")")[2].split()[19]  # field 22: start time in clock ticks after boot


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
