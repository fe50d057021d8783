"""Tokens, and a server on loopback for clients that speak HTTP alone."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.container import services
from apps.models import Role
from apps.services.labelstudios import LabelStudioService
from tests.api.studio import HOST, Studio
from tests.served import served


@pytest.fixture
def token_of(app, make_user) -> Callable[..., str]:
    """token_of("ann", "read", "detect") -> the text of a new token of that account."""

    def token_of(name: str = "ann", *scopes: str, **values: Any) -> str:
        user_id = make_user(name)
        with app.app_context():
            given = scopes or ("read", "write", "detect")
            return services(app).tokens.create(user_id, "a test", given, **values)[1]

    return token_of


@pytest.fixture
def bearer(token_of) -> Callable[..., dict[str, str]]:
    """bearer("ann", "read") -> headers with a new token."""

    def bearer(name: str = "ann", *scopes: str, **values: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(name, *scopes, **values)}"}

    return bearer


@pytest.fixture
def server(app) -> Iterator[str]:
    """The address of the application, served on a free port."""
    with served(app) as address:
        yield address


@pytest.fixture
def studio() -> Iterator[str]:
    """The address of a small Label Studio."""
    Studio.seen, Studio.pictures = [], {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Studio)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def connect(app, make_user, monkeypatch) -> Callable[..., str]:
    """connect(host, token) -> the path of a new connection of ann."""
    classes = ("a model", ("dog", "cat"))  # of the engine of the tests
    monkeypatch.setattr(LabelStudioService, "classes_of", lambda *_: classes)

    def connect(
        host: str = HOST,
        token: str = "",
        model: str = "fast",
        least: float = 0.2,
        role: Role = Role.ADMIN,
    ) -> str:
        user_id = make_user("ann", role=role)
        with app.app_context():
            made = services(app).labelstudios.connect(user_id, host, token, model, least)
            return f"/labelstudio/{made[1]}"

    return connect
