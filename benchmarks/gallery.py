"""What the pages cost in a library of 100,000 pictures against one of 1,000.

python -m benchmarks.gallery            # SQLite
SIGHTBOX_TEST_POSTGRES=… python -m benchmarks.gallery     # PostgreSQL, in two new databases
"""

import os
import re
import sqlite3
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from benchmarks.collection import LARGE, RARE, SMALL, Size, fill
from benchmarks.report import Row, arguments, report
from benchmarks.timing import compare

BAR = 1.5  # server time, and memory of one page, large / small
FLAT = 1.05  # resident memory after REQUESTS requests / before
REQUESTS = 200
GALLERY, ADMIN = 48, 50  # rows on a full page


@dataclass(frozen=True)
class Library:
    client: FlaskClient
    size: Size

    def pages(self) -> dict[str, str]:
        """Name -> address of everything that is measured, alike in both libraries."""
        last, rows = self.size.own // GALLERY, self.size.pictures // ADMIN
        middle = self.size.pictures // 2
        ids = "&".join(f"id={middle + n}" for n in range(GALLERY))
        return {
            "gallery, first page": "/",
            "gallery, middle page": f"/?page={last // 2}",
            "gallery, last page": f"/?page={last}",
            "search, frequent tag": "/images/search?search=person",
            "search, frequent tag, page 2": "/images/search?search=person&page=2",
            "search, rare tag": f"/images/search?search={RARE}",
            "search, part of one tag": "/images/search?search=perso",
            "search, part of many tags": "/images/search?search=e",
            "search, part of many tags, page 2": "/images/search?search=e&page=2",
            "search, no such tag": "/images/search?search=nothing",
            "search, count": "/images/search?search=person>%3D2",
            "search, score and not": "/images/search?search=score>0.9+-person",
            "search, rare count": f"/images/search?search={RARE}+boxes>%3D1",
            "search, failed": "/images/search?search=status:failed",
            "search, by title": "/images/search?search=sort:title",
            "search, by size": "/images/search?search=sort:largest",
            "boxes of tiles": f"/images/boxes?{ids}",
            "status poll": f"/images/status?{ids}",
            "picture": f"/images/{self.own_picture(middle)}",
            "account": "/auth/account",
            "admin, status": "/crud/status",
            "admin, users": "/crud/users",
            "admin, users by pictures": "/crud/users?sort=-pictures",
            "admin, tags": "/crud/tags",
            "admin, tags by pictures": "/crud/tags?sort=-pictures",
            "admin, images": "/crud/images",
            "admin, images, middle page": f"/crud/images?page={rows // 2}",
            "admin, images, last page": f"/crud/images?page={rows}",
            "admin, images by title": "/crud/images?sort=title",
            "admin, images by owner": "/crud/images?sort=owner",
            "admin, images by status": "/crud/images?sort=status",
            "admin, images by size": "/crud/images?sort=-bytes",
            "admin, images of one owner": "/crud/images?owner=1",
            "admin, images that failed": "/crud/images?status=failed",
            "admin, images done": "/crud/images?status=done",
            "admin, frequent title": "/crud/images?search=img",
            "admin, rare title": f"/crud/images?search={RARE}",
            "admin, owner's name": "/crud/images?search=measured",
            "admin, no such title": "/crud/images?search=nothing",
        }

    def own_picture(self, near: int) -> int:
        """A picture of the measured account."""
        return next(n for n in range(near, 0, -1) if self.client.get(f"/images/{n}").status == OK)


OK = "200 OK"


@contextmanager
def library(size: Size, address: str | None) -> Iterator[Library]:
    """An application on a new database with ``size`` in it, and its administrator logged in."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as after:
        uri = after.enter_context(_new_database(address, size)) if address else None
        given = {"SQLALCHEMY_DATABASE_URI": uri} if uri else {}
        app = create_app("testing", INSTANCE_PATH=folder, **given)
        after.callback(_dispose, app)
        with app.app_context():
            upgrade()
        values = {"username": "measured", "email": "m@example.com", "password": "many plain words"}
        client = app.test_client()
        assert client.post("/auth/signup", data=values).status_code == 302
        with app.app_context():
            with db.engine.begin() as connection:
                fill(connection, size)
            if address:  # what autovacuum does within a minute of so many new rows
                with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
                    plain.execute(sa.text("VACUUM ANALYZE"))
            assert services().images.totals(1).pictures == size.own
        yield Library(client, size)


@contextmanager
def _new_database(address: str, size: Size) -> Iterator[str]:
    """Address of an empty database beside the one that was given; dropped afterwards."""
    server = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    name = f"sightbox_bench_{os.getpid()}_{size.pictures}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def _dispose(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def times(small: Library, large: Library, rounds: int) -> Iterator[Row]:
    """One row for each page. Both show the same number of rows, or the ratio says nothing."""
    here, there = large.pages(), small.pages()
    for name in here:
        counts = [
            len(re.findall(r"<article|<tr>|<option", text))
            for text in (_text(large, here[name]), _text(small, there[name]))
        ]
        if counts[0] != counts[1]:
            raise AssertionError(f"{name}: {counts[0]} rows against {counts[1]}")
        work = partial(_text, large, here[name])
        found = compare(work, partial(_text, small, there[name]), rounds)
        note = f"{found.work_ms:.1f} ms / {found.baseline_ms:.1f} ms"
        yield Row(name, found.ratio, most=BAR, note=note)


def memory(small: Library, large: Library) -> Iterator[Row]:
    """What requests leave behind, and the most that one needs."""
    before, after = leftover(large)
    note = f"{after:.0f} MiB / {before:.0f} MiB"
    yield Row(f"memory after {REQUESTS} requests / before", after / before, most=FLAT, note=note)
    ratio = peak(large) / peak(small)
    yield Row("peak memory of the dearest page", ratio, most=BAR)


def _text(library: Library, address: str) -> str:
    answer = library.client.get(address)
    assert answer.status == OK, (address, answer.status)
    return answer.text


def leftover(library: Library) -> tuple[float, float]:
    """MiB of resident memory before and after REQUESTS requests, every page once before."""
    pages = list(library.pages().values())
    for page in pages:
        _text(library, page)
    before = _resident()
    for n in range(REQUESTS):
        _text(library, pages[n % len(pages)])
    return before, _resident()


def _resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak(library: Library) -> float:
    """MiB of Python's memory that the dearest page needs on top of what was there."""
    tracemalloc.start()
    peaks = []
    for page in library.pages().values():
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        _text(library, page)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return max(peaks) / 2**20


def database_of(address: str | None) -> str:
    if not address:
        return f"SQLite {sqlite3.sqlite_version}"
    engine = sa.create_engine(address)
    with engine.connect() as connection:
        found = f"PostgreSQL {connection.scalar(sa.text('SHOW server_version'))}"
    engine.dispose()
    return found


def main() -> int:
    given = arguments(__doc__).parse_args()
    address = os.environ.get("SIGHTBOX_TEST_POSTGRES")
    with library(SMALL, address) as small, library(LARGE, address) as large:
        rows = [*times(small, large, given.rounds), *memory(small, large)]
    return report(rows, check=given.check, database=database_of(address), cpus=os.cpu_count())


if __name__ == "__main__":
    sys.exit(main())
