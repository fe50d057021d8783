"""Extension objects, unbound: app.py binds them to an application."""

import sqlite3
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

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Links in mails are opened by GET and change the account.
WRITING_GETS = frozenset({"auth.confirm_email", "auth.change_email_confirm"})
# Forms that hash a password, which takes a third of a second, send a mail or take a file of
# weights: they read first, and call begin_writing() when they have something to write.
SLOW_FORMS = frozenset(
    {"auth.login", "auth.verify", "auth.forgot_password", "auth.send_confirmation"}
    | {"auth.register", "auth.change_password", "auth.reset_password", "auth.change_email"}
    | {"account.show", "account.delete", "crud.model_new"}
)
# These only ask.
ASKING_FORMS = frozenset({"classifier.model", "classifier.answer", "classifier.predict"})


@event.listens_for(Engine, "connect")
def _prepare_sqlite(connection: Any, _record: object) -> None:
    """SQLite as a server database: checked foreign keys, readers beside one writer, patience."""
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None  # we send BEGIN ourselves, below
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA busy_timeout=30000")  # milliseconds
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
    connection.exec_driver_sql("BEGIN" if _reads_only() else "BEGIN IMMEDIATE")


def _reads_only() -> bool:
    if has_app_context() and g.get("reading", False):
        return True
    if not has_request_context() or g.get("writing", False):
        return False
    if request.method in SAFE_METHODS:
        return request.endpoint not in WRITING_GETS
    return request.endpoint in SLOW_FORMS | ASKING_FORMS


def only_reading() -> None:
    """Promise that the present context writes nothing, outside of requests where none can tell."""
    g.reading = True


def begin_writing() -> None:
    """End the present transaction; the next one of this request may write (see SLOW_FORMS)."""
    db.session.commit()
    g.writing = True
