"""The gallery and what its scripts ask for: search, its panel of fields, boxes, states."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import current_app, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.detector.forms import UploadForm
from apps.i18n import error_text
from apps.models import Image
from apps.services import search as language
from apps.services.filters import search_of
from apps.services.gallery import Asker
from apps.services.search import MAX_TEXT, SORTS, STATUSES
from apps.services.terms import InState, Measured, Named, Reviewed, Search, SearchError, Uploaded
from apps.vision.colors import color_index
from apps.web import paginate_pictures, row_ids, wants_json

MB = 2**20
MAX_TILES = 200  # whose boxes or states one request may ask for
MAX_WORDS = 2000  # tags that are offered while typing
RATIOS = (40, 320)  # width by height of a tile in percent: narrower and wider ones are cut


@bp.get("/")
def index() -> ResponseReturnValue:
    if not current_user.is_authenticated:
        return render_template("detector/welcome.html", detector=services().models.in_use()[0])
    return _gallery("")


@bp.get("/images/search")
@login_required
def search() -> ResponseReturnValue:
    return _gallery(asked_text())


def asked_text() -> str:
    """The search of the address."""
    return request.args.get("search", "").replace("\0", "").strip()[: MAX_TEXT + 1]


def _gallery(text: str) -> ResponseReturnValue:
    totals = services().images.totals(current_user.id)
    who = Asker(current_user.id, current_user.threshold, totals.pictures)
    try:
        asked, pictures = services().gallery.find(who, text)
    except SearchError as error:
        if wants_json():
            raise
        shown = _page(text, Search(), None, totals.waiting, mistake=error_text(error))
        return shown, error.status
    page = paginate_pictures(pictures, current_app.config["GALLERY_PAGE_SIZE"])
    return _page(text, asked, page, totals.waiting)


def _page(text: str, asked: Search, page: Any, waiting: int, mistake: str | None = None) -> str:
    user_id = current_user.id
    models = services().models.all()
    return render_template(
        "detector/index.html",
        page=page,
        search=text,
        asked=asked,
        plain=asked.plain and mistake is None,
        mistake=mistake,
        chips=services().tags.counts(user_id),
        filters=[(kept, search_of(kept)) for kept in services().filters.all(user_id)],
        panel=panel_of(asked),
        terms=list(_without(text, asked)),
        words=words_of_language(),
        orders=order_names(),
        statuses=STATUSES,
        shown_models=services().gallery.models(user_id),
        trashed=services().trash.count(user_id),
        waiting=waiting,
        detector=next(model.spec for model in models if model.in_use),
        ready_models=[model.spec for model in models if model.ready],
        form=UploadForm(),
    )


@bp.app_template_filter()
def ratio_class(image: Image) -> str:
    """The class of css/gallery.css for the shape of a tile; style attributes are not allowed."""
    percent = round(20 * image.width / image.height) * 5
    return f"r{min(max(percent, RATIOS[0]), RATIOS[1])}"


@bp.app_template_global()
def waiting_text(count: int) -> str:
    """How much detection is still to come, for the gallery's banner."""
    text: str = ngettext(
        "%(num)s picture is waiting for detection.",
        "%(num)s pictures are waiting for detection.",
        count,
    )
    return text


# -- panel ---------------------------------------------------------------------------------


@dataclass
class Panel:
    """The fields of the panel, as they stand in its form."""

    model: str = ""
    status: str = ""
    reviewed: str = ""
    since: str = ""
    until: str = ""
    least: str = ""  # MB
    most: str = ""
    sort: str = "newest"


def panel_of(asked: Search) -> Panel:
    """What the terms of a search say in the panel's fields."""
    panel = Panel(sort=asked.sort)
    for term in asked.terms:
        match term.condition:
            case _ if term.negated:
                continue
            case Named("model", text):
                panel.model = text
            case InState(status):
                panel.status = status
            case Reviewed(yes):
                panel.reviewed = "yes" if yes else "no"
            case Uploaded(since, before):
                panel.since = since.date().isoformat() if since else panel.since
                last = before - timedelta(days=1) if before else None
                panel.until = last.date().isoformat() if last else panel.until
            case Measured("size", op, number) if op != "=":
                field = "least" if op in (">", ">=") else "most"
                setattr(panel, field, f"{number / MB:g}")
    return panel


@bp.get("/images/filter")
@login_required
def panel() -> ResponseReturnValue:
    """The panel's fields become terms of the search, which then stands in the address."""
    text, given = asked_text(), request.args
    with suppress(SearchError):  # the search says so itself, beside its field
        text = language.with_terms(text, _terms(given))[:MAX_TEXT]
    return redirect(url_for("detector.search", search=text, filters="open"))


