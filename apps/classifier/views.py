"""Networks to choose from, and the page where one answers."""

from dataclasses import dataclass

from flask import Blueprint, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from werkzeug.datastructures import MultiDict

from apps.classifier.answers import answer_json, picture_uri
from apps.classifier.forms import TOP, ClassifyForm
from apps.container import services
from apps.errorpages import answer_error
from apps.errors import AppError, Busy
from apps.i18n import error_text
from apps.models import Image
from apps.services.classifications import MARGIN, Answer, Place

bp = Blueprint("classifier", __name__, template_folder="templates")
bp.add_app_template_filter(picture_uri)
RECENT = 12  # own pictures to pick from


@dataclass(frozen=True)
class Shown:
    """What the page says to what was asked of it."""

    status: int = 200
    answer: Answer | None = None
    error: str = ""
    retry_after: int = 0  # seconds


@bp.get("/")
@login_required
def index() -> ResponseReturnValue:
    """The networks; ``?image=…&box=…`` goes along to the one that is chosen."""
    form = _asked_form()
    place = _place(form) if form.validate() else None
    return render_template(
        "classifier/index.html", models=services().classifications.all(), place=place
    )


@bp.route("/<name>", methods=["GET", "POST"])
@login_required
def model(name: str) -> ResponseReturnValue:
    state = services().classifications.get(name)
    posted = request.method == "POST"
    form = ClassifyForm() if posted else _asked_form()
    shown, place = Shown(), None
    if posted or "image" in request.args or "box" in request.args:
        shown, place = _shown(name, form)
    page = render_template(
        "classifier/model.html", model=state, form=form, shown=shown, place=place, recent=_recent()
    )
    return _response(page, shown)


@bp.post("/<name>/answer")
@login_required
def answer(name: str) -> ResponseReturnValue:
    """The part of the page that its script asks for."""
    state = services().classifications.get(name)
    shown, _ = _shown(name, ClassifyForm())
    return _response(render_template("classifier/_answer.html", model=state, shown=shown), shown)


@bp.post("/<name>/predict")
@login_required
def predict(name: str) -> ResponseReturnValue:
    """The same as JSON."""
    services().classifications.get(name)
    form = ClassifyForm()
    if not form.validate():
        code = "no_file" if list(form.errors) == ["image"] else "invalid"
        return answer_error(422, form.first_error, code)
    return jsonify(answer_json(_ask(name, form, _place(form))))


@bp.get("/<name>/layers")
@login_required
def layers(name: str) -> ResponseReturnValue:
    """The network's table, which needs PyTorch: only who opens it waits for that."""
    state = services().classifications.get(name)
    table = services().classifications.layers(name)
    return render_template("classifier/layers.html", model=state, layers=table)


def _asked_form() -> ClassifyForm:
    """The form as an address fills it in: ``?image=…&box=…&invert=…&explain=…``."""
    names = {"image": "image_id", "box": "box_id"}
    asked = MultiDict((names.get(key, key), value) for key, value in request.args.items())
    return ClassifyForm(asked, meta={"csrf": False})


def _shown(name: str, form: ClassifyForm) -> tuple[Shown, Place | None]:
    """The answer or the reason why there is none, and the stored picture that was asked about.

    Raises:
        NotFound: no such picture or box of this account.
    """
    if not form.validate():
        return Shown(422, error=form.first_error), None
    place = _place(form)
    try:
        return Shown(answer=_ask(name, form, place)), place
    except AppError as error:
        if error.status == 404:
            raise
        wait = error.retry_after if isinstance(error, Busy) else 0
        return Shown(error.status, error=error_text(error), retry_after=wait), place


def _place(form: ClassifyForm) -> Place | None:
    if form.image.data or form.image_id.data is None:
        return None
    return services().classifications.place(current_user.id, form.image_id.data, form.box_id.data)


def _ask(name: str, form: ClassifyForm, place: Place | None) -> Answer:
    classifications = services().classifications
    if place is None:
        picture = classifications.read(form.image.data.stream)
    else:
        margin = MARGIN if form.margin.data is None else form.margin.data
        picture = classifications.open(place, margin)
    return classifications.answer(
        name,
        picture,
        top=form.top.data or TOP,
        invert=form.inverted,
        explain=form.explain.data,
    )


def _recent() -> list[Image]:
    """The newest pictures of the account."""
    total = services().images.totals(current_user.id).pictures
    return services().images.gallery(current_user.id, total=total).slice(0, RECENT)


def _response(page: str, shown: Shown) -> ResponseReturnValue:
    response = make_response(page, shown.status)
    if shown.retry_after:
        response.headers["Retry-After"] = str(shown.retry_after)
    return response
