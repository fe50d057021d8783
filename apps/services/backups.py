"""A whole installation as one file: every row and every stored file, with their checksums.

    backup.json          which version made it, when, and how many rows each table has
    tables/<name>.jsonl  a row a line, as plain values: any database can take them
    blobs/<key>          stored files, unpacked, as they are
    blobs.jsonl          key, size and SHA-256 of each of them
    models/, models.jsonl  weights and cards that administrators added, see backup_models

A ZIP file. It is written under another name first and read back, so that a file of the name that
was asked for is whole.
"""

import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from apps.errors import N_, ConfigError, InvalidInput
from apps.services.backup_models import check_models, write_models
from apps.services.schema import Revisions, plain, revision_of, tables_of
from apps.storage import Storage
from apps.vision.zoo.own import OwnWeights

logger = logging.getLogger(__name__)

FORMAT, VERSION = "sightbox-backup", 1
MANIFEST, BLOBS, TABLES, FILES = "backup.json", "blobs.jsonl", "tables/", "blobs/"
BLOCK = 2**20  # bytes read at a time
Progress = Callable[[str, int, int], None]  # what is done, how many of how many


@dataclass
class Report:
    """What is in a backup, or was restored."""

    revision: str
    rows: Counter[str] = field(default_factory=Counter)  # by table
    blobs: int = 0
    bytes: int = 0
    models: int = 0  # that administrators added
    missing: list[str] = field(default_factory=list)  # files that rows name and nobody has
    damaged: list[str] = field(default_factory=list)  # originals that are not what was uploaded


@dataclass(frozen=True)
class _Wanted:
    """The stored files that rows of a backup name."""

    keys: dict[str, str | None]  # key to the checksum that a row says, where one does
    owners: dict[str, tuple[str, int]]  # key to table and id of its row


@dataclass(frozen=True)
class BackupService:
    """Makes backups while the application runs.

    Args:
        reading: entered around what only reads the database.
    """

    engine: sa.Engine
    storage: Storage
    revisions: Revisions
    own: OwnWeights
    reading: Callable[[], AbstractContextManager[object]] = nullcontext

    def write(self, target: Path, progress: Progress) -> Report:
        """Write a backup to ``target``.

        Rows are those of one moment. A picture that is deleted for good meanwhile is left out
        altogether.

        Raises:
            InvalidInput: there is such a file already, or what was written cannot be read back.
            ConfigError: the database has not been migrated.
            OSError: a file cannot be written, or the storage does not answer.
        """
        if target.exists():
            raise InvalidInput(N_("There is a file %(name)s already."), name=str(target))
        part = target.with_name(f".{target.name}.part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                report = self._write(file, progress)
                file.flush()
                os.fsync(file.fileno())
            check(part, progress)
            part.rename(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return report

    def _write(self, file: Any, progress: Progress) -> Report:
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
            snapshot(self.engine) as connection,
        ):
            revision = revision_of(connection)
            if revision is None:
                raise ConfigError("The database is not up to date. Run this once: python -m apps")
            report = Report(revision)
            wanted = wanted_blobs(connection)
            gone = self._blobs(archive, wanted, report, progress)
            for table in tables_of(connection):
                self._rows(archive, connection, table, gone, report)
            report.models = write_models(archive, self.own)
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "revision": revision,
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "rows": dict(report.rows),
                "blobs": report.blobs,
                "missing": report.missing,
            }
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        return report

    def _blobs(
        self, archive: zipfile.ZipFile, wanted: _Wanted, report: Report, progress: Progress
    ) -> set[tuple[str, int]]:
        """Copy the files; rows that were deleted since the snapshot, with files that went."""
        entries: list[tuple[tuple[str, int], dict[str, Any]]] = []
        gone: set[tuple[str, int]] = set()
        for number, (key, said) in enumerate(wanted.keys.items(), 1):
            owner = wanted.owners[key]
            if owner in gone:
                continue
            try:
                size, digest = self._copy(archive, key)
            except FileNotFoundError:
                if self._is_gone(owner):
                    gone.add(owner)
                else:
                    report.missing.append(key)
                continue
            if said is not None and said != digest:
                report.damaged.append(key)
            entries.append((owner, {"key": key, "size": size, "sha256": digest}))
            progress("files", number, len(wanted.keys))
        kept = [entry for owner, entry in entries if owner not in gone]
        report.blobs = len(kept)
        report.bytes = sum(entry["size"] for entry in kept)
        lines = "\n".join(json.dumps(entry) for entry in kept)
        archive.writestr(BLOBS, lines, zipfile.ZIP_DEFLATED)
        return gone

    def _copy(self, archive: zipfile.ZipFile, key: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        with self.storage.open(key) as source:
            first = source.read(BLOCK)  # before the archive has an entry of this name
            with archive.open(FILES + key, "w", force_zip64=True) as target:
                block = first
                while block:
                    digest.update(block)
                    size += len(block)
                    target.write(block)
                    block = source.read(BLOCK)
        return size, digest.hexdigest()

    def _is_gone(self, owner: tuple[str, int]) -> bool:
        """Whether the row was deleted, or moved to the trash and deleted there."""
        name, row_id = owner
        with self.reading(), self.engine.connect() as connection:
            table = next(table for table in tables_of(connection) if table.name == name)
            there = sa.select(sa.literal(1)).select_from(table).where(table.c.id == row_id)
            return connection.execute(there).first() is None

    def _rows(
        self,
        archive: zipfile.ZipFile,
        connection: sa.Connection,
        table: sa.Table,
        gone: set[tuple[str, int]],
        report: Report,
    ) -> None:
        info = zipfile.ZipInfo(f"{TABLES}{table.name}.jsonl")
        info.compress_type = zipfile.ZIP_DEFLATED
        parents = {"image_id": "images", "video_id": "videos"}
        with archive.open(info, "w", force_zip64=True) as target:
            query = sa.select(table).execution_options(yield_per=1000)
            for row in connection.execute(query):
                values = plain(row)
                named = {(parent, values.get(column)) for column, parent in parents.items()}
                if (table.name, values.get("id")) in gone or named & gone:
                    continue
                target.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")
                report.rows[table.name] += 1


def check(path: Path, progress: Progress) -> dict[str, Any]:
    """Read a backup through: every checksum and every number of rows. Its manifest.

    Raises:
        InvalidInput: it is no backup, of a newer kind, or damaged; the text says where.
    """
    with opened(path) as archive:
        manifest = manifest_of(archive)
        entries = list(blob_entries(archive))
        for number, entry in enumerate(entries, 1):
            digest = hashlib.sha256()
            with archive.open(FILES + entry["key"]) as file:
                while block := file.read(BLOCK):
                    digest.update(block)
            if digest.hexdigest() != entry["sha256"]:
                raise InvalidInput(N_("The backup is damaged: %(name)s."), name=entry["key"])
            progress("checked", number, len(entries))
        for name, count in manifest["rows"].items():
            if sum(1 for _ in rows_of(archive, name)) != count:
                raise InvalidInput(N_("The backup is damaged: %(name)s."), name=name)
        check_models(archive)
        if len(entries) != manifest["blobs"]:
            raise InvalidInput(N_("The backup is damaged: %(name)s."), name=BLOBS)
    return manifest


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A backup to read.

    Raises:
        InvalidInput: it is none, or what is read of it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, ValueError, EOFError) as error:
        raise InvalidInput(
            N_("%(name)s is no backup of Sightbox, or it is damaged: %(reason)s"),
            name=str(path),
            reason=str(error),
        ) from error


