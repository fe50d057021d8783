"""The forms of clips."""

from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from wtforms import IntegerField, StringField, SubmitField
from wtforms.validators import InputRequired, NumberRange

from apps.services.videos import MAX_EVERY

ACCEPT = "video/mp4,video/webm,video/quicktime,video/*,.mkv,.avi,.mov,.mp4,.webm,.ts,.m4v"
EVERY = 5  # what the form begins with
RANGE = _l(
    "Choose a whole number from 1 to %(most)s: every how many frames to look.", most=MAX_EVERY
)


class WholeNumber(IntegerField):
    """Says of a text that is no number what it says of one that is out of range."""

    def process_formdata(self, valuelist: list[str]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError as error:
            raise ValueError(RANGE) from error


class LookForm(FlaskForm):
    """How a clip is looked at."""

    every = WholeNumber(
        _l("Look at every … frame"),
        default=EVERY,
        validators=[InputRequired(RANGE), NumberRange(1, MAX_EVERY, RANGE)],
        render_kw={"min": 1, "max": MAX_EVERY, "inputmode": "numeric"},
    )
    model = StringField()  # a name in the registry; empty: the default one


class ClipForm(LookForm):
    """One clip; what it is is decided by its bytes, not here."""

    clip = FileField(
        _l("Clip"),
        validators=[FileRequired(_l("Choose a clip."))],
        render_kw={"accept": ACCEPT},
    )
    submit = SubmitField(_l("Upload"))


class PlainForm(FlaskForm):
    """A button that changes something: nothing but the CSRF token."""
