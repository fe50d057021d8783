"""Pictures of every account."""

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext

from apps.container import services
from apps.crud.blueprint import bp
from apps.crud.forms import ImageForm, UploadForm, accepted, status_of
from apps.crud.listing import Listing, chosen_ids, read_listing
from apps.files import send_stored
from apps.models import ImageStatus
from apps.web import paginate_pictures

COLUMNS = ("created", "title", "owner", "status", "bytes")
Owners = list[tuple[int, str]]


def _listing(owners: Owners) -> Listing:
    statuses = [status.value for status in ImageStatus]
    known = {str(owner_id) for owner_id, _ in owners}
    return read_listing("crud.images", COLUMNS, "-created", status=statuses, owner=known)


@bp.get("/images")
def images() -> ResponseReturnValue:
    owners = services().image_admin.owners()
    listing = _listing(owners)
    owner, status = listing.filters["owner"], listing.filters["status"]
    pictures = services().image_admin.all(
        listing.search, listing.sort, status, int(owner) if owner else None
    )
    page = paginate_pictures(pictures, current_app.config["ADMIN_PAGE_SIZE"])
    return render_template(
        "crud/images.html", page=page, listing=listing, owners=owners, statuses=list(ImageStatus)
    )


@bp.route("/images/new", methods=["GET", "POST"])
def image_new() -> ResponseReturnValue:
    owners = services().image_admin.owners()
    form = UploadForm(owners, data={"owner": request.args.get("owner", 0, type=int)})
    made: list[int] = []
    if accepted(form, lambda: made.append(_upload(form)), field=form.image):
        flash(gettext("Uploaded. Detection starts by itself."), "success")
        return redirect(url_for("crud.image_edit", image_id=made[0]), 303)
    return render_template("crud/image_new.html", form=form), status_of(form)


def _upload(form: UploadForm) -> int:
    file = form.image.data
    return services().uploads.upload(form.owner.data, file.filename, file.stream).id


@bp.route("/images/<int:image_id>", methods=["GET", "POST"])
def image_edit(image_id: int) -> ResponseReturnValue:
    image = services().images.get(image_id)
    owners = services().image_admin.owners()
    form = ImageForm(owners, data={"title": image.title, "owner": image.owner_id})
    if accepted(form, lambda: _save(image_id, form)):
        flash(gettext("Saved."), "success")
        return redirect(url_for("crud.image_edit", image_id=image_id), 303)
    results = services().results
    page = render_template(
        "crud/image.html",
        form=form,
        image=image,
        others=[other for other in results.kept(image_id) if other.model != image.model],
        box_counts=results.counts(image_id),
    )
    return page, status_of(form)


def _save(image_id: int, form: ImageForm) -> None:
    services().image_admin.update(image_id, title=form.title.data, owner_id=form.owner.data)


@bp.post("/images/<int:image_id>/detect")
def image_detect(image_id: int) -> ResponseReturnValue:
    services().requests.again(image_id)
    flash(gettext("The picture is queued for detection."), "success")
    return redirect(url_for("crud.image_edit", image_id=image_id), 303)


@bp.get("/images/<int:image_id>/<any(thumbnail, display):kind>")
def image_file(image_id: int, kind: str) -> ResponseReturnValue:
    """What the pages here show. Originals stay with their owners."""
    image = services().image_admin.find(image_id)
    name = image.thumbnail_name if kind == "thumbnail" else image.display_name
    return send_stored(services().images.open_file(name, owner_id=None))


@bp.route("/images/<int:image_id>/delete", methods=["GET", "POST"])
def image_delete(image_id: int) -> ResponseReturnValue:
    services().image_admin.find(image_id)
    return _delete([image_id], confirmed=request.method == "POST")


@bp.post("/images/delete")
def images_delete() -> ResponseReturnValue:
    return _delete(chosen_ids(), confirmed="confirmed" in request.form)


def _delete(ids: list[int], *, confirmed: bool) -> ResponseReturnValue:
    """Ask, then delete; both the one and the many."""
    chosen = services().image_admin.several(ids)
    back = _listing(services().image_admin.owners()).address()
    if not chosen:
        flash(gettext("Tick the pictures to delete first. Gone ones cannot be chosen."), "error")
        return redirect(back, 303)
    if confirmed:
        count = services().images.delete(ids)
        flash(ngettext("%(num)s picture deleted.", "%(num)s pictures deleted.", count), "success")
        return redirect(back, 303)
    holdings = services().image_admin.holdings(ids)
    return render_template("crud/images_delete.html", images=chosen, holdings=holdings, back=back)
