"""Clips: list, upload, page, files, downloads. Each view: form, service call, answer."""

import csv
import io
from collections.abc import Iterator

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user, login_required

from apps.container import services
from apps.errorpages import answer_error
from apps.errors import AppError
from apps.files import send_stored
from apps.i18n import error_text
from apps.models import Video
from apps.video.forms import ClipForm, LookForm, PlainForm
from apps.video.results import clip_json, frames_json, rows_of, status_json, status_text
from apps.vision.clips import ACCEPTED_CLIPS
from apps.web import row_ids, wants_json

bp = Blueprint("video", __name__, template_folder="templates")
bp.add_app_template_filter(status_text)
FRAMES_AT_ONCE = 2000  # in one answer to the page's script


@bp.get("")
@login_required
def index() -> ResponseReturnValue:
    return _list(ClipForm())


def _list(form: ClipForm, status: int = 200, error: str = "") -> ResponseReturnValue:
    page = render_template(
        "video/index.html",
        clips=services().videos.mine(current_user.id),
        form=form,
        error=error,
        ready_models=services().models.ready(),
        accepted=ACCEPTED_CLIPS,
    )
    return page, status


@bp.get("/status")
@login_required
def statuses() -> ResponseReturnValue:
    """How far the clips named by ``?id=…&id=…`` are: asked by the pages."""
    ids = row_ids(request.args.getlist("id")[:200])
    clips = services().videos.mine(current_user.id, ids)
    return jsonify(clips={str(clip.id): status_json(clip) for clip in clips})


@bp.post("/upload")
@login_required
def upload() -> ResponseReturnValue:
    form = ClipForm()
    if not form.validate():
        reason = str(next(iter(form.errors.values()))[0])
        code = "no_file" if "clip" in form.errors else "invalid"
        return answer_error(422, reason, code) if wants_json() else _list(form, 422)
    file = form.clip.data
    try:
        clip = services().videos.upload(
            current_user.id, file.filename, file.stream, form.every.data, form.model.data or None
        )
    except AppError as error:
        if wants_json():
            raise
        return _list(form, error.status, error_text(error))
    address = url_for("video.show", video_id=clip.id)
    return (jsonify(id=clip.id, url=address), 201) if wants_json() else redirect(address, 303)


# -- one clip ------------------------------------------------------------------------------


@bp.get("/<int:video_id>")
@login_required
def show(video_id: int) -> ResponseReturnValue:
    clip = services().videos.get_owned(current_user.id, video_id)
    return render_template(
        "video/show.html",
        clip=clip,
        form=LookForm(every=clip.every, model=clip.wanted_model),
        threshold=current_user.threshold,
        ready_models=services().models.ready(),
    )


@bp.get("/<int:video_id>/frames.json")
@login_required
def frames(video_id: int) -> ResponseReturnValue:
    """Frames after ``?after=``, a number, for the page's script; its status beside them."""
    clip = services().videos.get_owned(current_user.id, video_id)
    after = request.args.get("after", -1, type=int)
    found = services().videos.frames(clip.id, max(-1, min(after, 2**31 - 1)), FRAMES_AT_ONCE)
    return jsonify(frames_json(clip, found, more=len(found) == FRAMES_AT_ONCE))


@bp.post("/<int:video_id>/again")
@login_required
def again(video_id: int) -> ResponseReturnValue:
    services().videos.get_owned(current_user.id, video_id)  # another's clip: 404 before all else
    form = LookForm()
    if not form.validate():
        flash(str(next(iter(form.errors.values()))[0]), "error")
        return redirect(url_for("video.show", video_id=video_id), 303)
    services().videos.again(
        current_user.id, video_id, form.every.data or 1, form.model.data or None
    )
    return redirect(url_for("video.show", video_id=video_id), 303)


@bp.post("/<int:video_id>/cancel")
@login_required
def cancel(video_id: int) -> ResponseReturnValue:
    if not services().videos.cancel(current_user.id, video_id):
        flash(gettext("The clip had been looked at to its end already."), "info")
    if request.args.get("next") == "list":
        return redirect(url_for("video.index"), 303)
    return redirect(url_for("video.show", video_id=video_id), 303)


@bp.route("/<int:video_id>/delete", methods=["GET", "POST"])
@login_required
def delete(video_id: int) -> ResponseReturnValue:
    clip = services().videos.get_owned(current_user.id, video_id)
    form = PlainForm()
    if not form.validate_on_submit():
        return render_template("video/delete.html", clip=clip, form=form)
    title = clip.title
    services().videos.delete_owned(current_user.id, video_id)
    flash(gettext("“%(title)s” is deleted.", title=title), "success")
    return redirect(url_for("video.index"), 303)


# -- files ---------------------------------------------------------------------------------


@bp.get("/<int:video_id>/file")
@login_required
def file(video_id: int) -> ResponseReturnValue:
    """The untouched clip: to be played, or with ``?save=1`` to be saved."""
    clip = services().videos.get_owned(current_user.id, video_id)
    return send_stored(services().videos.open_file(clip, save="save" in request.args))


@bp.get("/<int:video_id>/poster.jpg")
@login_required
def poster(video_id: int) -> ResponseReturnValue:
    clip = services().videos.get_owned(current_user.id, video_id)
    return send_stored(services().videos.open_poster(clip))


@bp.get("/<int:video_id>/frame/<int:number>.jpg")
@login_required
def frame(video_id: int, number: int) -> ResponseReturnValue:
    """A frame that was looked at, for browsers that cannot play the clip."""
    clip = services().videos.get_owned(current_user.id, video_id)
    response = make_response(services().videos.frame_picture(clip, number))
    response.mimetype = "image/jpeg"
    response.headers["Cache-Control"] = "private, max-age=3600"  # the clip never changes
    return response


@bp.get("/<int:video_id>/boxes.json")
@login_required
def boxes_json(video_id: int) -> ResponseReturnValue:
    """Every box of every frame; ``?threshold=0.5`` keeps those at and above it."""
    clip = services().videos.get_owned(current_user.id, video_id)
    found = clip_json(clip, services().videos.frames(clip.id), _threshold())
    data = current_app.json.dumps(found, indent=1)
    return _download(clip, "json", "application/json", iter([data]))


@bp.get("/<int:video_id>/boxes.csv")
@login_required
def boxes_csv(video_id: int) -> ResponseReturnValue:
    """The same as a table: frame, time, label, score, x1, y1, x2, y2."""
    clip = services().videos.get_owned(current_user.id, video_id)
    rows = rows_of(services().videos.frames(clip.id), _threshold())
    return _download(clip, "csv", "text/csv", _csv(rows))


def _threshold() -> float:
    asked = request.args.get("threshold", 0.0, type=float)
    return asked if 0 <= asked <= 1 else 0.0


def _csv(rows: Iterator[tuple[object, ...]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _download(clip: Video, extension: str, media_type: str, parts: Iterator[str]) -> Response:
    response = Response("".join(parts), mimetype=media_type)
    name = f"{clip.title.rsplit('.', 1)[0]}-boxes.{extension}"
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


@bp.app_template_filter()
def clock(milliseconds: int | None) -> str:
    """1:02.5, for people; hours are told as minutes."""
    minutes, rest = divmod(milliseconds or 0, 60_000)
    return f"{minutes}:{rest / 1000:04.1f}"
