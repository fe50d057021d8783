"""Tokens, and a server on loopback for clients that speak HTTP alone."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from apps.container import services


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
    served = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join(10)
    served.server_close()
