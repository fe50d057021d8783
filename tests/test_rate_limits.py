"""Counting tries in Redis, for several web processes that share one limit."""

import os

import pytest

REDIS = os.environ.get("SIGHTBOX_TEST_REDIS")


@pytest.mark.skipif(not REDIS, reason="set SIGHTBOX_TEST_REDIS to the address of an empty Redis")
def test_two_processes_share_one_limit_through_redis(make_app):
    import redis

    redis.Redis.from_url(str(REDIS)).flushdb()
    values = {"RATELIMIT_ENABLED": True, "LOGIN_RATE": "3 per hour", "RATELIMIT_STORAGE_URI": REDIS}
    clients = [make_app(**values).test_client() for _ in range(2)]
    data = {"email": "ann", "password": "wrong"}
    codes = [clients[n % 2].post("/auth/login", data=data).status_code for n in range(4)]
    assert codes == [422, 422, 422, 429]
