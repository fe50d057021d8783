"""Errors below ``/api/`` as problem details (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from flask import Response, current_app

MEDIA_TYPE = "application/problem+json"


def problem(status: int, text: str, code: str, details: Any = None, **members: Any) -> Response:
    """The answer to a request that failed.

    Args:
        details: what is wrong with which field, by where it was sent.
        members: what else the body has.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error",
        "status": status,
        "detail": text,
        "code": code,
    } | members
    if details is not None:
        body["errors"] = details
    response = Response(current_app.json.dumps(body), status, mimetype=MEDIA_TYPE)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="Sightbox"'
    return response
