"""Alembic's entry: the application's engine and the models' metadata."""

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import Connection

from apps.extensions import Base
from apps.models.types import UTCDateTime

migrate = current_app.extensions["migrate"]
# Made by hand in a migration, for one of the two databases: no model describes them.
BY_HAND = ("image_titles", "ix_images_folded_trigrams")


def render_item(kind: str, item: Any, _context: Any) -> str | bool:
    """Our own types as SQLAlchemy's, so that an old migration needs nothing of apps/."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def include_name(name: str | None, _kind: str, _parents: Any) -> bool:
    """What "flask db check" and "flask db migrate" compare with the models."""
    return not (name or "").startswith(BY_HAND)


def prepare_sqlite(connection: Connection) -> None:
    """Let migrations replace a table by a changed copy.

    With foreign keys on, dropping the old table would delete every row that refers to it.
    """
    if connection.dialect.name == "sqlite":
        connection.detach()  # from the pool: no page may use this connection later
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA foreign_keys=OFF")


def check_references(ctx: Any, **_kwargs: Any) -> None:
    """After each migration, before its commit: what was switched off above still holds."""
    if ctx.dialect.name == "sqlite" and not ctx.as_sql:
        broken = ctx.connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(f"This migration leaves rows that refer to nothing: {broken[:5]}")


def run() -> None:
    options = {
        **migrate.configure_args,
        "render_item": render_item,
        "include_name": include_name,
        "on_version_apply": check_references,
    }
    if context.is_offline_mode():
        url = migrate.db.engine.url.render_as_string(hide_password=False)
        context.configure(url=url, target_metadata=Base.metadata, literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    with migrate.db.engine.connect() as connection:
        prepare_sqlite(connection)
        context.configure(connection=connection, target_metadata=Base.metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


run()
