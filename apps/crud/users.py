"""Accounts."""

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_user

from apps.container import services
from apps.crud.blueprint import bp
from apps.crud.forms import EditUserForm, UserForm, accepted, status_of
from apps.crud.listing import Listing, chosen_ids, read_listing
from apps.errors import Conflict
from apps.i18n import error_text
from apps.models import Role
from apps.web import paginate

COLUMNS = ("username", "email", "pictures", "created")
STATES = ("active", "disabled")


def _listing() -> Listing:
    roles = [role.value for role in Role]
    return read_listing("crud.users", COLUMNS, "-created", role=roles, state=STATES)


@bp.get("/users")
def users() -> ResponseReturnValue:
    listing = _listing()
    query = services().accounts.all_query(listing.search, listing.sort, **listing.filters)
    page = paginate(query, current_app.config["ADMIN_PAGE_SIZE"])
    return render_template("crud/users.html", page=page, listing=listing)


@bp.route("/users/new", methods=["GET", "POST"])
def user_new() -> ResponseReturnValue:
    form = UserForm()
    if accepted(form, lambda: _create(form)):
        flash(gettext("%(name)s can log in now.", name=form.username.data), "success")
        return redirect(url_for("crud.users"), 303)
    return render_template("crud/user.html", form=form, user=None), status_of(form)


def _create(form: UserForm) -> None:
    services().accounts.create(password=form.password.data, **form.changes)


@bp.route("/users/<int:user_id>", methods=["GET", "POST"])
def user_edit(user_id: int) -> ResponseReturnValue:
    user = services().accounts.get(user_id)
    form = EditUserForm(user)
    if accepted(form, lambda: _save(user_id, form)):
        flash(gettext("Saved."), "success")
        still = current_user.is_admin  # one's own role may have changed
        return redirect(url_for("crud.users" if still else "detector.index"), 303)
    totals = services().images.totals(user_id)
    page = render_template("crud/user.html", form=form, user=user, totals=totals)
    return page, status_of(form)


def _save(user_id: int, form: EditUserForm) -> None:
    services().accounts.update(user_id, **form.changes)
    if form.password.data:
        services().accounts.set_password(user_id, form.password.data)
        if user_id == current_user.id:
            login_user(current_user._get_current_object())  # the session in use goes on


@bp.route("/users/<int:user_id>/delete", methods=["GET", "POST"])
def user_delete(user_id: int) -> ResponseReturnValue:
    services().accounts.get(user_id)
    return _delete([user_id], confirmed=request.method == "POST")


@bp.post("/users/delete")
def users_delete() -> ResponseReturnValue:
    return _delete(chosen_ids(), confirmed="confirmed" in request.form)


def _delete(ids: list[int], *, confirmed: bool) -> ResponseReturnValue:
    """Ask, then delete; both the one and the many."""
    rows = services().accounts.several(ids)
    back = _listing().address()
    if not rows:
        flash(gettext("Tick the accounts to delete first. Gone ones cannot be chosen."), "error")
        return redirect(back, 303)
    own = current_user.id in ids
    refusal = ""
    if confirmed and not own:
        try:
            count = services().accounts.delete(ids)
            flash(
                ngettext("%(num)s account deleted.", "%(num)s accounts deleted.", count), "success"
            )
            return redirect(back, 303)
        except Conflict as error:
            refusal = error_text(error)
    holdings = services().accounts.holdings(*ids)
    page = render_template(
        "crud/users_delete.html", rows=rows, holdings=holdings, own=own, refusal=refusal, back=back
    )
    return page, 409 if (own or refusal) and request.method == "POST" else 200
