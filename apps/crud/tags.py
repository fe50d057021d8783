"""The list of tags that all accounts share."""

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext

from apps.container import services
from apps.crud.blueprint import bp
from apps.crud.forms import TagForm, accepted, status_of
from apps.crud.listing import Listing, chosen_ids, read_listing
from apps.models import Tag
from apps.web import paginate

COLUMNS = ("name", "pictures", "created")


def _listing() -> Listing:
    return read_listing("crud.tags", COLUMNS, "name")


@bp.get("/tags")
def tags() -> ResponseReturnValue:
    listing = _listing()
    query = services().tags.all_query(listing.search, listing.sort)
    page = paginate(query, current_app.config["ADMIN_PAGE_SIZE"])
    return render_template("crud/tags.html", page=page, listing=listing)


@bp.route("/tags/new", methods=["GET", "POST"])
def tag_new() -> ResponseReturnValue:
    form = TagForm()
    if accepted(form, lambda: services().tags.create(form.name.data), field=form.name):
        flash(gettext("The tag “%(name)s” is on the list.", name=form.name.data), "success")
        return redirect(url_for("crud.tags"), 303)
    return render_template("crud/tag.html", form=form, tag=None), status_of(form)


@bp.route("/tags/<int:tag_id>", methods=["GET", "POST"])
def tag_edit(tag_id: int) -> ResponseReturnValue:
    tag = services().tags.get(tag_id)
    form = TagForm(data={"name": tag.name})
    if form.validate_on_submit():
        other = services().tags.find(form.name.data)
        merge = form.merge.data == "1"
        if other is not None and other.id != tag.id and not merge:
            return _merge_question(form, tag, other), 409
        services().tags.rename(tag_id, form.name.data, merge=merge)
        flash(gettext("Saved."), "success")
        return redirect(url_for("crud.tags"), 303)
    count = services().tags.picture_count(tag_id)
    return render_template("crud/tag.html", form=form, tag=tag, count=count), status_of(form)


def _merge_question(form: TagForm, tag: Tag, other: Tag) -> str:
    return render_template(
        "crud/tag.html",
        form=form,
        tag=tag,
        count=services().tags.picture_count(tag.id),
        other=other,
        other_count=services().tags.picture_count(other.id),
    )


@bp.route("/tags/<int:tag_id>/delete", methods=["GET", "POST"])
def tag_delete(tag_id: int) -> ResponseReturnValue:
    services().tags.get(tag_id)
    return _delete([tag_id], confirmed=request.method == "POST")


@bp.post("/tags/delete")
def tags_delete() -> ResponseReturnValue:
    return _delete(chosen_ids(), confirmed="confirmed" in request.form)


def _delete(ids: list[int], *, confirmed: bool) -> ResponseReturnValue:
    """Ask, then delete; both the one and the many."""
    rows = services().tags.several(ids)
    back = _listing().address()
    if not rows:
        flash(gettext("Tick the tags to delete first. Gone ones cannot be chosen."), "error")
        return redirect(back, 303)
    if confirmed:
        count = services().tags.delete(ids)
        flash(ngettext("%(num)s tag deleted.", "%(num)s tags deleted.", count), "success")
        return redirect(back, 303)
    return render_template("crud/tags_delete.html", rows=rows, back=back)
