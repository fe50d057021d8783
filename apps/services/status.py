"""How the installation is: what waits, how fast it goes, what failed, how much room is left."""

import logging
import math
import platform
import shutil
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path

from sqlalchemy import case, func, select, text
from sqlalchemy.orm import Session, scoped_session

from apps.config import ROOT
from apps.models import Image, ImageStatus, User, utcnow
from apps.services.pictures import counts_by_status
from apps.vision.types import Classifier, Engine, EngineStatus, LoadedModel

logger = logging.getLogger(__name__)

WINDOWS = (1, 15, 60)  # minutes over which the speed is told
SAMPLES = 1000  # newest detections of the last hour, whose durations are compared
FAILURES = 20  # shown at once
DATABASE_SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}
DATABASE_NAME = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
PACKAGES = ("torch", "torchvision", "flask", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class QueueNumbers:
    """How many pictures are in each state, and for how long the oldest waiting one waits."""

    waiting: int
    running: int
    failed: int
    done: int
    oldest_seconds: float | None  # None: nothing waits


@dataclass(frozen=True, slots=True)
class Timing:
    """Percentiles over the newest detections of the last hour; None without any."""

    samples: int
    p50_ms: float | None  # reading, decoding and detecting one picture
    p95_ms: float | None
    wait_p50_ms: float | None  # from the queue to the detector
    wait_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture whose detection failed for good."""

    image_id: int
    title: str
    owner_id: int
    owner: str
    reason: str  # English message id
    attempts: int
    at: datetime | None  # when the last try began


@dataclass(frozen=True, slots=True)
class Space:
    """Something that fills up, in bytes."""

    used: int
    free: int


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    name: str  # "SQLite 3.46.1"
    bytes: int | None


@dataclass(frozen=True)
class StatusService:
    """Answers for the status page and for Prometheus; every query is cheap.

    Args:
        engine, classifier: those of this process.
        folder: of the stored pictures, where that is a disk of this machine.
    """

    session: scoped_session[Session]
    engine: Engine
    classifier: Classifier
    folder: Path | None

    def engine_status(self) -> EngineStatus:
        """How the engine of this process is."""
        return self.engine.status()

    def classifiers(self) -> tuple[LoadedModel, ...]:
        """The classifiers in the memory of this process."""
        return self.classifier.status()

    def queue(self) -> QueueNumbers:
        """What waits, runs, failed and is done, over all accounts."""
        counts = counts_by_status(self.session)
        oldest = self.session.scalar(
            select(func.min(Image.queued_at)).where(Image.status == ImageStatus.QUEUED)
        )
        return QueueNumbers(
            waiting=counts[ImageStatus.QUEUED],
            running=counts[ImageStatus.RUNNING],
            failed=counts[ImageStatus.FAILED],
            done=counts[ImageStatus.DONE],
            oldest_seconds=_seconds(oldest, utcnow()),
        )

    def per_minute(self) -> dict[int, float]:
        """Pictures a minute over each of ``WINDOWS`` (minutes), up to now."""
        now = utcnow()
        since = {minutes: now - timedelta(minutes=minutes) for minutes in WINDOWS}
        counted = [
            func.coalesce(func.sum(case((Image.detected_at >= start, 1), else_=0)), 0)
            for start in since.values()
        ]
        row = self.session.execute(
            select(*counted).where(Image.detected_at >= min(since.values()))
        ).one()
        return {minutes: count / minutes for minutes, count in zip(WINDOWS, row, strict=True)}

    def timing(self) -> Timing:
        """Percentiles of the newest ``SAMPLES`` detections of the last hour."""
        rows = self.session.execute(
            select(Image.status, Image.duration_ms, Image.queued_at, Image.claimed_at)
            .where(Image.detected_at >= utcnow() - timedelta(hours=1))
            .order_by(Image.detected_at.desc())
            .limit(SAMPLES)
        ).all()
        durations = [row.duration_ms for row in rows if row.duration_ms is not None]
        waits = [
            seconds * 1000
            for row in rows
            if row.status is ImageStatus.DONE  # another state: it was queued again meanwhile
            and row.claimed_at is not None
            and (seconds := _seconds(row.queued_at, row.claimed_at)) is not None
        ]
        return Timing(
            len(durations),
            percentile(durations, 0.50),
            percentile(durations, 0.95),
            percentile(waits, 0.50),
            percentile(waits, 0.95),
        )

    def failures(self, limit: int = FAILURES) -> list[Failure]:
        """Pictures that failed for good, the newest first."""
        rows = self.session.execute(
            select(
                Image.id,
                Image.title,
                Image.owner_id,
                User.username,
                func.coalesce(Image.error, ""),
                Image.attempts,
                Image.claimed_at,
            )
            .join(Image.owner)
            .where(Image.status == ImageStatus.FAILED)
            .order_by(Image.claimed_at.desc())
            .limit(limit)
        )
        return [Failure(*row) for row in rows]

    def database(self) -> DatabaseFacts:
        """Which database, and how large it is."""
        dialect = self.session.get_bind().dialect
        query = DATABASE_SIZE.get(dialect.name)
        size = None if query is None else self.session.scalar(text(query))
        version = ".".join(
            str(part) for part in getattr(dialect, "server_version_info", None) or ()
        )
        return DatabaseFacts(f"{DATABASE_NAME.get(dialect.name, dialect.name)} {version}", size)

    def disk(self) -> Space | None:
        """The disk of the stored pictures; None where they are kept elsewhere or it is gone."""
        if self.folder is None:
            return None
        try:
            there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            usage = shutil.disk_usage(there)
        except OSError:
            logger.exception("no answer from the disk folder=%s", self.folder)
            return None
        return Space(usage.used, usage.free)


@cache
def versions() -> dict[str, str]:
    """Of Sightbox, Python and the packages that matter and are here; imports none of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"sightbox": project["version"], "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # a machine that only serves needs no torch
            found[name] = metadata.version(name)
    return found


def percentile(values: Sequence[float], part: float) -> float | None:
    """The nearest-rank percentile: the smallest value with at least ``part`` (0..1) up to it."""
    ordered = sorted(values)
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1] if ordered else None


def _seconds(start: datetime | None, end: datetime) -> float | None:
    """From ``start`` to ``end``; clocks of two machines may differ, but time never runs back."""
    return None if start is None else max((end - start).total_seconds(), 0.0)
