"""A small Label Studio, and what a real one sends."""

import http.server
import json

from tests.conftest import picture_bytes

CONFIG = (
    '<View><Image name="img" value="$image"/><RectangleLabels name="lab" toName="img">'
    '<Label value="Hound" predicted_values="dog,wolf"/><Label value="CAT"/>'
    "</RectangleLabels></View>"
)
HOST = "http://studio.example.org:8080"
REFRESH = "aaaa.bbbb.cccc"


class Studio(http.server.BaseHTTPRequestHandler):
    """A Label Studio that gives a picture to whoever shows the right token."""

    seen: list[tuple[str, str]] = []  # path and Authorization of each request
    pictures: dict[str, bytes] = {}  # path -> file; else a small one
    moved: dict[str, str] = {}  # path -> where it is instead

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append((self.path, given))
        trusted = given in ("Bearer short", "Token old")
        if trusted and self.path in self.moved:
            self.send_response(303)
            self.send_header("Location", self.moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        good = trusted and "/data/" in self.path
        body = self.pictures.get(self.path) or picture_bytes((100, 80)) if good else b"no"
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == "/api/token/refresh" and sent == {"refresh": REFRESH}
        body = json.dumps({"access": "short"} if good else {"detail": "no"}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        return


def tasks(*addresses: object, config: str = CONFIG) -> dict[str, object]:
    """As Label Studio 1.23 sends them."""
    return {
        "tasks": [
            {"id": n, "data": {"image": address}, "meta": {}, "annotations": [], "predictions": []}
            for n, address in enumerate(addresses, 1)
        ],
        "project": "1.1795223978",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }
