"""The page of one picture: what it shows, its neighbours, and what its camera wrote into it."""

from dataclasses import asdict, dataclass
from typing import Any

from flask import jsonify, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.detector.editor import state_json
from apps.detector.forms import TagForm
from apps.detector.results import threshold_of
from apps.models import Image, Verdict
from apps.services.annotations import State
from apps.services.gallery import Asker
from apps.services.pictures import MANY
from apps.services.terms import SearchError
from apps.vision.exif import camera_facts

MAX_SEARCH = 500  # characters
MAX_LABELS = 2000  # that the field for a label completes


@dataclass(frozen=True)
class Walk:
    """Where a picture stands in the gallery, the search or the inbox that it was opened from."""

    newer: Image | None
    older: Image | None
    kept: dict[str, Any]  # of the gallery's address

    def address(self, other: Image) -> str:
        """Of a neighbour's page, with the same gallery behind it."""
        return url_for("detector.show", image_id=other.id, **self.kept)

    def gallery(self) -> str:
        """Of the gallery, the search or the inbox itself."""
        if "review" in self.kept:
            return url_for("detector.review")
        return url_for("detector.search" if self.kept else "detector.index", **self.kept)

    @property
    def preload(self) -> list[str]:
        """Addresses of what is probably looked at next."""
        others = [other for other in (self.older, self.newer) if other is not None]
        return [url_for("detector.file", filename=other.display_name) for other in others]


def walk_from(image: Image) -> Walk:
    """The neighbours of ``image`` in what the address of this request names.

    ``?review=1`` is the inbox, which only goes on, and ``?search=`` a search of the gallery.
    """
    if "review" in request.args:
        following = services().reviews.next_to_review(image.owner_id, image.id)
        older = services().images.get(following) if following is not None else None
        return Walk(None, older, {"review": 1})
    search = request.args.get("search", "").replace("\0", "").strip()[:MAX_SEARCH]
    asker = Asker(image.owner_id, current_user.threshold, MANY)
    try:
        _, pictures = services().gallery.find(asker, search)
    except SearchError:  # the gallery says what is wrong with it
        return Walk(None, None, {"search": search})
    newer, older = pictures.around(image)
    return Walk(newer, older, {"search": search} if search else {})


@bp.get("/images/<int:image_id>")
@login_required
def show(image_id: int) -> ResponseReturnValue:
    found = services().annotations.state(current_user.id, image_id)
    walk = walk_from(found.image)
    return render_template("detector/show.html", walk=walk, **_context(found, walk))


@bp.get("/images/<int:image_id>/result")
@login_required
def result(image_id: int) -> ResponseReturnValue:
    """The part of the page that its script asks for again while the picture is waiting."""
    found = services().annotations.state(current_user.id, image_id)
    return render_template("detector/_result.html", **_context(found, None))


@bp.get("/images/<int:image_id>/exif.json")
@login_required
def exif(image_id: int) -> ResponseReturnValue:
    """What the camera wrote into the original: camera, time, exposure, and whether a position."""
    image = services().images.get_owned(current_user.id, image_id)
    response = make_response()
    response.set_etag(f"exif-{image.sha256[:32]}")
    response.cache_control.private = True
    response.cache_control.no_cache = True
    if not request.if_none_match.contains(response.get_etag()[0] or ""):
        facts = camera_facts(services().images.read_original(image))
        response.set_data(jsonify(asdict(facts)).get_data())
        response.mimetype = "application/json"
    return response.make_conditional(request)


def _context(found: State, walk: Walk | None) -> dict[str, object]:
    """A person's boxes stand in for those of the model that they are about."""
    image = found.image
    threshold = threshold_of(request.args, current_user.threshold)
    boxes = [box for box in found.detections if box.annotation_id is None]
    tags = services().tags.names_of(current_user.id)
    models = services().models.ready()
    return {
        "image": image,
        "state": state_json(found),
        "boxes": boxes,
        "words": [word for word, _ in found.annotations if word.verdict is not Verdict.REJECTED],
        "spoken": bool(found.annotations),
        "threshold": threshold,
        "shown": [box for box in boxes if box.score >= threshold],
        "others": [
            other for other in services().results.kept(image.id) if other.model != image.model
        ],
        "ready_models": models,
        "known_tags": tags,
        "known_labels": _known_labels(tags, [label for spec in models for label in spec.labels]),
        "preload": walk.preload if walk else [],
        "tag_form": TagForm(),
    }


def _known_labels(*sources: list[str]) -> list[str]:
    """Each label once, those that the account uses first."""
    return list(dict.fromkeys(label for source in sources for label in source))[:MAX_LABELS]
