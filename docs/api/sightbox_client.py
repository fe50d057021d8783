"""A client for Sightbox in one file, with nothing but Python's standard library.

    python sightbox_client.py http://127.0.0.1:5000 sb_… picture.jpg [more.jpg …]

uploads the pictures, waits until they have been looked at, and prints what was found.
"""

import json
import mimetypes
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen


class Refused(Exception):
    """An answer that is an error; ``code`` is a stable word, the text is for people.

    ``image``: of a picture that was uploaded before, which one that is; else None.
    """

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body.get("detail") or f"status {status}")
        self.status = status
        self.code = body.get("code", "")
        self.image = body.get("image")


class NotLookedAt(Exception):
    """A picture whose detection has failed, or has not ended yet; the text says which."""


class Sightbox:
    """One server, one token."""

    def __init__(self, address: str, token: str, timeout: float = 60) -> None:
        self.address = address.rstrip("/") + "/api/v1"
        self.token = token
        self.timeout = timeout  # seconds

    def detect(self, *paths: Path, min_score: float = 0.4, model: str = "") -> list[dict[str, Any]]:
        """What is in pictures that are not stored; one result for each."""
        fields = {"min_score": str(min_score), "model": model}
        found: list[dict[str, Any]] = self._form("/detect", paths, fields)["results"]
        return found

    def upload(self, *paths: Path, key: str = "") -> list[dict[str, Any]]:
        """Store pictures; with the same ``key`` again nothing is stored twice.

        One result for each picture: a ZIP file has as many as it holds.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        results: list[dict[str, Any]] = self._form("/images", paths, {}, headers)["results"]
        return results

    def detections(self, image_id: int, wait: int = 30) -> list[dict[str, Any]]:
        """What was found in a stored picture, after waiting for it for ``wait`` seconds.

        Raises NotLookedAt: nothing is known of it, which is not the same as finding nothing.
        """
        job = self.ask("GET", f"/jobs/{image_id}", {"wait": wait})
        if job["status"] == "failed":
            raise NotLookedAt(job["error"] or "the detection failed")
        if job["status"] != "done":
            raise NotLookedAt(f"not looked at yet ({job['status']}); ask again later")
        found = self.ask("GET", f"/images/{image_id}/detections")
        boxes: list[dict[str, Any]] = found["detections"]
        return boxes

    def images(self, search: str = "") -> Any:
        """All stored pictures, the latest first, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask("GET", "/images", {"search": search, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]

    def tag(self, image_id: int, name: str) -> None:
        self.ask("POST", f"/images/{image_id}/tags", body={"name": name})

    def boxes(self, image_id: int) -> list[dict[str, Any]]:
        """The boxes as people see them: a person's, then a model's that nobody has judged."""
        found: list[dict[str, Any]] = self.ask("GET", f"/images/{image_id}/boxes")["boxes"]
        return found

    def draw(self, image_id: int, label: str, box: list[float]) -> dict[str, Any]:
        """A new box [x1, y1, x2, y2], in pixels of the upright picture."""
        body = {"label": label, "box": box}
        made: dict[str, Any] = self.ask("POST", f"/images/{image_id}/boxes", body=body)
        return made

    def judge(self, image_id: int, box_id: str, *, good: bool, version: str = "*") -> None:
        """Accept or reject what a model found; ``version``: the ETag that was seen, "*" for any."""
        verdict = "accept" if good else "reject"
        path = f"/images/{image_id}/boxes/{box_id}/{verdict}"
        self.ask("POST", path, headers={"If-Match": version})

    def labels(self, model: str) -> list[str]:
        found: list[str] = self.ask("GET", f"/models/{quote(model)}/labels")
        return found

    def delete(self, image_id: int) -> None:
        self.ask("DELETE", f"/images/{image_id}")

    # -- HTTP ------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """The JSON of an answer; raises Refused."""
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.address}{path}?{urlencode(query)}" if query else self.address + path
        kind = {} if data is None else {"Content-Type": "application/json"}
        return self._send(method, address, data, kind | (headers or {}))

    def _form(
        self,
        path: str,
        files: tuple[Path, ...],
        fields: dict[str, str],
        headers: dict[str, str] | None = None,
    ) -> Any:
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
            for name, value in fields.items()
        ]
        for file in files:
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
                f'filename="{_escaped(file.name)}"\r\nContent-Type: {kind}\r\n\r\n'
            )
            parts.append(head.encode() + file.read_bytes())
        body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
        kind = f"multipart/form-data; boundary={boundary}"
        address = self.address + path
        return self._send("POST", address, body, {"Content-Type": kind} | (headers or {}))

    def _send(self, method: str, address: str, data: bytes | None, headers: dict[str, str]) -> Any:
        headers = headers | {"Authorization": f"Bearer {self.token}"}
        request = Request(address, data, headers, method=method)  # noqa: S310 (what the caller gave)
        try:
            with urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                text = answer.read()
        except HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read())) from None
        return json.loads(text) if text else None


def _escaped(name: str) -> str:
    """A file name as browsers write it into a form."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def main() -> None:
    address, token, *names = sys.argv[1:]
    box = Sightbox(address, token)
    for result in box.upload(*map(Path, names)):
        print(f"{result['file']}: {_told(box, result)}")  # noqa: T201


def _told(box: Sightbox, result: dict[str, Any]) -> str:
    """What came of one uploaded picture, for people."""
    if result["error"]:
        return str(result["error"]["message"])
    try:
        found = box.detections(result["image"]["id"])
    except NotLookedAt as error:
        return str(error)
    return ", ".join(f"{one['label']} {one['score']:.0%}" for one in found) or "nothing"


if __name__ == "__main__":
    main()
