"""What is done with several pictures of the gallery at once: ``id=…&id=…``, then back to it."""

from collections.abc import Callable

from flask import Response, flash, redirect, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.detector.exporting import share_of
from apps.detector.trash import tell_deleted
from apps.errors import AppError
from apps.extensions import writing
from apps.i18n import error_text
from apps.services.export_pictures import BOTH
from apps.services.exports import MAX_PICTURES, Wanted
from apps.services.requests import Queued
from apps.services.selections import Changed
from apps.web import row_ids, safe_next


@bp.post("/images/detect")
@login_required
def detect_many() -> ResponseReturnValue:
    model = request.form.get("model") or None
    ids = _ids()
    if ids:
        _tell(services().requests.again_many(ids, current_user.id, model))
    return _back()


@bp.post("/images/tags")
@login_required
def tag_many() -> ResponseReturnValue:
    """Add a tag; with ``action=remove`` take it off."""
    text = request.form.get("name", "")
    work = services().selections
    if request.form.get("action") == "remove":
        _do(
            lambda ids: work.remove_tag(current_user.id, ids, text),
            lambda n: ngettext(
                "The tag was taken off %(num)s picture.",
                "The tag was taken off %(num)s pictures.",
                n,
            ),
            lambda n: ngettext(
                "%(num)s picture does not have the tag.",
                "%(num)s pictures do not have the tag.",
                n,
            ),
        )
        return _back()
    _do(
        lambda ids: work.add_tag(current_user.id, ids, text),
        lambda n: ngettext(
            "The tag was added to %(num)s picture.", "The tag was added to %(num)s pictures.", n
        ),
        lambda n: ngettext(
            "%(num)s picture has the tag already.", "%(num)s pictures have the tag already.", n
        ),
    )
    return _back()


@bp.post("/images/review")
@login_required
def review_many() -> ResponseReturnValue:
    """Mark as reviewed; with ``reviewed=no`` as not reviewed."""
    yes = request.form.get("reviewed") != "no"
    _do(
        lambda ids: services().selections.review(current_user.id, ids, yes=yes),
        lambda n: (
            ngettext(
                "%(num)s picture is marked as reviewed.",
                "%(num)s pictures are marked as reviewed.",
                n,
            )
            if yes
            else ngettext(
                "%(num)s picture is no longer marked as reviewed.",
                "%(num)s pictures are no longer marked as reviewed.",
                n,
            )
        ),
        lambda n: ngettext(
            "%(num)s picture was so already.", "%(num)s pictures were so already.", n
        ),
    )
    return _back()


@bp.post("/images/export")
@login_required
def export_many() -> ResponseReturnValue:
    """A ZIP of the pictures' boxes in the format ``format``, with ``pictures=1`` of both.

    ``threshold`` is the lowest score of a model's box in percent, by default the account's. Of more
    than MAX_PICTURES it is made in the background.
    """
    ids = _ids()
    if not ids:
        return _back()
    try:
        wanted = Wanted(
            request.form.get("format", "coco"),
            request.form.get("boxes", BOTH),
            share_of(request.form.get("threshold", "")),
            request.form.get("pictures") == "1",
            tuple(ids),
        )
        if len(ids) > MAX_PICTURES:
            with writing():
                services().exports.create(current_user.id, wanted)
            return redirect(url_for("detector.exports"), 303)
        made = services().exports.export(current_user.id, wanted)
    except AppError as error:
        flash(error_text(error), "error")
        return _back()
    answer = Response(stream_with_context(made.blocks), mimetype="application/zip")
    answer.headers.set("Content-Disposition", "attachment", filename=made.name)
    answer.content_length = made.size
    return answer


@bp.post("/images/trash")
@login_required
def trash_many() -> ResponseReturnValue:
    ids = _ids()
    if ids:
        moved = services().trash.move(current_user.id, ids)
        tell_deleted(moved)
        _tell_missing(moved.missing)
    return _back()


def _ids() -> list[int]:
    """The chosen pictures; says so if there are none."""
    ids = row_ids(request.form.getlist("id"))
    if not ids:
        flash(gettext("Select some pictures first."), "error")
    return ids


def _back() -> ResponseReturnValue:
    return redirect(safe_next(request.form.get("next")) or url_for("detector.index"), 303)


def _do(
    work: Callable[[list[int]], Changed], done: Callable[[int], str], same: Callable[[int], str]
) -> None:
    """Change the chosen pictures; one message for each kind of outcome, or why it failed."""
    ids = _ids()
    if not ids:
        return
    try:
        changed = work(ids)
    except AppError as error:
        flash(error_text(error), "error")
        return
    if changed.done:
        flash(done(changed.done), "success")
    if changed.same:
        flash(same(changed.same), "warning")
    _tell_missing(changed.missing)


def _tell(done: Queued) -> None:
    """One message for each kind of outcome that there was."""
    if done.queued:
        text = ngettext(
            "%(num)s picture is queued for detection.",
            "%(num)s pictures are queued for detection.",
            done.queued,
        )
        flash(text, "success")
    if done.waiting:
        text = ngettext(
            "%(num)s picture was left alone, because it is waiting already.",
            "%(num)s pictures were left alone, because they are waiting already.",
            done.waiting,
        )
        flash(text, "warning")
    _tell_missing(done.missing)


def _tell_missing(missing: int) -> None:
    if missing:
        text = ngettext(
            "%(num)s picture is no longer there.",
            "%(num)s pictures are no longer there.",
            missing,
        )
        flash(text, "warning")
