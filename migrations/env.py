"""Alembic's entry: the application's engine and the models' metadata."""

from typing import Any

from alembic import context
from flask import current_app

from apps.extensions import Base
from apps.models.types import UTCDateTime

migrate = current_app.extensions["migrate"]


def render_item(kind: str, item: Any, _context: Any) -> str | bool:
    """Our own types as SQLAlchemy's, so that an old migration needs nothing of apps/."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    options = {**migrate.configure_args, "render_item": render_item}
    if context.is_offline_mode():
        url = migrate.db.engine.url.render_as_string(hide_password=False)
        context.configure(url=url, target_metadata=Base.metadata, literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    with migrate.db.engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


run()
