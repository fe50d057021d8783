"""Picture page and its files. Each view: form, service call, answer."""

import io

from flask import (
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from apps.container import services
from apps.detector import (
    compare,
    editor,
    exporting,
    filters,
    gallery,
    picture,
    review,
    selection,
    trash,
    uploading,
)
from apps.detector.blueprint import bp
from apps.detector.forms import PlainForm, TagForm
from apps.detector.results import boxes_of, picture_json, threshold_of
from apps.detector.trash import tell_deleted
from apps.errors import AppError
from apps.files import send_stored
from apps.i18n import error_text
from apps.models import Image, Result
from apps.vision.draw import annotated_jpeg
from apps.vision.types import Box

# Importing these registers their pages.
__all__ = [
    "bp",
    "compare",
    "editor",
    "exporting",
    "filters",
    "gallery",
    "picture",
    "review",
    "selection",
    "trash",
    "uploading",
]


# -- one picture ---------------------------------------------------------------------------


@bp.get("/images/<int:image_id>/card")
@login_required
def card(image_id: int) -> ResponseReturnValue:
    """One tile of the gallery, asked for again when its detection has ended."""
    image = services().images.get_owned(current_user.id, image_id)
    return render_template("detector/_card.html", image=image)


@bp.post("/detect/<int:image_id>")
@login_required
def detect(image_id: int) -> ResponseReturnValue:
    model = request.form.get("model") or None
    services().requests.again(image_id, owner_id=current_user.id, model=model)
    return redirect(url_for("detector.show", image_id=image_id), 303)


@bp.route("/images/delete/<int:image_id>", methods=["GET", "POST"])
@login_required
def delete(image_id: int) -> ResponseReturnValue:
    image = services().images.get_owned(current_user.id, image_id)
    form = PlainForm()
    if not form.validate_on_submit():
        boxes = sum(services().results.counts(image_id).values())  # of every model
        return render_template(
            "detector/delete.html", image=image, boxes=boxes, form=form, days=services().trash.days
        )
    title = image.title
    tell_deleted(services().trash.move_one(current_user.id, image_id), title)
    return redirect(url_for("detector.index"), 303)


@bp.post("/images/<int:image_id>/tags")
@login_required
def add_tag(image_id: int) -> ResponseReturnValue:
    services().images.get_owned(current_user.id, image_id)  # another's picture: 404 before all else
    form = TagForm()
    try:
        services().tags.add(current_user.id, image_id, form.name.data or "")
    except AppError as error:
        if error.status == 404:
            raise
        flash(error_text(error), "error")
    return redirect(url_for("detector.show", image_id=image_id, _anchor="tags"), 303)


@bp.post("/images/<int:image_id>/tags/<int:tag_id>/delete")
@login_required
def remove_tag(image_id: int, tag_id: int) -> ResponseReturnValue:
    services().tags.remove(current_user.id, image_id, tag_id)
    return redirect(url_for("detector.show", image_id=image_id, _anchor="tags"), 303)


# -- files ---------------------------------------------------------------------------------


@bp.get("/images/<filename>")
@login_required
def file(filename: str) -> ResponseReturnValue:
    """A stored file for its owner. Originals, which are a stranger's bytes, are only saved."""
    return send_stored(services().images.open_file(filename, current_user.id))


@bp.get("/images/<int:image_id>/annotated")
@login_required
def annotated(image_id: int) -> ResponseReturnValue:
    """The picture with its effective boxes at the threshold drawn in, as JPEG."""
    image = services().images.get_owned(current_user.id, image_id)
    threshold = threshold_of(request.args, current_user.threshold)
    _, found = _asked_result(image, threshold)  # before the next line, which ends the transaction
    data = services().images.read_original(image)
    return _download(image, annotated_jpeg(data, found), "jpg")


@bp.get("/images/<int:image_id>/boxes.json")
@login_required
def boxes(image_id: int) -> ResponseReturnValue:
    """The effective boxes as JSON; ``?threshold=0.5`` keeps a model's at and above it."""
    image = services().images.get_owned(current_user.id, image_id)
    threshold = threshold_of(request.args, 0.0)
    said = services().annotations.said(image_id)
    found = picture_json(image, *_asked_result(image, threshold), threshold, said)
    return _download(image, current_app.json.dumps(found, indent=2).encode(), "json")


def _asked_result(image: Image, threshold: float) -> tuple[Result | None, list[Box]]:
    """The present result and the effective boxes; with ``?model=`` what that one found alone.

    Raises:
        NotFound: that model has not looked at the picture.
    """
    if model := request.args.get("model"):
        result = services().results.find(image.id, model)
        return result, boxes_of(services().results.boxes(image.id, model), threshold)
    present = services().results.find(image.id, image.model) if image.model else None
    return present, services().boxes.effective([image.id], threshold)[image.id]


def _download(image: Image, data: bytes, extension: str) -> Response:
    name = f"{image.title.rsplit('.', 1)[0]}-boxes.{extension}"
    return send_file(io.BytesIO(data), as_attachment=True, download_name=name)


# -- models --------------------------------------------------------------------------------


@bp.get("/models")
def models() -> ResponseReturnValue:
    return render_template("detector/models.html", models=services().models.all())


@bp.get("/models/<name>")
def model(name: str) -> ResponseReturnValue:
    model = services().models.get(name)
    return render_template(
        "detector/model.html", model=model, measured=services().bench.of(model.spec)
    )
