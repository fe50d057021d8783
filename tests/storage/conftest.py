"""An S3 server on the loopback address: moto, in a process of its own."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from apps.storage.fs import FsspecStorage

PATIENCE = 60  # seconds until the server must answer
# It ends with its standard input, so that it does not outlive tests that were killed.
SERVER = """
import os, sys, threading
from moto.server import main
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
main(sys.argv[1:])
"""
CREDENTIALS = {"key": "anybody", "secret": "anything"}


@dataclass(frozen=True)
class S3:
    """A running server and one empty bucket."""

    endpoint: str
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/pictures"

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.endpoint, **CREDENTIALS}

    @property
    def settings(self) -> dict[str, Any]:
        return {"STORAGE": "fsspec", "STORAGE_URL": self.url, "STORAGE_OPTIONS": self.options}

    def storage(self, **more: Any) -> FsspecStorage:
        return FsspecStorage(self.url, self.options | more)

    def client(self) -> Any:
        """A plain S3 client, to look at the bucket from outside."""
        return _client("s3", self.endpoint)

    def stored(self) -> list[str]:
        """Every key in the bucket."""
        found = self.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return sorted(item["Key"] for item in found)

    @contextmanager
    def strict(self) -> Iterator[dict[str, str]]:
        """Inside, the server checks signatures; yields the credentials that are right."""
        iam, name = _client("iam", self.endpoint), uuid.uuid4().hex
        iam.create_user(UserName=name)
        policy = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam.put_user_policy(
            UserName=name,
            PolicyName="all",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [policy]}),
        )
        made = iam.create_access_key(UserName=name)["AccessKey"]
        self._unchecked_requests("0")
        try:
            yield {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}
        finally:
            self._unchecked_requests("inf")

    def _unchecked_requests(self, count: str) -> None:
        address = f"{self.endpoint}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(address, count.encode(), headers, method="POST")
        urllib.request.urlopen(request, timeout=PATIENCE).close()


@cache
def _client(service: str, endpoint: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["key"],
        aws_secret_access_key=CREDENTIALS["secret"],
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that lives as long as the tests."""
    if find_spec("moto") is None:
        pytest.skip("needs moto[server], see requirements-dev.txt")
    port = free_port()
    command = [sys.executable, "-c", SERVER, "-H", "127.0.0.1", "-p", str(port)]
    endpoint = f"http://127.0.0.1:{port}"
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for(f"{endpoint}/moto-api/", process)
            yield endpoint
        finally:
            process.terminate()


def _wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the S3 server ended by itself"
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the S3 server does not answer")


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An empty bucket; nothing of the developer's own AWS settings is used."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = S3(s3_server, f"bucket-{uuid.uuid4().hex[:12]}")
    place.client().create_bucket(Bucket=place.bucket)
    return place
