"""What every page shares: safe redirects, paging, preferences, security headers."""

import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode, urlsplit

import flask_migrate
from flask import Flask, Response, abort, current_app, request, session
from flask_login import current_user
from flask_sqlalchemy.pagination import Pagination
from sqlalchemy import Select, func, inspect, select
from werkzeug.routing import IntegerConverter, Map

from apps.container import services, start
from apps.errors import N_, UnsupportedBody
from apps.extensions import db, for_programs
from apps.services.pictures import Pictures
from apps.vision.colors import color_index, color_of, text_on
from apps.vision.decode import ACCEPTED

UPLOADS = frozenset(
    {"detector.upload", "crud.image_new"}
    | {"classifier.model", "classifier.answer", "classifier.predict"}
)
# Addresses that are for programs alone; some of them read JSON.
PROGRAMS = frozenset(
    {"classifier.predict", "detector.state", "detector.save_state", "detector.review_next"}
    | {"live.detect", "selftest.begin", "selftest.cap", "selftest.end", "selftest.why"}
)
JSON_BODIES = frozenset({"detector.save_state"})
LARGE_UPLOADS = {"video.upload": "MAX_VIDEO_BYTES", "imports.upload": "MAX_IMPORT_BYTES"}
WEIGHTS_UPLOAD = "crud.model_new"  # for administrators alone
MB = 2**20  # bytes, wherever people read of them
FORM_BYTES = 2 * MB  # in every other request, and beside a file of weights
THEME_COOKIE = "sightbox_theme"
THEMES = ("auto", "light", "dark")
NO_SENSORS = "camera=(), microphone=(), geolocation=()"
CAMERA_HERE = "camera=(self), microphone=(), geolocation=()"  # of the page that shows it
_preparing = threading.Lock()
YEAR = 365 * 24 * 3600  # seconds
MAX_ID = 2**31 - 1  # of an INTEGER column; database drivers crash on larger numbers


def init_app(app: Flask) -> None:
    """Headers, template helpers and the start of background work."""
    app.after_request(_security_headers)
    app.before_request(_start_queue)
    app.context_processor(_page_context)
    app.add_template_filter(megabytes)
    app.add_template_filter(color_index)
    app.add_template_filter(color_of)
    app.add_template_filter(text_on)
    app.add_template_global(address_with)
    app.add_template_global(ACCEPTED, "ACCEPTED_FORMATS")  # type: ignore[arg-type]


def _prepare_database() -> None:
    """Make the tables of a fresh local installation, so that plain ``flask run`` works too.

    ``script/server`` and production migrate before they start; here it happens once, at the first
    request of a process that finds no tables.
    """
    app = current_app
    if app.config["CONFIG_KEY"] != "local" or app.extensions.get("sightbox.prepared"):
        return
    with _preparing:
        if not inspect(db.engine).has_table("users"):
            flask_migrate.upgrade()
        app.extensions["sightbox.prepared"] = True


class RowIdConverter(IntegerConverter):
    """``<int:…>`` of an address: what no INTEGER column can hold is no address of ours."""

    def __init__(self, map: Map) -> None:  # noqa: A002 (Werkzeug's name)
        super().__init__(map, max=MAX_ID)


def _start_queue() -> None:
    """Resume waiting pictures under ``flask run`` too, which has no start-up hook.

    And begin to fetch better weights, if "auto" may: the embedded model answers meanwhile.
    """
    if request.blueprint == "ops":  # answers even when the database is away
        return
    _prepare_database()
    start(current_app)
    if services().queue.works_here:
        services().models.fetch_preferred()


def limit_bodies(app: Flask) -> None:
    """Register the guard of request bodies; call it before anything that reads a form."""
    app.before_request(_limit_body)


def _limit_body() -> None:
    """Only who is logged in may send much, and only where files are uploaded.

    The session cookie is signed, so no query is needed for pictures. JSON is refused where
    forms are read: Flask-WTF would read it as one, and forms expect texts.
    """
    if for_programs():  # they know only later who asks; see apps/api/access.py
        request.max_content_length = min(FORM_BYTES, current_app.config["MAX_CONTENT_LENGTH"])
        return
    if request.is_json and request.endpoint not in JSON_BODIES:
        raise UnsupportedBody(N_("Send this as a form (multipart/form-data), not as JSON."))
    config = current_app.config
    if request.endpoint == WEIGHTS_UPLOAD and _sent_by_admin():
        request.max_content_length = config["MAX_WEIGHTS_BYTES"] + FORM_BYTES
    elif request.endpoint in LARGE_UPLOADS and "_user_id" in session:
        request.max_content_length = config[LARGE_UPLOADS[request.endpoint]] + FORM_BYTES
    elif not (request.endpoint in UPLOADS and "_user_id" in session):
        request.max_content_length = min(FORM_BYTES, config["MAX_CONTENT_LENGTH"])


