"""What the self-test of the page that connects programs needs of the server.

The test itself is the browser's: it asks as a program does (static/js/selftest). From here come its
token, which is for that one test, and what no protocol says of a token: why it was refused, and how
many boxes it lets through.
"""

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_limiter.util import get_remote_address
from flask_login import current_user, login_required

from apps.container import services
from apps.errors import AppError
from apps.extensions import limiter
from apps.i18n import error_text
from apps.services.tokens import TEST_FOR

bp = Blueprint("selftest", __name__, url_prefix="/connect/test")
RATE = "30 per minute"  # tests of one account

limited = limiter.limit(RATE, key_func=lambda: current_user.get_id() or get_remote_address())


@bp.post("/begin")
@login_required
@limited
def begin() -> ResponseReturnValue:
    """A token that may detect, until the test ends or for TEST_FOR."""
    token_id, text = services().tokens.create_for_test(current_user.id)
    return jsonify(id=token_id, token=text, seconds=round(TEST_FOR.total_seconds())), 201


@bp.post("/<int:token_id>/end")
@login_required
def end(token_id: int) -> ResponseReturnValue:
    """Forget the token of a test; anybody else's stays as it is."""
    services().tokens.end_test(current_user.id, token_id)
    return "", 204


@bp.post("/why")
@login_required
@limited
def why() -> ResponseReturnValue:
    """Why the token in the field ``token`` may not detect; empty if it may."""
    return jsonify(reason=refusal(request.form.get("token", "").strip()))


@bp.post("/cap")
@login_required
@limited
def cap() -> ResponseReturnValue:
    """How many boxes an answer to the token in the field ``token`` has at most; null: all.

    Raises:
        Unauthorized: it is not good.
    """
    found = services().tokens.check(request.form.get("token", "").strip())
    return jsonify(max_boxes=found.max_boxes)


def refusal(token: str) -> str:
    """For people, in their language: why ``token`` may not detect; empty if it may."""
    try:
        found = services().tokens.check(token)
    except AppError as error:
        return error_text(error)
    if found.may("detect"):
        return ""
    said: str = gettext("The token may not detect. Make one that may, for cameras and houses.")
    return said


def texts() -> dict[str, str]:
    """What the script of the test says; a cause and, under the same name and Next, what to do."""
    return _words() | _causes_of_the_way() | _causes_of_the_server()


def _words() -> dict[str, str]:
    return {
        "asking": gettext("Asking…"),
        "good": gettext("It works: a program that asks this way gets an answer."),
        "studioGood": gettext(
            "It works: the address is known. Label Studio's server must reach it."
        ),
        "boxes": gettext(
            "It works, but the token of this test lets more than {most} boxes through, and the "
            "program breaks on more. Give it a token with {most} as “Most boxes in an answer”, "
            "from the page Tokens."
        ),
        "failed": gettext("Failed:"),
        "notBegun": gettext("The test could not be made."),
        "asked": gettext("Asked"),
        "sent": gettext("Sent"),
        "answer": gettext("Answer"),
        "none": gettext("none"),
        "address": gettext(
            "Your browser reaches this server at {here}, but the settings below say {said}, where "
            "programs may not reach it. Behind a proxy set SIGHTBOX_TRUSTED_PROXIES, and let the "
            "proxy send X-Forwarded-Host and X-Forwarded-Proto."
        ),
        "studioAddress": gettext(
            "Paste the whole address that was made here, with /labelstudio/ in it."
        ),
    }


def _causes_of_the_way() -> dict[str, str]:
    """Between the program and Sightbox."""
    return {
        "network": gettext("No answer came: the connection broke."),
        "networkNext": gettext(
            "See whether the server runs, and whether a proxy in front of it ends uploads early. "
            "Then test again."
        ),
        "timeout": gettext("No answer came in time."),
        "timeoutNext": gettext(
            "The first picture may load a model: test once more. If that fails too, the server's "
            "log and its status page say what it does."
        ),
        "redirect": gettext("The address leads elsewhere, where a program loses its picture."),
        "redirectNext": gettext(
            "Give programs the address where it ends, for example with https://. A proxy must not "
            "send {path} to a login page."
        ),
        "gateway": gettext("A proxy answered ({status}): it does not reach Sightbox."),
        "gatewayNext": gettext("See whether the server runs, and the address that the proxy asks."),
        "foreign": gettext(
            "What answered ({status}) is not Sightbox, but perhaps a proxy before it."
        ),
        "foreignNext": gettext(
            "Let the proxy pass {path} on as it is, without a login of its own."
        ),
        "large": gettext("The picture is too large for the server or a proxy in front of it."),
        "largeNext": gettext("Raise its limit of request bodies, for nginx client_max_body_size."),
        "lost": gettext("The token did not arrive as it was sent. {message}"),
        "lostNext": gettext("A proxy may take the header Authorization away: let it pass."),
    }


def _causes_of_the_server() -> dict[str, str]:
    return {
        "tokenNext": gettext("Tokens are made and revoked on the page Tokens."),
        "studio": "{message}",
        "studioNext": gettext("Then give it to Label Studio under Settings, Model."),
        "missing": gettext("There is nothing at this address. {message}"),
        "missingNext": gettext("Copy the settings again; the page Models says which are here."),
        "often": gettext("This token has asked too often. {message}"),
        "oftenNext": gettext(
            "Wait {seconds} seconds. Let the program ask less often, or raise SIGHTBOX_API_RATE."
        ),
        "busy": gettext("The detector has too much to do. {message}"),
        "busyNext": gettext(
            "Test again in {seconds} seconds. If it stays so, let programs ask less often, or take "
            "a faster model."
        ),
        "model": gettext("The model cannot be used. {message}"),
        "modelNext": gettext(
            "An administrator fetches its weights or chooses another one: Models."
        ),
        "crash": gettext("Something went wrong on the server. {message}"),
        "crashNext": gettext("Its log has the details."),
        "refused": gettext("The request was refused. {message}"),
        "refusedNext": gettext("Update the program, or report this with the answer below."),
    }
