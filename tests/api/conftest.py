"""Tokens, and a server on loopback for clients that speak HTTP alone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.container import services
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
