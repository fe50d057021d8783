"""An installation from a backup: everything of it, checked, or nothing.

First the backup is read through. Then its files go into the storage and are read back from there.
The database comes last, in one step: until then, nothing of the present installation is changed.
"""

import hashlib
import logging
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import sqlalchemy as sa

from apps.errors import N_, Conflict, InvalidInput
from apps.models import OPEN, ImportStatus
from apps.services.backup_models import unpacked_models
from apps.services.backups import (
    BLOCK,
    FILES,
    Progress,
    Report,
    blob_entries,
    check,
    manifest_of,
    opened,
    rows_of,
    wanted_blobs,
)
from apps.services.schema import (
    CHUNK,
    Revisions,
    count_on,
    drop_all,
    has_rows,
    insert_rows,
    tables_of,
)
from apps.storage import Storage
from apps.vision.zoo.own import KINDS, OwnWeights

logger = logging.getLogger(__name__)

NEWER = N_(
    "This backup is of the database revision %(revision)s, which this version does not know. "
    "Install the version that made it, or a newer one."
)
NOT_EMPTY = N_(
    "There is an installation here already. With --replace it is replaced by the backup, and all "
    "that is not in the backup is lost."
)
NO_ARCHIVE = N_(
    "The server was restored from a backup, which has no archives of imports. Upload it again."
)
BAD_BLOB = N_("The storage does not give back what was put into it: %(name)s. Nothing is changed.")
BAD_ROWS = N_("The backup cannot be restored: %(reason)s. Nothing is changed.")


