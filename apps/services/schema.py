"""The tables of a database at any revision, for what reads and writes them whole."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from apps.extensions import Base

VERSION = "alembic_version"
# What the database itself counts or finds again, and who is at work just now.
DERIVED = frozenset({VERSION, "picture_counts", "tag_counts", "workers", "exports"})
EMPTY_ANYWAY = frozenset({"settings"})  # rows in these alone make no installation
FUNCTIONS = ("count_pictures", "count_moved_picture", "fold_title", "count_tags", "own_tag")
CHUNK = 500  # rows of one statement


class Revisions:
    """The migrations of this version.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._config = Config()
        self._config.set_main_option("script_location", str(folder).replace("%", "%%"))
        self.scripts = ScriptDirectory.from_config(self._config)

    @property
    def head(self) -> str:
        return str(self.scripts.get_current_head())

    def knows(self, revision: str) -> bool:
        """Whether this version has a migration of that name."""
        try:
            return self.scripts.get_revision(revision) is not None
        except CommandError:
            return False

    def upgrade(self, connection: sa.Connection, revision: str) -> None:
        """Bring the database to ``revision``, inside the connection's transaction."""

        def steps(current: Any, _context: MigrationContext) -> Any:
            return self.scripts._upgrade_revs(revision, current)

        with EnvironmentContext(self._config, self.scripts, fn=steps) as environment:
            environment.configure(
                connection=connection, target_metadata=Base.metadata, render_as_batch=True
            )
            environment.run_migrations()


def revision_of(connection: sa.Connection) -> str | None:
    """The revision of a database; None: it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def tables_of(connection: sa.Connection) -> list[sa.Table]:
    """Our tables with rows of their own, as they are; those that others refer to come first."""
    inspector = sa.inspect(connection)
    ordered = [name for name, _ in inspector.get_sorted_table_and_fkc_names() if name]
    known = set(Base.metadata.tables) - DERIVED
    return [_table(inspector, name) for name in ordered if name in known]


def _table(inspector: Any, name: str) -> sa.Table:
    columns = []
    for column in inspector.get_columns(name):
        kind = column["type"]
        if isinstance(kind, sa.JSON):
            kind = sa.JSON(none_as_null=True)
        columns.append(sa.Column(column["name"], kind))
    return sa.Table(name, sa.MetaData(), *columns)


def has_rows(connection: sa.Connection) -> bool:
    """Whether somebody's data is in the database."""
    return any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
        for table in tables_of(connection)
        if table.name not in EMPTY_ANYWAY
    )


def drop_all(connection: sa.Connection) -> None:
    """Remove every table of ours, and on PostgreSQL what its triggers call."""
    there = set(sa.inspect(connection).get_table_names())
    quote = connection.dialect.identifier_preparer.quote
    for name in there & {*Base.metadata.tables, VERSION}:
        connection.execute(sa.text(f"DROP TABLE {quote(name)} CASCADE"))
    for name in FUNCTIONS:
        connection.execute(sa.text(f"DROP FUNCTION IF EXISTS {name}() CASCADE"))


def plain(row: Any) -> dict[str, Any]:
    """A row as JSON can hold it, the same from every database."""
    return {name: _plain(value) for name, value in row._mapping.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):  # SQLite drops the zone, which is always UTC
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that plain() made.

    Raises:
        KeyError: a row has a column that the table has not.
    """
    moments = {c.name for c in table.columns if isinstance(c.type, sa.DateTime)}
    unknown = {name for row in rows[:1] for name in row} - {c.name for c in table.columns}
    if unknown:
        raise KeyError(f"{table.name}.{unknown.pop()}")
    values = [
        {
            name: datetime.fromisoformat(value) if name in moments and value else value
            for name, value in row.items()
        }
        for row in rows
    ]
    if not values:
        return
    if connection.dialect.name == "postgresql":  # its triggers count once for each statement
        connection.execute(sa.insert(table).values(values))
    else:
        connection.execute(sa.insert(table), values)


def count_on(connection: sa.Connection, table: sa.Table) -> None:
    """Let PostgreSQL number new rows after the present ones."""
    if connection.dialect.name != "postgresql" or "id" not in table.columns:
        return
    name = connection.dialect.identifier_preparer.quote(table.name)
    connection.execute(
        sa.text(
            f"SELECT setval(pg_get_serial_sequence(:name, 'id'), max(id)) FROM {name} "  # noqa: S608 (a name of ours)
            "HAVING max(id) IS NOT NULL AND pg_get_serial_sequence(:name, 'id') IS NOT NULL"
        ),
        {"name": table.name},
    )