def manifest_of(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What a backup says of itself. Raises InvalidInput if this version cannot read it."""
    manifest = json.loads(archive.read(MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError("it does not say that it is one")
    if manifest.get("version") != VERSION:
        raise InvalidInput(
            N_("This backup was made by a newer version of Sightbox. Install that one first.")
        )
    return manifest


def blob_entries(archive: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    """Key, size and checksum of each stored file."""
    with archive.open(BLOBS) as lines:
        for line in lines:
            entry = json.loads(line)
            if not is_key(entry["key"]):
                raise ValueError(f"{entry['key']!r} is no key of a stored file")
            yield entry


def is_key(key: object) -> bool:
    """Whether it looks like the keys that this application makes: folder/name.extension."""
    if not isinstance(key, str):
        return False
    folder, _, name = key.partition("/")
    return folder.isalnum() and name.replace(".", "").isalnum() and not name.startswith(".")


def rows_of(archive: zipfile.ZipFile, name: str) -> Iterator[dict[str, Any]]:
    """The rows of one table."""
    with archive.open(f"{TABLES}{name}.jsonl") as lines:
        for line in lines:
            yield json.loads(line)


def wanted_blobs(connection: sa.Connection) -> _Wanted:
    """Every stored file that pictures, those in the trash and clips have."""
    keys: dict[str, str | None] = {}
    owners: dict[str, tuple[str, int]] = {}
    tables = {table.name: table for table in tables_of(connection)}
    for name in ("images", "trashed_images", "videos"):
        if name not in tables:
            continue
        for row in connection.execute(sa.select(tables[name])):
            values = dict(row._mapping)
            original, *copies = _keys(name, values)
            keys[original] = _digest(values)
            keys |= dict.fromkeys(copies)
            owners |= dict.fromkeys((original, *copies), (name, values["id"]))
    return _Wanted(keys, owners)


def _digest(row: dict[str, Any]) -> str | None:
    """SHA-256 of what was uploaded, where it is known; the trash keeps the row of the picture."""
    if isinstance(kept := row.get("rows"), dict):
        [row] = kept.get("images") or [{}]
    return row.get("sha256")


def _keys(table: str, row: dict[str, Any]) -> tuple[str, ...]:
    """As ``storage_keys`` of the models, for rows of any revision."""
    key, extension = row["key"], row["extension"]
    if table == "videos":
        return f"video/{key}.{extension}", f"poster/{key}.jpg"
    copies = row.get("copy_extension") or "webp"
    return (
        f"original/{key}.{extension}",
        f"display/{key}.{copies}",
        f"thumbnail/{key}.{copies}",
    )


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """All rows as they are at one moment, while others go on writing."""
    if engine.dialect.name != "sqlite":
        isolated = engine.execution_options(isolation_level="REPEATABLE READ")
        with isolated.connect() as connection:
            yield connection
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "snapshot.sqlite"
        source = engine.raw_connection()  # no transaction begins, so writers are not kept out
        try:
            with _closing(sqlite3.connect(copy)) as target:
                cast("sqlite3.Connection", source.driver_connection).backup(target)
        finally:
            source.close()
        frozen = sa.create_engine(f"sqlite:///{copy}")
        try:
            with frozen.connect() as connection:
                yield connection
        finally:
            frozen.dispose()


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    finally:
        connection.close()