@dataclass(frozen=True)
class RestoreService:
    """Restores backups. The application must not run meanwhile.

    Args:
        reading: entered around what only reads the present database.
    """

    engine: sa.Engine
    storage: Storage
    revisions: Revisions
    own: OwnWeights
    reading: Any = nullcontext

    def read(self, source: Path, *, replace: bool, progress: Progress) -> Report:
        """Make this installation what the backup ``source`` holds.

        Args:
            replace: also where there is one already, which is lost then.

        Raises:
            Conflict: there is one already.
            InvalidInput: the backup is damaged or newer than this version.
            OSError: the storage cannot be written.
        """
        manifest = check(source, progress)
        if not self.revisions.knows(manifest["revision"]):
            raise InvalidInput(NEWER, revision=manifest["revision"])
        before = self._present(replace=replace)
        self.storage.check()
        report = Report(manifest["revision"], missing=list(manifest["missing"]))
        new: list[str] = []
        try:
            with opened(source) as archive, unpacked_models(archive, self.own) as models:
                self._put_blobs(archive, report, new, before, progress)
                self._verify(archive, report, progress)
                self._database(archive, manifest_of(archive), report)
                new.clear()  # from here on the rows name them
                if models is not None:
                    report.models = len(models) // len(KINDS)
                    self.own.become(models)
        except BaseException:
            self.storage.delete(*new)
            raise
        with opened(source) as archive:
            kept = {entry["key"] for entry in blob_entries(archive)}
        self.storage.delete(*(key for key in before if key not in kept))
        return report

    def _present(self, *, replace: bool) -> set[str]:
        """Keys of the files of the present installation."""
        with self._looking() as connection:
            if has_rows(connection) and not replace:
                raise Conflict(NOT_EMPTY)
            return set(wanted_blobs(connection).keys)

    @contextmanager
    def _looking(self) -> Iterator[sa.Connection]:
        reading: AbstractContextManager[object] = self.reading()
        with reading, self.engine.connect() as connection:
            yield connection

    def _put_blobs(
        self,
        archive: zipfile.ZipFile,
        report: Report,
        new: list[str],
        before: set[str],
        progress: Progress,
    ) -> None:
        entries = list(blob_entries(archive))
        for number, entry in enumerate(entries, 1):
            key = entry["key"]
            if key not in before:
                new.append(key)
            with archive.open(FILES + key) as file:
                self.storage.put_file(key, cast("BinaryIO", file))
            report.blobs += 1
            report.bytes += entry["size"]
            progress("files", number, len(entries))

    def _verify(self, archive: zipfile.ZipFile, report: Report, progress: Progress) -> None:
        for number, entry in enumerate(blob_entries(archive), 1):
            digest = hashlib.sha256()
            with self.storage.open(entry["key"]) as file:
                while block := file.read(BLOCK):
                    digest.update(block)
            if digest.hexdigest() != entry["sha256"]:
                raise InvalidInput(BAD_BLOB, name=entry["key"])
            progress("verified", number, report.blobs)

    def _database(self, archive: zipfile.ZipFile, manifest: dict[str, Any], report: Report) -> None:
        """All rows and the newest revision in one step."""
        if self.engine.dialect.name != "sqlite":
            with self.engine.begin() as connection:
                drop_all(connection)
                self._fill(connection, archive, manifest, report)
            return
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "restored.sqlite"
            engine = sa.create_engine(f"sqlite:///{made}")
            try:
                self._make_sqlite(engine, archive, manifest, report)
                self._take_over(engine)
            finally:
                engine.dispose()

    def _make_sqlite(
        self, engine: sa.Engine, archive: zipfile.ZipFile, manifest: dict[str, Any], report: Report
    ) -> None:
        with engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.execute("PRAGMA foreign_keys=OFF")  # migrations replace tables by changed copies
            with connection.begin():
                self._fill(connection, archive, manifest, report)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise InvalidInput(BAD_ROWS, reason=f"rows refer to nothing: {broken[:3]}")

    def _take_over(self, engine: sa.Engine) -> None:
        """SQLite's own copying: the other database is the old one or the new one, never half."""
        source, target = engine.raw_connection(), self.engine.raw_connection()
        try:
            copy = cast("sqlite3.Connection", target.driver_connection)
            cast("sqlite3.Connection", source.driver_connection).backup(copy)
        finally:
            source.close()
            target.invalidate()
            target.close()

    def _fill(
        self,
        connection: sa.Connection,
        archive: zipfile.ZipFile,
        manifest: dict[str, Any],
        report: Report,
    ) -> None:
        """Tables as the backup had them, its rows, and then every later migration."""
        try:
            self.revisions.upgrade(connection, manifest["revision"])
            tables = tables_of(connection)
            unknown = set(manifest["rows"]) - {table.name for table in tables}
            if unknown:
                raise KeyError(unknown.pop())
            for table in tables:
                if table.name in manifest["rows"]:
                    report.rows[table.name] = _insert(connection, archive, table)
            for table in tables:
                count_on(connection, table)
            self.revisions.upgrade(connection, self.revisions.head)
            _end_imports(connection)
        except (KeyError, sa.exc.SQLAlchemyError) as error:
            raise InvalidInput(BAD_ROWS, reason=str(error).partition("\n")[0][:300]) from error


def _end_imports(connection: sa.Connection) -> None:
    """Imports whose archive is not in the backup end, with the reason; nothing of them had come."""
    tables = {table.name: table for table in tables_of(connection)}
    imports, pictures = tables["imports"], tables["imported_pictures"]
    open_ones = imports.c.status.in_([status.value for status in OPEN])
    left = sa.select(imports.c.id).where(open_ones)
    connection.execute(sa.delete(pictures).where(pictures.c.import_id.in_(left)))
    ended = {"status": ImportStatus.FAILED.value, "error": NO_ARCHIVE, "finished_at": sa.func.now()}
    connection.execute(sa.update(imports).where(open_ones).values(**ended))


def _insert(connection: sa.Connection, archive: zipfile.ZipFile, table: sa.Table) -> int:
    count, part = 0, []
    connection.execute(sa.delete(table))  # what migrations themselves put there
    for row in rows_of(archive, table.name):
        part.append(row)
        if len(part) >= CHUNK:
            insert_rows(connection, table, part)
            count, part = count + len(part), []
    insert_rows(connection, table, part)
    return count + len(part)
