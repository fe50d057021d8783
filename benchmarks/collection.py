"""Two libraries to compare: rows of accounts, pictures, boxes and tags, without any file.

Everything that a page shows in full is the same in both (accounts, tags, the pictures of rare
tags, how full the last page is), so that a ratio tells what the size of the library costs.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from apps.models import fold
from apps.vision.zoo.registry import BEST_ON_GPU

ACCOUNTS = 20  # number 1 is the one that is measured
BOXES = 10  # on each picture
LABELS = BEST_ON_GPU.labels  # 80
WEIGHTS = [1 / rank for rank in range(1, len(LABELS) + 1)]  # Zipf
RARE = "heirloom"  # a tag, and a word in a title
RARE_PICTURES = 12
WAITING = 10
SOURCES = random.Random(1).choices(("model", "person", "removed"), (85, 10, 5), k=10007)
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)  # nothing was detected lately

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Size:
    """How many pictures there are, and how many of them the measured account owns."""

    pictures: int
    own: int


# 19 and 1,875 full pages of 48 pictures.
SMALL, LARGE = Size(1_000, 912), Size(100_000, 90_000)


def fill(connection: Connection, size: Size) -> None:
    """Write a library beside account number 1, which must be the only one."""
    stamp = BEGIN if connection.dialect.name == "postgresql" else BEGIN.strftime("%F %T.000000")
    others = [
        (n, f"person{n}", f"person{n}", f"person{n}@example.com", "-", True, str(n), "user", 0.5)
        for n in range(2, ACCOUNTS + 1)
    ]
    names = "id username folded email password active fs_uniquifier role threshold created_at"
    _insert(connection, "users", names, ((*other, stamp) for other in others))
    tags = [(n, name, fold(name), stamp) for n, name in enumerate((*LABELS, RARE), 1)]
    _insert(connection, "tags", "id name folded created_at", tags)
    names = (
        "id owner_id title folded key extension media_type sha256 bytes width height status error"
        " attempts model duration_ms created_at queued_at detected_at"
    )
    _insert(connection, "images", names, _images(size, postgres=not isinstance(stamp, str)))
    _insert(connection, "image_tags", "owner_id image_id tag_id source", _links(size))
    _insert(connection, "results", "image_id model detected_at", _results(size, stamp))
    names = "image_id label score x1 y1 x2 y2 model"
    _insert(connection, "detections", names, _boxes(size))


def _owners(size: Size) -> Iterator[tuple[int, int, bool]]:
    """(picture, owner, whether it is one of the rare ones): others' pictures lie between."""
    rare = {size.own * n // RARE_PICTURES for n in range(RARE_PICTURES)}
    others = itertools.cycle(range(2, ACCOUNTS + 1))
    own = 0
    for image_id in range(1, size.pictures + 1):
        if own * size.pictures <= (image_id - 1) * size.own and own < size.own:
            yield image_id, 1, own in rare
            own += 1
        else:
            yield image_id, next(others), False


def _images(size: Size, *, postgres: bool) -> Iterator[Row]:
    dice = random.Random(2)
    waiting = size.pictures - WAITING
    for image_id, owner, rare in _owners(size):
        at = BEGIN + timedelta(minutes=5 * image_id)
        stamp = at if postgres else at.strftime("%F %T.000000")
        failed = image_id % 16 == 0
        status = "queued" if image_id > waiting else "failed" if failed else "done"
        word = f"{RARE}-{image_id}.jpg" if rare else ""
        title = word or f"{dice.choice(('IMG', 'DSC', 'PXL', 'scan'))}_{image_id:06}.jpg"
        yield (
            image_id, owner, title, fold(title),
            f"{image_id:032x}", "jpg", "image/jpeg", f"{image_id:064x}",
            dice.randrange(200_000, 9_000_000), 4000, 3000, status,
            "Detection failed." if status == "failed" else None, 1, BEST_ON_GPU.name, 120,
            stamp, stamp, stamp,
        )  # fmt: skip


def _tags_of(size: Size) -> Iterator[tuple[int, int, list[int]]]:
    """(picture, owner, its tags); about three of Zipf's frequencies."""
    dice = random.Random(3)
    numbers = range(1, len(LABELS) + 1)
    draws = iter(dice.choices(numbers, WEIGHTS, k=4 * size.pictures))
    for image_id, owner, rare in _owners(size):
        tags = sorted(set(itertools.islice(draws, 4)))
        yield image_id, owner, [*tags, len(LABELS) + 1] if rare else tags


def _links(size: Size) -> Iterator[Row]:
    sources = itertools.cycle(SOURCES)
    for image_id, owner, tags in _tags_of(size):
        for tag_id in tags:
            source = next(sources) if tag_id <= len(LABELS) else "person"
            yield owner, image_id, tag_id, source


def _results(size: Size, stamp: Any) -> Iterator[Row]:
    for image_id, _, _ in _owners(size):
        yield image_id, BEST_ON_GPU.name, stamp


def _boxes(size: Size) -> Iterator[Row]:
    dice = random.Random(4)
    scores = [round(dice.uniform(0.05, 1), 3) for _ in range(10007)]
    score = itertools.cycle(scores)
    for image_id, _, tags in _tags_of(size):
        for n in range(BOXES):
            label = LABELS[(tags[n % len(tags)] - 1) % len(LABELS)]
            x, y = 30 * n + 1.5, 20 * n + 1.5
            yield image_id, label, next(score), x, y, x + 500, y + 400, BEST_ON_GPU.name


def _insert(connection: Connection, table: str, names: str, rows: Iterable[Row]) -> None:
    """The database's own way to write many rows, triggers and constraints included."""
    columns = names.split()
    raw = connection.connection.dbapi_connection
    assert raw is not None
    if connection.dialect.name == "postgresql":
        copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with raw.cursor() as cursor, cursor.copy(copy.encode()) as target:
            for row in rows:
                target.write_row(row)
    else:
        marks = ", ".join("?" * len(columns))
        raw.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