def _terms(given: Any) -> dict[str, list[str]]:
    """The terms that the panel's fields stand for; its own keys are taken out first."""

    def term(field: str, start: str, end: str = "") -> list[str]:
        value = given.get(field, "").replace("\0", "").strip()[:80]
        return [f"{start}{language.quoted(value)}{end}"] if value else []

    sort = given.get("sort", "")
    return {
        "model": term("found_by", "model:"),
        "status": term("status", "status:"),
        "reviewed": term("reviewed", "reviewed:"),
        "date": [*term("since", "date>="), *term("until", "date<=")],
        "size": [*term("least", "size>=", "MB"), *term("most", "size<=", "MB")],
        "sort": [f"sort:{language.quoted(sort)}"] if sort not in ("", "newest") else [],
    }


def _without(text: str, asked: Search) -> Iterator[tuple[str, str]]:
    """Each term of a search and the search without it."""
    for term in asked.terms:
        rest = f"{text[: term.position].rstrip()} {text[term.position + len(term.text) :].lstrip()}"
        yield term.text, rest.strip()


def order_names() -> dict[str, str]:
    """Orders of the gallery and what people call them."""
    names = {
        "newest": gettext("Newest first"),
        "oldest": gettext("Oldest first"),
        "title": gettext("Name, A to Z"),
        "-title": gettext("Name, Z to A"),
        "largest": gettext("Largest file first"),
        "smallest": gettext("Smallest file first"),
        "boxes": gettext("Most boxes first"),
        "uncertainty": gettext("Least sure first"),
    }
    return {order: names[order] for order in SORTS}


def words_of_language() -> list[dict[str, str]]:
    """What the search field offers besides tags: text to write, and what it means."""
    return [
        {"text": "score>", "about": gettext("Score of the best box, 0 to 1")},
        {"text": "boxes>=", "about": gettext("How many boxes")},
        {"text": "model:", "about": gettext("Which model found the boxes")},
        {"text": "status:", "about": gettext("Where detection stands")},
        {"text": "reviewed:", "about": gettext("Whether a person has looked, yes or no")},
        {"text": "date>=", "about": gettext("Day of the upload, such as 2026-11-01")},
        {"text": "width>=", "about": gettext("Pixels from left to right")},
        {"text": "height>=", "about": gettext("Pixels from top to bottom")},
        {"text": "size>", "about": gettext("Size of the file, such as 2MB")},
        {"text": "uncertainty>", "about": gettext("How unsure the model is, 0 to 1")},
        {"text": "title:", "about": gettext("A part of the file's name")},
        {"text": "tag:", "about": gettext("A tag, the same as the word alone")},
        {"text": "sort:", "about": gettext("The order of the pictures")},
    ]


# -- for scripts ---------------------------------------------------------------------------


@bp.get("/images/search/words")
@login_required
def words() -> ResponseReturnValue:
    """What may follow in a search: the account's tags with their counts, and values of keys."""
    tags = services().tags.counts(current_user.id, MAX_WORDS)
    values = {
        "model": services().gallery.models(current_user.id),
        "status": list(STATUSES),
        "reviewed": ["yes", "no"],
        "date": ["today", "yesterday"],
        "sort": list(SORTS),
    }
    return jsonify(
        tags=[{"name": tag.name, "count": tag.count, "c": color_index(tag.name)} for tag in tags],
        values=values,
    )


@bp.get("/images/boxes")
@login_required
def tile_boxes() -> ResponseReturnValue:
    """The boxes of the tiles named by ``?id=…&id=…``, in pixels of the upright pictures."""
    ids = row_ids(request.args.getlist("id")[:MAX_TILES])
    found = services().gallery.with_boxes(current_user.id, current_user.threshold, ids)
    return jsonify(
        pictures={
            str(image.id): {
                "width": image.width,
                "height": image.height,
                "boxes": [
                    {
                        "label": box.label,
                        "c": color_index(box.label),
                        "score": None if box.by_person else box.score,
                        "box": [round(v, 1) for v in (box.x1, box.y1, box.x2, box.y2)],
                    }
                    for box in boxes
                ],
            }
            for image, boxes in found.values()
        }
    )


@bp.get("/images/status")
@login_required
def statuses() -> ResponseReturnValue:
    """Status of the pictures named by ``?id=…&id=…`` and how many wait: asked by the gallery."""
    ids = row_ids(request.args.getlist("id")[:MAX_TILES])
    found = services().images.statuses(current_user.id, ids)
    waiting = services().images.totals(current_user.id).waiting
    return jsonify(
        statuses={str(image_id): status.value for image_id, status in found.items()},
        waiting=waiting,
        waiting_text=waiting_text(waiting),
    )
