"""A whole cluster: PostgreSQL, Redis, S3, a web process and forked workers."""

import json

import pytest

from tests.test_celery import (
    all_done,
    assert_every_picture_was_detected_once,
    sign_up,
    start_worker,
    until,
    upload,
)

__all__ = ["start_worker"]  # a fixture
pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_workers_fetch_pictures_from_the_bucket(
    make_app, postgres, broker, s3, start_worker, tmp_path, pool
):
    app = make_app(
        INSTANCE_PATH=str(tmp_path / "instance"),
        SQLALCHEMY_DATABASE_URI=postgres,
        QUEUE="celery",
        CELERY_BROKER_URL=broker.url,
        **s3.settings,
    )
    client = sign_up(app)
    upload(client, 6)
    assert len(s3.stored()) == 18
    settings = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in s3.settings.items()}
    start_worker("--pool", pool, "--concurrency", "2", **settings)
    until(lambda: all_done(app, 6), "every picture is done")
    assert_every_picture_was_detected_once(app, set())
    assert "on this machine alone" not in client.get("/").text
