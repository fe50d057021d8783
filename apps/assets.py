"""Style sheets and scripts: compressed, and kept for a year under an address with their hash.

One hash for all files, as a folder in the address, so that the relative imports of the scripts
lead to files of the same version and no script is loaded twice. Only these files are compressed:
pages hold secrets beside what visitors sent (BREACH, CVE-2013-3587).
"""

import hashlib
import re
from functools import cache
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import quote

import flask_bootstrap
from flask import Flask, Response, abort, current_app, request, url_for
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_compress import Compress
from werkzeug.security import safe_join

HERE = Path(__file__).parent
OWN = HERE / "static"
BOOTSTRAP = Path(flask_bootstrap.__file__).parent / "static" / "bootstrap5"
BOOTSTRAP_CSS = "bootstrap.min.css"
ICONS_CSS = "icons.css"
TYPES = ("text/css", "text/javascript", "image/svg+xml")
ALGORITHMS = ("br", "zstd", "gzip")  # the smallest first
YEAR = 365 * 24 * 3600  # seconds
_NAMES = re.compile(r"""["'](?:bi-)?([a-z0-9-]+)["']|\bbi-([a-z0-9-]+)""")
_SYMBOLS = re.compile(r'<symbol [^>]*viewBox="([^"]+)" id="([^"]+)">(.*?)</symbol>', re.DOTALL)


class PageSessions(SecureCookieSessionInterface):
    """Flask's sessions, kept by pages alone: a file that everybody shares carries no cookie."""

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Send the cookie, unless with a style sheet or script."""
        if request.endpoint != "assets":
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    """Add the address of the files, their compression, and ``static_url`` for templates."""
    app.config.update(
        COMPRESS_REGISTER=False,  # for this address alone
        COMPRESS_MIMETYPES=list(TYPES),
        COMPRESS_ALGORITHM=list(ALGORITHMS),
        COMPRESS_BR_LEVEL=6,
    )
    app.session_interface = PageSessions()
    view = Compress(app).compressed()(asset)
    app.add_url_rule("/assets/<tree>/<path:filename>", "assets", view)
    app.add_template_global(static_url)


def static_url(filename: str) -> str:
    """Address of a file of ``apps/static``, of Bootstrap's style sheet or of the icons."""
    return url_for("assets", tree=version(), filename=filename)


def asset(tree: str, filename: str) -> Response:
    """One file. Under the present version it never changes; an older page asks again."""
    response = Response(_contents(filename), mimetype=guess_type(filename)[0])
    if tree == version() and not current_app.debug:
        response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
    else:
        response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def _contents(filename: str) -> bytes:
    """Read whole, because what compresses a stream leaves its file open.

    Raises:
        NotFound: there is no such file.
    """
    if filename == ICONS_CSS:
        return icons_css().encode()
    folder = BOOTSTRAP / "css" if filename == BOOTSTRAP_CSS else OWN
    path = safe_join(str(folder), filename)
    if path is None or not Path(path).is_file():
        abort(404)
    return Path(path).read_bytes()


@cache
def version() -> str:
    """12 hexadecimal digits over the names and contents of all files."""
    digest = hashlib.blake2b(icons_css().encode(), digest_size=6)
    files = sorted(path for path in OWN.rglob("*") if path.is_file())
    for path in [*files, BOOTSTRAP / "css" / BOOTSTRAP_CSS]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def icons_css() -> str:
    """Rules for the Bootstrap Icons that templates and scripts name; the whole font has 2,000.

    Each is a mask in the colour of the text, so ``<i class="bi bi-x">`` works as with the font.
    """
    sprite = (BOOTSTRAP / "icons" / "bootstrap-icons.svg").read_text()
    drawings = {name: (box, inner) for box, name, inner in _SYMBOLS.findall(sprite)}
    rules = [
        ".bi::before{content:'';display:inline-block;width:1em;height:1em;vertical-align:-.125em;"
        "background-color:currentColor;forced-color-adjust:none;"
        "-webkit-mask:var(--icon) center/contain no-repeat;"
        "mask:var(--icon) center/contain no-repeat}"
    ]
    for name in sorted(_names() & drawings.keys()):
        box, inner = drawings[name]
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{inner.strip()}</svg>'
        address = quote(svg.replace('"', "'"), safe=" '=:/")
        rules.append(f'.bi-{name}{{--icon:url("data:image/svg+xml,{address}")}}')
    return "\n".join(rules)


def _names() -> set[str]:
    """Every word in quotes, and every class ``bi-…``, of templates and scripts."""
    files = [*HERE.rglob("*.html"), *OWN.rglob("*.js")]
    found = (_NAMES.findall(path.read_text(encoding="utf-8")) for path in files)
    return {quoted or named for pairs in found for quoted, named in pairs}
