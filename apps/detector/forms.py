"""Forms of the gallery and the picture page."""

from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileRequired, MultipleFileField
from wtforms import StringField, SubmitField
from wtforms.validators import InputRequired

from apps.models import MAX_TAG_LENGTH

ACCEPT = "image/*,.heic,.heif,.avif,.tif,.tiff,.zip"


class UploadForm(FlaskForm):
    """One or many files, also ZIP files; what they are is decided by their bytes, not here."""

    image = MultipleFileField(
        _l("Pictures"),
        validators=[FileRequired(_l("Choose at least one picture."))],
        render_kw={"accept": ACCEPT, "multiple": True},
    )
    submit = SubmitField(_l("Upload"))


class TagForm(FlaskForm):
    name = StringField(
        _l("New tag"),
        validators=[InputRequired(_l("Write a tag first."))],
        render_kw={"maxlength": MAX_TAG_LENGTH, "autocomplete": "off", "list": "known-tags"},
    )
    submit = SubmitField(_l("Add"))


class PlainForm(FlaskForm):
    """A button that changes something: nothing but the CSRF token."""
