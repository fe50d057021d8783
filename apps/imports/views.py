"""Imports: list, upload, preview and choice, cancel, undo."""

from flask import Blueprint, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from flask_login import current_user, login_required
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired

from apps.container import services
from apps.errorpages import answer_error
from apps.errors import AppError
from apps.i18n import error_text
from apps.imports.texts import failure_text, kind_text, problem_text, status_json, status_text
from apps.models import Import
from apps.services.import_planned import NATIVE
from apps.services.imports import MAX_TAGS, Choices
from apps.web import row_ids, wants_json

bp = Blueprint("imports", __name__, template_folder="templates")
bp.add_app_template_filter(status_text, "import_text")
bp.add_app_template_filter(failure_text, "import_failure")
bp.add_app_template_filter(problem_text)
bp.add_app_template_filter(kind_text)


class ArchiveForm(FlaskForm):
    """One archive; what it is is decided by its bytes."""

    archive = FileField(validators=[FileRequired()], render_kw={"accept": ".zip,application/zip"})


@bp.get("")
@login_required
def index() -> ResponseReturnValue:
    return _list()


def _list(error: str = "", status: int = 200) -> ResponseReturnValue:
    rows = services().imports.mine(current_user.id)
    page = render_template("imports/index.html", imports=rows, form=ArchiveForm(), error=error)
    return page, status


@bp.post("/upload")
@login_required
def upload() -> ResponseReturnValue:
    form = ArchiveForm()
    if not form.validate():
        reason = gettext("Choose a ZIP file.")
        return answer_error(422, reason, "no_file") if wants_json() else _list(reason, 422)
    file = form.archive.data
    try:
        row = services().imports.create(current_user.id, file.filename, file.stream)
    except AppError as error:
        if wants_json():
            raise
        return _list(error_text(error), error.status)
    address = url_for("imports.show", import_id=row.id)
    return (jsonify(id=row.id, url=address), 201) if wants_json() else redirect(address, 303)


@bp.get("/status")
@login_required
def statuses() -> ResponseReturnValue:
    """How far the imports named by ``?id=…&id=…`` are: asked by the pages."""
    ids = set(row_ids(request.args.getlist("id")[:200]))
    rows = [row for row in services().imports.mine(current_user.id) if row.id in ids]
    return jsonify(imports={str(row.id): status_json(row) for row in rows})


# -- one import ----------------------------------------------------------------------------


@bp.get("/<int:import_id>")
@login_required
def show(import_id: int) -> ResponseReturnValue:
    return _page(services().imports.get_owned(current_user.id, import_id))


def _page(row: Import, error: AppError | None = None) -> ResponseReturnValue:
    full = services().imports.refusal(row)
    page = render_template(
        "imports/show.html",
        row=row,
        report=row.report or {},
        native=NATIVE,
        remaining=services().imports.remaining(row.id),
        error=error_text(error) if error else "",
        full=error_text(full) if full else "",
        form=request.form,
    )
    return page, error.status if error else 200


@bp.post("/<int:import_id>/confirm")
@login_required
def confirm(import_id: int) -> ResponseReturnValue:
    """Per class, by its place in the preview: ``keep``, and what it ``becomes-…``."""
    row = services().imports.get_owned(current_user.id, import_id)
    try:
        services().imports.confirm(current_user.id, import_id, _choices(row))
    except AppError as error:
        return _page(services().imports.get_owned(current_user.id, import_id), error)
    return redirect(url_for("imports.show", import_id=import_id), 303)


def _choices(row: Import) -> Choices:
    form, report = request.form, row.report or {}
    kept = set(row_ids(form.getlist("keep")))
    classes = {
        each["name"]: form.get(f"becomes-{place}", each["becomes"]) if place in kept else None
        for place, each in enumerate(report.get("classes", ()))
        if report.get("kind") != NATIVE
    }
    tags = [tag for tag in form.get("tags", "").split(",") if tag.strip()]
    return Choices(classes, "reviewed" in form, tuple(tags[: MAX_TAGS + 1]), "detect" in form)


@bp.post("/<int:import_id>/cancel")
@login_required
def cancel(import_id: int) -> ResponseReturnValue:
    if not services().imports.cancel(current_user.id, import_id):
        flash(gettext("The import had ended already."), "info")
    return redirect(url_for("imports.show", import_id=import_id), 303)


@bp.post("/<int:import_id>/undo")
@login_required
def undo(import_id: int) -> ResponseReturnValue:
    moved = services().imports.undo(current_user.id, import_id)
    text = ngettext(
        "%(num)s picture is in the trash now.", "%(num)s pictures are in the trash now.", moved
    )
    flash(text, "success")
    return redirect(url_for("imports.show", import_id=import_id), 303)


@bp.post("/<int:import_id>/forget")
@login_required
def forget(import_id: int) -> ResponseReturnValue:
    services().imports.forget(current_user.id, import_id)
    flash(gettext("The import is off the list. Its pictures stay where they are."), "success")
    return redirect(url_for("imports.index"), 303)
