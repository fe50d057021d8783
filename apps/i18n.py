"""Which language a page is in: the visitor's choice, else the browser's, else English."""

from datetime import datetime

from flask import Flask, current_app, has_request_context, request
from flask_babel import format_date, format_datetime, get_locale, gettext
from markupsafe import Markup

from apps.config import ROOT
from apps.errors import AppError
from apps.extensions import babel

LANGUAGES = {"en": "English", "ko": "한국어"}
COOKIE = "sightbox_language"


def init_app(app: Flask) -> None:
    """Bind Flask-Babel and give templates the list of languages."""
    babel.init_app(
        app,
        default_translation_directories=str(ROOT / "apps" / "translations"),
        locale_selector=choose_language,
    )
    app.jinja_env.globals["LANGUAGES"] = LANGUAGES
    app.jinja_env.globals["current_language"] = current_language
    app.jinja_env.filters["localtime"] = local_time
    app.jinja_env.filters["local_day"] = local_day
    app.jinja_env.filters["stored_text"] = stored_text


def choose_language() -> str:
    """A key of ``LANGUAGES`` for the present request."""
    if not has_request_context():
        return "en"
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    default: str = current_app.config["BABEL_DEFAULT_LOCALE"]
    return request.accept_languages.best_match(list(LANGUAGES)) or default


def current_language() -> str:
    """Language of the page being made, for ``<html lang>``."""
    return str(get_locale() or "en")


def stored_text(text: str | None) -> str:
    """A message id from the database in the language of the page.

    Not ``_()`` in the template: that would take a ``%`` in it for a placeholder, and its angle
    brackets for HTML.
    """
    return gettext(text) if text else ""


def local_time(moment: datetime) -> Markup:
    """A ``<time>`` in UTC, which js/page.js turns into the reader's own zone."""
    text = format_datetime(moment, "medium", rebase=False)
    return Markup('<time datetime="{}" data-local>{} UTC</time>').format(moment.isoformat(), text)


def local_day(moment: datetime) -> str:
    """The day of ``moment`` (UTC) in the language of the page."""
    text: str = format_date(moment, "medium", rebase=False)
    return text


def error_text(error: AppError) -> str:
    """The text of ``error`` in the language of the page."""
    text: str = gettext(error.message)
    return text % error.params if error.params else text
