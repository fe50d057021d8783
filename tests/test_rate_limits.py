"""Counting tries in Redis, for several web processes that share one limit."""

import subprocess
import sys
from pathlib import Path

import pytest

from apps.config import ROOT
from tests.broker import free_port

# A process of its own: the limiter is one object in each, with one storage.
SCRIPT = """
import sys
from apps.app import create_app
from apps.extensions import db
folder, storage, tries = sys.argv[1:]
app = create_app("testing", INSTANCE_PATH=folder, RATELIMIT_ENABLED=True,
    LOGIN_RATE="3 per hour", RATELIMIT_STORAGE_URI=storage, PROPAGATE_EXCEPTIONS=False)
with app.app_context():
    db.create_all()
client = app.test_client()
data = {"email": "ann", "password": "wrong"}
print(*[client.post("/auth/login", data=data).status_code for _ in range(int(tries))])
print(client.get("/").status_code, client.get("/healthz").status_code)
"""


def tries(folder: Path, storage: str, count: int) -> list[int]:
    """Status of ``count`` wrong logins at a web process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), storage, str(count)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logins, pages = done.stdout.splitlines()
    assert pages == "200 200"
    return [int(code) for code in logins.split()]


@pytest.mark.redis
def test_two_processes_share_one_limit_through_redis(tmp_path, broker):
    assert tries(tmp_path / "a", broker.url, 2) == [422, 422]
    assert tries(tmp_path / "b", broker.url, 3) == [422, 429, 429]


def test_without_redis_each_process_counts_alone(tmp_path):
    away = f"redis://127.0.0.1:{free_port()}/0"
    assert tries(tmp_path, away, 5) == [422, 422, 422, 429, 429]
    assert tries(tmp_path, away, 1) == [422]
