"""Errors to pages, or to JSON for those who ask for it."""

import logging
from collections.abc import Callable
from typing import Any

from flask import (
    Flask,
    Response,
    current_app,
    jsonify,
    make_response,
    render_template,
    request,
)
from flask_babel import gettext
from flask_limiter.errors import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import HTTPException, SecurityError

from apps.errors import N_, AppError, Conflict
from apps.extensions import db, for_programs
from apps.i18n import error_text
from apps.web import wants_json

logger = logging.getLogger(__name__)

# What happened, and what to do next; every other status uses Werkzeug's own words.
TEXTS: dict[int, str] = {
    400: N_("The request could not be understood. Go back and try again."),
    403: N_("This page is for administrators only."),
    404: N_("There is nothing at this address, or it is not yours."),
    405: N_("This address does not answer this kind of request."),
    413: N_("The upload is too large. Send fewer or smaller files at once."),
    429: N_("Too many tries in a short time. Wait a minute and try again."),
    500: N_("Something went wrong on the server. Its log has the details; try again in a moment."),
}
STALE_FORM = N_(
    "The form is no longer valid, because you logged in or out meanwhile or cookies are off. "
    "Load the page again and send it once more."
)


# Makes the answer of (status, text, code, details of a refused body or None).
Render = Callable[[int, str, str, Any], Response]
_RENDERS = "sightbox.error_renders"


def answer_below(app: Flask, prefix: str, render: Render) -> None:
    """Every error at an address below ``prefix``, also one that does not exist, is ``render``'s."""
    app.extensions.setdefault(_RENDERS, {})[prefix] = render


def init_app(app: Flask) -> None:
    """Register one handler for each kind of error."""
    app.register_error_handler(AppError, app_error)
    app.register_error_handler(CSRFError, _csrf_error)
    app.register_error_handler(RateLimitExceeded, _rate_limited)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(500, _crash)


def app_error(error: AppError) -> Response:
    """The page or JSON of one of our own errors."""
    db.session.rollback()
    response = answer_error(error.status, error_text(error), error.code)
    if wait := getattr(error, "retry_after", None):  # of Busy and TooMany
        response.headers["Retry-After"] = str(wait)
    return response


def _csrf_error(error: CSRFError) -> Response:
    return answer_error(400, gettext(STALE_FORM), "csrf")


def _rate_limited(error: RateLimitExceeded) -> Response:
    response = answer_error(429, gettext(TEXTS[429]), "rate_limited")
    response.headers.setdefault("Retry-After", str(error.limit.limit.get_expiry()))
    return response


def _integrity_error(error: IntegrityError) -> Response:
    """Two requests wanted the same name at the same moment; the checks before both passed."""
    logger.warning("integrity error path=%s error=%s", request.path, error.orig)
    return app_error(
        Conflict(N_("Somebody else changed the same thing meanwhile. Go back and try again."))
    )


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, SecurityError) and not for_programs():
        # A Host that is not ours: no address can be made for it, so no page either.
        return Response("This server does not answer to this name.\n", 400, mimetype="text/plain")
    if error.code is None or error.code < 400:  # a redirect
        return make_response(error.get_response())
    text = TEXTS.get(error.code)
    details = getattr(error, "data", {}).get("messages")  # of a body that a schema refused
    text = gettext(text) if text else error.description or ""
    response = answer_error(error.code, text, "http", details)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _crash(error: Exception) -> Response:
    """Flask has logged the traceback; the page says nothing of it."""
    db.session.rollback()
    return answer_error(500, gettext(TEXTS[500]), "crash")


def answer_error(status: int, text: str, code: str, details: Any = None) -> Response:
    """An error with ``text``, as a page or as JSON, or as the address has its own way."""
    renders: dict[str, Render] = current_app.extensions.get(_RENDERS, {})
    for prefix, render in renders.items():
        if request.path.startswith(prefix):
            return render(status, text, code, details)
    body: dict[str, Any] = {"error": {"code": code, "message": text, "status": status}}
    if wants_json():
        response = jsonify(body)
    else:
        response = make_response(render_template("error.html", status=status, message=text))
    response.status_code = status
    return response
