"""Upload, picture page and their files. Each view: form, service call, answer."""

import io

from flask import (
    Response,
    current_app,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector import compare, filters, gallery, selection, trash
from apps.detector.blueprint import bp
from apps.detector.forms import PlainForm, TagForm, UploadForm
from apps.detector.results import boxes_of, outcome_json, picture_json, threshold_of
from apps.detector.trash import tell_deleted
from apps.errors import AppError
from apps.files import send_stored
from apps.i18n import error_text
from apps.models import Image, Result
from apps.services.uploads import Outcome
from apps.vision.draw import annotated_jpeg
from apps.vision.types import Box
from apps.web import wants_json

# Importing them registers their pages.
__all__ = ["bp", "compare", "filters", "gallery", "selection", "trash"]


# -- upload --------------------------------------------------------------------------------


@bp.route("/upload", methods=["GET", "POST"])
@login_required
def upload() -> ResponseReturnValue:
    form = UploadForm()
    if not form.validate_on_submit():
        status = 422 if form.is_submitted() else 200
        if form.is_submitted() and wants_json():
            return jsonify(error={"code": "no_file", "message": form.image.errors[0]}), status
        return render_template("detector/upload.html", form=form), status
    files = [(file.filename, file.stream) for file in form.image.data]
    outcomes = services().uploads.upload_many(current_user.id, files)
    return _upload_answer(form, outcomes)


def _upload_answer(form: UploadForm, outcomes: list[Outcome]) -> ResponseReturnValue:
    """All good: on to the pictures. Some refused: the page says which and why."""
    good = [outcome.image for outcome in outcomes if outcome.image is not None]
    status = 201 if good else 422
    if wants_json():
        return jsonify(results=[outcome_json(outcome) for outcome in outcomes]), status
    if len(good) < len(outcomes):
        page = render_template(
            "detector/upload.html", form=form, outcomes=outcomes, error_text=error_text
        )
        return page, 200 if good else 422
    if len(good) == 1:
        return redirect(url_for("detector.show", image_id=good[0].id), 303)
    flash(gettext("%(count)s pictures uploaded.", count=len(good)), "success")
    return redirect(url_for("detector.index"), 303)


# -- one picture ---------------------------------------------------------------------------


@bp.get("/images/<int:image_id>")
@login_required
def show(image_id: int) -> ResponseReturnValue:
    image = services().images.get_owned(current_user.id, image_id, boxes=True)
    newer, older = services().images.neighbours(image)
    return render_template(
        "detector/show.html",
        newer=newer,
        older=older,
        known_tags=services().tags.names_of(current_user.id),
        tag_form=TagForm(),
        **_result_context(image),
    )


@bp.get("/images/<int:image_id>/result")
@login_required
def result(image_id: int) -> ResponseReturnValue:
    """The part of the page that its script asks for again while the picture is waiting."""
    image = services().images.get_owned(current_user.id, image_id, boxes=True)
    return render_template("detector/_result.html", tag_form=TagForm(), **_result_context(image))


def _result_context(image: Image) -> dict[str, object]:
    threshold = threshold_of(request.args, current_user.threshold)
    return {
        "image": image,
        "threshold": threshold,
        "shown": [box for box in image.detections if box.score >= threshold],
        "others": [
            other for other in services().results.kept(image.id) if other.model != image.model
        ],
        "ready_models": services().models.ready(),
    }


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
    """The picture with the boxes at and above the threshold drawn in, as JPEG."""
    image = services().images.get_owned(current_user.id, image_id)
    threshold = threshold_of(request.args, current_user.threshold)
    _, found = _asked_result(image, threshold)  # before the next line, which ends the transaction
    data = services().images.read_original(image)
    return _download(image, annotated_jpeg(data, found), "jpg")


@bp.get("/images/<int:image_id>/boxes.json")
@login_required
def boxes(image_id: int) -> ResponseReturnValue:
    """Every box of a result as JSON; ``?threshold=0.5`` keeps those at and above it."""
    image = services().images.get_owned(current_user.id, image_id)
    threshold = threshold_of(request.args, 0.0)
    found = picture_json(image, *_asked_result(image, threshold), threshold)
    return _download(image, current_app.json.dumps(found, indent=2).encode(), "json")


def _asked_result(image: Image, threshold: float) -> tuple[Result | None, list[Box]]:
    """The result of ``?model=``, by default the present one, and its boxes.

    Raises:
        NotFound: that model has not looked at the picture.
    """
    model = request.args.get("model") or image.model
    if model is None:
        return None, []
    result = services().results.find(image.id, model)
    return result, boxes_of(services().results.boxes(image.id, model), threshold)


def _download(image: Image, data: bytes, extension: str) -> Response:
    name = f"{image.title.rsplit('.', 1)[0]}-boxes.{extension}"
    return send_file(io.BytesIO(data), as_attachment=True, download_name=name)


# -- models --------------------------------------------------------------------------------


@bp.get("/models")
def models() -> ResponseReturnValue:
    return render_template("detector/models.html", models=services().models.all())


@bp.get("/models/<name>")
def model(name: str) -> ResponseReturnValue:
    return render_template("detector/model.html", model=services().models.get(name))
