"""The page that connects programs: settings to copy, a test, and what programs asked lately."""

import io
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required
from PIL import Image

from apps.api import selftest
from apps.container import services
from apps.errors import AppError
from apps.i18n import error_text
from apps.models import TEST_START

bp = Blueprint("connect", __name__, template_folder="templates")


@dataclass(frozen=True)
class Check:
    """One line of the test."""

    good: bool
    text: str


@bp.get("/connect")
@login_required
def index() -> ResponseReturnValue:
    return _page()


@bp.post("/connect/test")
@login_required
def test() -> ResponseReturnValue:
    """For browsers without scripts: the token, if one is given, and the detector, from inside.

    Whether a program's request arrives is what the page's script tests.
    """
    checks = [*_token_checks(request.form.get("token", "").strip()), *_engine_checks()]
    return _page(checks)


@bp.post("/connect/labelstudio")
@login_required
def new_labelstudio() -> ResponseReturnValue:
    """A connection; its address is shown in this answer alone."""
    fields = request.form
    try:
        least = float(fields.get("min_score", "0.4"))
    except ValueError:
        least = -1.0  # which is refused with the reason
    try:
        _, secret = services().labelstudios.connect(
            current_user.id,
            fields.get("host", ""),
            fields.get("studio_token", ""),
            fields.get("model", ""),
            least,
        )
    except AppError as error:
        return _page(studio_error=error_text(error)), error.status
    made = f"{request.host_url}labelstudio/{secret}"
    return _page(studio_address=made), 201


@bp.post("/connect/labelstudio/<int:connection_id>/remove")
@login_required
def remove_labelstudio(connection_id: int) -> ResponseReturnValue:
    services().labelstudios.remove(current_user.id, connection_id)
    flash(gettext("The Label Studio is connected no longer."), "success")
    return redirect(url_for("connect.index", _anchor="labelstudio"), 303)


@bp.get("/connect/cvat.py")
@login_required
def cvat_function() -> ResponseReturnValue:
    """The auto-annotation function for CVAT, with this server and a model filled in."""
    model = services().instant.model_called(request.args.get("model") or None)
    name, labels = services().labelstudios.classes_of(model)
    text = render_template(
        "api/cvat_function.py.txt",
        address=json.dumps(request.host_url.rstrip("/")),
        model=json.dumps(name),
        labels=json.dumps(list(labels), indent=4),
    )
    response = Response(text, mimetype="text/x-python")
    response.headers["Content-Disposition"] = "attachment; filename=sightbox_cvat.py"
    return response


@bp.get("/connect/api")
def reference() -> ResponseReturnValue:
    """Every operation of the REST interface, to read and to try."""
    return render_template("api/reference.html")


def _page(
    checks: list[Check] | None = None, studio_address: str = "", studio_error: str = ""
) -> str:
    admin = current_user.is_admin
    calls = services().client_calls.latest(current_user.id, nobodys=admin)
    address = urlsplit(request.host_url)
    return render_template(
        "api/connect.html",
        checks=checks,
        calls=calls,
        working=services().tokens.number_active(current_user.id),
        test_start=TEST_START,
        texts=selftest.texts(),
        address=request.host_url.rstrip("/"),
        host=address.hostname,
        port=address.port or (443 if request.is_secure else 80),
        secure=request.is_secure,
        node_red=json.dumps(_flow(request.host_url), indent=1),
        open_here=current_app.config["API_OPEN_ON_LOOPBACK"],
        models=services().models.ready(),
        studios=services().labelstudios.of_owner(current_user.id),
        studio_address=studio_address,
        studio_error=studio_error,
    )


def _flow(address: str) -> list[dict[str, Any]]:
    """For Node-RED: a picture as a form, and the objects of the answer."""
    function = (
        "msg.headers = {'Content-Type': 'multipart/form-data', "
        "'Authorization': 'Bearer YOUR-TOKEN'};\n"
        "msg.payload = {image: {value: msg.payload, options: {filename: 'image.jpg'}}};\n"
        "return msg;"
    )
    keep = {"t": "set", "p": "payload", "pt": "msg", "to": "payload.predictions", "tot": "msg"}
    ask = {"method": "POST", "ret": "obj", "url": f"{address}v1/vision/detection"}
    return [
        {"id": "sightbox1", "type": "function", "name": "form", "func": function, "outputs": 1}
        | {"wires": [["sightbox2"]]},
        {"id": "sightbox2", "type": "http request", "name": "Sightbox", "wires": [["sightbox3"]]}
        | ask,
        {"id": "sightbox3", "type": "change", "name": "objects", "wires": [[]], "rules": [keep]},
    ]


def _token_checks(token: str) -> list[Check]:
    if not token:
        return []
    try:
        found = services().tokens.check(token)
    except AppError as error:
        return [Check(False, error_text(error))]
    checks = [Check(True, gettext("The token is good. It belongs to “%(name)s”.", name=found.name))]
    if not found.may("detect"):
        text = gettext("But it may not detect. Make one that may, for cameras and houses.")
        checks.append(Check(False, text))
    return checks


def _engine_checks() -> list[Check]:
    """Whether the detector answers, with a grey picture, twice: the first may load a model."""
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), "grey").save(buffer, "JPEG")
    instant = services().instant
    try:
        model = instant.model_called(None)
        first = _timed(buffer.getvalue(), model)
        second = _timed(buffer.getvalue(), model)
    except AppError as error:
        return [Check(False, error_text(error))]
    text = gettext(
        "The detector answers: %(first)s ms for the first test picture, %(second)s ms for the "
        "next one.",
        first=first,
        second=second,
    )
    return [Check(True, text)]


def _timed(data: bytes, model: str) -> int:
    """Milliseconds of one detection."""
    started = time.perf_counter()
    services().instant.detect(data, model)
    return round(1000 * (time.perf_counter() - started))
