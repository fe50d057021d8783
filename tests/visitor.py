"""A person with a browser's cookies, for tests that talk to a real server over HTTP."""

import http.cookiejar
import json
import re
import urllib.error
import urllib.request
import uuid
from typing import Any

PATIENCE = 120  # seconds for one answer


class Visitor:
    """Signs up, uploads and looks, over HTTP alone."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._token: str | None = None  # of the session, as a page that stays open has it
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def get(self, path: str) -> str:
        with self._opener.open(self.address + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def sign_up(self, name: str) -> None:
        fields = {"username": name, "email": f"{name}@example.com", "password": "plain long words"}
        status, _ = self.post("/auth/signup", fields)
        assert status == 200  # after the redirect to the gallery
        self._token = None  # a new session has a new one

    def upload(self, *pictures: bytes) -> list[dict[str, Any]]:
        """One result for each picture."""
        files = [("image", f"{n}.jpg", data) for n, data in enumerate(pictures)]
        status, text = self.post("/upload", {}, files, accept="application/json")
        assert status == 201, text
        return json.loads(text)["results"]

    def _fetch_token(self) -> str:
        found = re.search(r'csrf-token" content="([^"]+)"', self.get("/auth/help"))
        assert found
        return found[1]

    def post(
        self,
        path: str,
        fields: dict[str, str],
        files: list[tuple[str, str, bytes]] | None = None,
        accept: str = "text/html",
    ) -> tuple[int, str]:
        """Status and text of the answer, redirects followed."""
        self._token = self._token or self._fetch_token()
        boundary = uuid.uuid4().hex
        body = multipart(boundary, fields | {"csrf_token": self._token}, files or [])
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Accept": accept}
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def multipart(boundary: str, fields: dict[str, str], files: list[tuple[str, str, bytes]]) -> bytes:
    """The body of a form with files (field, name, data)."""
    parts = []
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts.append(head.encode() + value.encode() + b"\r\n")
    for name, filename, data in files:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode() + data + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])