def _sent_by_admin() -> bool:
    """Asked before the body is read; its transaction ends before that."""
    admin = "_user_id" in session and current_user.is_authenticated and current_user.is_admin
    db.session.commit()
    return bool(admin)


def _security_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_security_policy())
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", NO_SENSORS)
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", f"max-age={YEAR}")
    if request.endpoint and request.endpoint != "assets":
        headers.setdefault("Cache-Control", "private, no-store")
    return response


def content_security_policy() -> str:
    """Only what comes from this site; pictures from the storage too, where it gives addresses."""
    pictures = services().storage.origin()
    return "; ".join(
        (
            "default-src 'self'",
            # data: for the icons inside Bootstrap's style sheet
            f"img-src 'self' data: blob:{f' {pictures}' if pictures else ''}",
            f"media-src 'self' blob:{f' {pictures}' if pictures else ''}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _stays_here() -> bool:
    """Whether pictures leave this machine neither to be kept nor to be detected."""
    return current_app.config["STORAGE"] == "local" and services().queue.works_here


def _page_context() -> dict[str, Any]:
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return {
        "theme": theme if theme in THEMES else "auto",
        "signup_open": current_app.config["SIGNUP_OPEN"],
        "stays_here": _stays_here(),
        "is_admin": current_user.is_authenticated and current_user.is_admin,
    }


def safe_next(target: str | None) -> str | None:
    """``target`` if it is a path of this site, else None.

    Browsers read backslashes as slashes and skip control characters, so ``/\\evil`` and
    ``//evil`` both leave the site.
    """
    if not target or not target.startswith("/") or target[1:2] in ("/", "\\"):
        return None
    if any(ord(c) < 0x21 for c in target):
        return None
    parts = urlsplit(target)
    return None if parts.netloc or parts.scheme else target


def paginate(query: Select[*tuple[Any, ...]], per_page: int) -> Pagination:
    """The page of rows that ``?page=`` names; 404 for one that does not exist."""
    return _RowPagination(
        select=query, page=_page(per_page), per_page=per_page, max_per_page=per_page
    )


def paginate_pictures(pictures: Pictures, per_page: int) -> Pagination:
    """The same of pictures. ``exact`` tells whether its total is more than a lower limit."""
    return _PicturePagination(
        pictures=pictures, page=_page(per_page), per_page=per_page, max_per_page=per_page
    )


def _page(per_page: int) -> int:
    page = request.args.get("page", 1, type=int)
    if not 1 <= page <= MAX_ID // per_page:
        abort(404)
    return page


class _RowPagination(Pagination):
    """Flask-SQLAlchemy's pagination keeps the first column only; lists here show counts too."""

    def _query_items(self) -> list[Any]:
        query: Select[*tuple[Any, ...]] = self._query_args["select"]
        return list(db.session.execute(query.limit(self.per_page).offset(self._query_offset)))

    def _query_count(self) -> int:
        query: Select[*tuple[Any, ...]] = self._query_args["select"]
        rows = query.order_by(None).subquery()
        return db.session.scalar(select(func.count()).select_from(rows)) or 0


class _PicturePagination(Pagination):
    """Of a list that nobody counted, one picture more is read: it tells whether there is more."""

    exact = True

    def _query_items(self) -> list[Any]:
        pictures: Pictures = self._query_args["pictures"]
        found = pictures.slice(self._query_offset, self.per_page + (not pictures.exact))
        self._seen = self._query_offset + len(found)
        return found[: self.per_page]

    def _query_count(self) -> int:
        pictures: Pictures = self._query_args["pictures"]
        if pictures.exact:
            return pictures.total
        self.exact = self._seen <= self._query_offset + self.per_page
        return self._seen if self.exact else max(pictures.total, self._seen)


def row_ids(texts: Iterable[str]) -> list[int]:
    """The ids among ``texts``, each once, in order; what no row can have is left out."""
    numbers = {int(text) for text in texts if text.isdecimal() and len(text) <= len(str(MAX_ID))}
    return sorted(number for number in numbers if number <= MAX_ID)


def megabytes(size: int) -> str:
    """Bytes as a short text: 3.2 MB."""
    if size < MB:
        return f"{max(1, round(size / 2**10))} KB" if size else "0 KB"
    if size < 2**30:
        return f"{size / MB:.1f} MB"
    return f"{size / 2**30:.1f} GB"


def address_with(**changes: object) -> str:
    """The present address with other query parameters, for page links and column headings."""
    kept = {name: value for name, value in request.args.items() if name not in changes}
    given = {name: str(value) for name, value in changes.items() if value is not None}
    return f"{request.path}?{urlencode(kept | given)}"


def wants_json() -> bool:
    """Whether the caller is a program or one of our scripts rather than a page load."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    programs = request.endpoint in PROGRAMS or for_programs()
    return best == "application/json" or request.is_json or programs
