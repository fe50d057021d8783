"""Who asks: a token in a header or, where a protocol wants it so, in a form. Never a cookie."""

import functools
import ipaddress
import logging
import time
from collections.abc import Callable
from typing import IO, Any, TypeVar, cast

from flask import Response, current_app, g, request
from limits import parse_many

from apps.container import services
from apps.errors import N_, Forbidden, TooMany, Unauthorized
from apps.extensions import db, for_programs, limiter
from apps.models import TEST_START
from apps.services.client_calls import DAMAGED, Call
from apps.services.tokens import Caller

logger = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])

NO_TOKEN = N_("Send a token: “Authorization: Bearer …”. Your account page makes one.")
NOBODY = Caller(0, "", False, 0.5, frozenset({"detect"}), "")  # a program on this machine
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
SECRET_PATH = "/labelstudio/"  # what follows lets a Label Studio in
BLOCK = 1 << 16  # bytes
HAS_TEXT = ("message", "detail", "error")  # keys of error bodies, in every protocol


def caller() -> Caller:
    """The account behind this request, which ``needs`` has checked."""
    return cast(Caller, g.caller)


def header_token() -> str:
    """The token of ``Authorization: Bearer …`` or ``X-API-Key``; empty if there is none."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.casefold() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("X-API-Key", "").strip()


def needs(
    scope: str, *, takes_files: bool = False, most: str = "MAX_CONTENT_LENGTH"
) -> Callable[[F], F]:
    """Decorator of a view: only for tokens with ``scope``.

    Args:
        scope: words of services.tokens.SCOPES, all of which it takes; empty: every token will do.
        takes_files: whether its body may be as large as an upload of pictures.
        most: the setting that says how large.

    Raises, before the body is read:
        Unauthorized: no token, or none that is good.
        Forbidden: a token that may not do this.
        TooMany: too many requests.
    """

    def decorate(view: F) -> F:
        @functools.wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            enter(header_token(), scope)
            if takes_files:
                request.max_content_length = current_app.config[most]
            return view(*args, **kwargs)

        checked._apidoc = _with_scope(view, scope)  # type: ignore[attr-defined]
        return cast(F, checked)

    return decorate


def _with_scope(view: Any, scope: str) -> dict[str, Any]:
    """What the reference says of ``view``, and which scope it needs."""
    found: dict[str, Any] = dict(getattr(view, "_apidoc", {}))
    found["manual_doc"] = found.get("manual_doc", {}) | {"x-scope": scope}
    return found


def enter(token: str, scope: str) -> None:
    """Let the program in that shows ``token``, for what ``scope`` allows. Raises as ``needs``."""
    if not token and _open_here() and scope in NOBODY.scopes:
        g.caller = NOBODY
        return
    try:
        if not token:
            raise Unauthorized(NO_TOKEN)
        g.caller = services().tokens.check(token)
    except Unauthorized as error:
        g.refused = error
        count_refused()
        raise
    count_token(caller().token)
    for word in scope.split():
        if not caller().may(word):
            raise Forbidden(
                N_("This token may not do that: it lacks the scope “%(scope)s”."), scope=word
            )


def drop_rest(body: IO[bytes]) -> None:
    """Read what a refused program still sends, and keep none of it: one that is answered before
    it has sent all may see a broken connection instead."""
    db.session.rollback()  # it may take its time
    while body.read(BLOCK):
        pass


def count_refused() -> None:
    """Count a request that nobody let in; raises TooMany."""
    _count(current_app.config["API_REFUSED_RATE"], "refused", request.remote_addr or "")


def count_token(prefix: str) -> None:
    """Count a request of the token that begins so; raises TooMany."""
    _count(current_app.config["API_RATE"], "token", prefix)


def _open_here() -> bool:
    """Whether the protocols of cameras may go without a token: from this machine, by a setting.

    What a proxy on this machine forwards comes from elsewhere.
    """
    if not current_app.config["API_OPEN_ON_LOOPBACK"] or not request.path.startswith("/v1/"):
        return False
    if any(header in request.headers for header in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _count(rate: str, *key: str) -> None:
    """Count this request under ``key``.

    Raises:
        TooMany: there were more than ``rate``.
    """
    if not limiter.enabled:
        return
    counts, reset = limiter.limiter, 0.0
    try:
        for item in parse_many(rate):
            within = counts.hit(item, *key)
            stats = counts.get_window_stats(item, *key)
            g.rates = [*g.get("rates", ()), (stats.remaining, item.amount, stats.reset_time)]
            if not within:
                reset = max(reset, stats.reset_time)
    except Exception:  # where counts are kept does not answer: programs go on
        logger.warning("requests of programs are not counted", exc_info=True)
        return
    if reset:
        wait = max(1, round(reset - time.time()))
        raise TooMany(N_("Too many requests in a short time. Send them more slowly."), wait)


def tell_rate(response: Response) -> Response:
    """How many requests are left, of the limit that has the fewest, as the pages' limits say it."""
    if rates := g.get("rates"):
        left, amount, ends = min(rates)
        response.headers["X-RateLimit-Limit"] = str(amount)
        response.headers["X-RateLimit-Remaining"] = str(left)
        response.headers["X-RateLimit-Reset"] = str(round(ends))
    return response


def count_unknown() -> None:
    """Before a program is told that nothing is at its address: that counts as refused, unless it
    shows a token that is good. Raises as ``enter``."""
    wrong = request.routing_exception
    if not for_programs() or wrong is None or (wrong.code or 0) < 400:
        return
    if token := header_token():
        enter(token, "")
    else:
        count_refused()


def log_call(response: Response) -> Response:
    """Keep what a program asked and what came of it, for the page that connects programs."""
    if not for_programs() or ("caller" not in g and response.status_code < 400):
        return response  # what is open to everybody, as a ping, is nobody's
    if "caller" not in g and request.url_rule is None:
        return response  # nobody asked for nothing: anybody can do that as often as they wish
    try:
        services().client_calls.note(_call(response))
    except Exception:  # an answer is worth more than its line in a log
        db.session.rollback()
        logger.exception("call not logged")
    return response


def _call(response: Response) -> Call:
    asked: Caller | None = g.get("caller")
    refused: Unauthorized | None = g.get("refused")
    owner = asked.user_id or None if asked else refused.owner_id if refused else None
    prefix = asked.token if asked else refused.prefix if refused else ""
    if prefix.startswith(TEST_START):
        prefix = TEST_START  # each test has a new one, and would push the calls of cameras out
    # Of addresses with numbers in them the kind is enough, and of what strangers make up; one with
    # a secret is never kept.
    damaged = refused is not None and refused.damaged
    rest = owner is None or damaged or request.path.startswith(("/api/", SECRET_PATH))
    path = str(request.url_rule.rule) if rest and request.url_rule else request.path
    error = _error_of(response) if response.status_code >= 400 else ""
    if path.startswith(SECRET_PATH):
        path = f"{SECRET_PATH}…/{path[len(SECRET_PATH) :].partition('/')[2]}"
    return Call(
        owner_id=owner,
        token=prefix,
        method=request.method[:8],
        path=path,
        status=response.status_code,
        error=DAMAGED if damaged else error,
        client=request.user_agent.string,
        address=(request.remote_addr or "")[:45],
    )


def _error_of(response: Response) -> str:
    body = response.get_json(silent=True)
    if not isinstance(body, dict):
        return ""
    return next((str(body[key]) for key in HAS_TEXT if body.get(key)), "")
