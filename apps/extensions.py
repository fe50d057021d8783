"""Extension objects, unbound: app.py binds them to an application."""

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import g, has_app_context, has_request_context, request
from flask_babel import Babel
from flask_bootstrap import Bootstrap5
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_mailman import Mail
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect
from sqlalchemy import Connection, MetaData, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry, Pool


class Base(DeclarativeBase):
    """Declarative base with named constraints: without names SQLite migrations cannot drop one."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
if TYPE_CHECKING:  # db.Model is made at run time, which no type checker can follow
    Model = Base
else:
    Model = db.Model
migrate = Migrate(render_as_batch=True, compare_type=True)
csrf = CSRFProtect()
babel = Babel()
bootstrap = Bootstrap5()
mail = Mail()
limiter = Limiter(get_remote_address)

BUSY_SECONDS = 30  # that a writer waits for others
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Links in mails are opened by GET and change the account.
WRITING_GETS = frozenset({"auth.confirm_email", "auth.change_email_confirm"})
# Forms that hash a password, which takes a third of a second, send a mail, take or read a file of
# weights, unpack pictures, resolve a name or read all boxes of one: they read first, and call
# begin_writing() when they have something to write.
SLOW_FORMS = frozenset(
    {"auth.login", "auth.verify", "auth.forgot_password", "auth.send_confirmation"}
    | {"auth.register", "auth.change_password", "auth.reset_password", "auth.change_email"}
    | {"account.show", "account.delete", "crud.model_new", "detector.upload"}
    | {"crud.model_verify", "crud.classifier_verify"}
    | {"detector.save_state", "video.upload", "imports.upload"}
    | {"webhooks.index", "webhooks.detail"}
)
# These only ask.
ASKING_FORMS = frozenset(
    {"classifier.model", "classifier.answer", "classifier.predict", "live.detect"}
    | {"detector.export_many"}
)


# Below these, programs ask: with a token, never with a cookie. They read first, and call
# begin_writing() or writing() when they have something to write.
PROGRAM_PATHS = ("/api/", "/v1/", "/infer/", "/model/", "/info", "/labelstudio/")


@event.listens_for(Engine, "connect")
def _prepare_sqlite(connection: Any, _record: object) -> None:
    """SQLite as a server database: checked foreign keys, readers beside one writer, patience."""
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None  # we send BEGIN ourselves, below
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@event.listens_for(Engine, "begin")
def _begin_sqlite(connection: Connection) -> None:
    """Take SQLite's write lock at the start of a transaction that may write.

    A deferred transaction that reads first and writes later fails at once with "database is
    locked" when another one wrote in between; the busy timeout cannot help there. Pages that only
    read stay deferred and never wait.
    """
    if connection.dialect.name != "sqlite":
        return
    if _reads_only():
        connection.exec_driver_sql("BEGIN")
        return
    turns.wait(connection)
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class WriteTurns:
    """Writers of one process wait for each other here, and for other processes in SQLite.

    SQLite looks for its lock again after pauses of up to a tenth of a second, in which nobody
    works; here the next one is woken at once.
    """

    KEY = "write_turn"  # in the pool's record of a connection

    def __init__(self) -> None:
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def wait(self, connection: Connection) -> None:
        """Until no other connection to the same file has its turn; at most as long as SQLite."""
        if connection.connection.is_detached:  # of a migration, alone: no pool tells of its end
            return
        lock = self._locks[str(connection.engine.url.database)]
        if self.KEY not in connection.info and lock.acquire(timeout=BUSY_SECONDS):
            connection.info[self.KEY] = lock

    def end(self, _connection: object, record: ConnectionPoolEntry, *_error: object) -> None:
        """When the connection goes back to the pool, or is given up."""
        lock = record.info.pop(self.KEY, None)
        if lock is not None:
            lock.release()


turns = WriteTurns()
for _name in ("checkin", "invalidate", "soft_invalidate"):
    event.listen(Pool, _name, turns.end)


def _reads_only() -> bool:
    if has_app_context() and g.get("reading", False):
        return True
    if not has_request_context() or g.get("writing", False):
        return False
    if for_programs():
        return True
    if request.method in SAFE_METHODS:
        return request.endpoint not in WRITING_GETS
    return request.endpoint in SLOW_FORMS | ASKING_FORMS


def for_programs() -> bool:
    """Whether the address of this request is for programs that show a token."""
    return request.path.startswith(PROGRAM_PATHS)


def only_reading() -> None:
    """Promise that the present context writes nothing, outside of requests where none can tell."""
    g.reading = True


@contextmanager
def reading() -> Iterator[None]:
    """The same promise for the transactions that begin in this block."""
    before = g.get("reading", False)
    g.reading = True
    try:
        yield
    finally:
        g.reading = before


def begin_writing() -> None:
    """End the present transaction; the next one of this request may write (see SLOW_FORMS)."""
    db.session.commit()
    g.writing = True


@contextmanager
def writing() -> Iterator[None]:
    """begin_writing() for this block; afterwards the request only reads again."""
    begin_writing()
    try:
        yield
    finally:
        g.writing = False
