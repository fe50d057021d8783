"""The review inbox: which picture a person should look at next, and how far they are."""

from flask import current_app, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required

from apps.container import services
from apps.detector.blueprint import bp
from apps.services.reviews import COUNTED
from apps.web import paginate_pictures, row_ids

VERY, SOMEWHAT = 0.6, 0.3  # uncertainty from which the inbox uses these words


@bp.get("/review")
@login_required
def review() -> ResponseReturnValue:
    progress = services().reviews.progress(current_user.id)
    pictures = services().reviews.inbox(current_user.id, progress.waiting)
    return render_template(
        "detector/review.html",
        page=paginate_pictures(pictures, current_app.config["GALLERY_PAGE_SIZE"]),
        progress=progress,
        first=services().reviews.next_to_review(current_user.id),
    )


@bp.get("/review/next")
@login_required
def review_next() -> ResponseReturnValue:
    """Where to go on after the picture ``?after=``; null when nothing else waits."""
    after = row_ids([request.args.get("after", "")])
    following = services().reviews.next_to_review(current_user.id, after[0] if after else None)
    url = url_for("detector.show", image_id=following) if following is not None else None
    return jsonify(url=url)


@bp.app_template_global()
def waiting_for_review() -> int:
    """How many pictures of who is logged in wait; at most COUNTED."""
    return services().reviews.waiting(current_user.id)


@bp.app_template_global()
def review_text(count: int) -> str:
    """What the number in the navigation means."""
    text: str
    if count >= COUNTED:
        text = gettext("%(num)s pictures or more wait for review", num=COUNTED)
    else:
        text = ngettext(
            "%(num)s picture waits for review", "%(num)s pictures wait for review", count
        )
    return text


@bp.app_template_filter()
def sureness(uncertainty: float) -> str:
    """``very``, ``somewhat`` or ``hardly``: how unsure the model is."""
    if uncertainty >= VERY:
        return "very"
    return "somewhat" if uncertainty >= SOMEWHAT else "hardly"
