"""What is asked of a network: a picture, and how it shall be read."""

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import BooleanField, Field, FloatField, IntegerField, SelectChoice, SelectField
from wtforms.validators import NumberRange, Optional, ValidationError

from apps.services.classifications import MARGIN
from apps.web import MAX_ID

TOP = 5
MOST = 100  # classes in one answer
INVERT = {"auto": None, "yes": True, "no": False}
NO_NUMBER = _l("This is not the number of a picture or a box.")
_ID = (Optional(), NumberRange(1, MAX_ID, NO_NUMBER))


class ClassifyForm(FlaskForm):
    """A file, or the numbers of a stored picture and of one box in it; a file wins."""

    image_id = IntegerField(validators=_ID)
    box_id = IntegerField(validators=_ID)
    margin = FloatField(
        _l("Around the box"),
        default=MARGIN,
        validators=[Optional(), NumberRange(0, 1, _l("The margin is a number from 0 to 1."))],
    )
    top = IntegerField(
        default=TOP,
        validators=[
            Optional(),
            NumberRange(1, MOST, _l("Between 1 and %(most)s classes are shown.", most=MOST)),
        ],
    )
    invert = SelectField(
        _l("Swap light and dark"),
        default="auto",
        choices=[
            SelectChoice("auto", _l("when the ground is light")),
            SelectChoice("yes", _l("always")),
            SelectChoice("no", _l("never")),
        ],
    )
    explain = BooleanField(
        _l("Show why: heat map and feature maps"), false_values=("", "false", "no", "0")
    )
    image = FileField(_l("Picture"), render_kw={"accept": "image/*,.heic,.heif,.avif,.tif,.tiff"})

    def validate_box_id(self, field: Field) -> None:
        """A box is found by its picture."""
        if field.data is not None and not self.image_id.raw_data:
            raise ValidationError(gettext("Say in which picture this box is."))

    def validate_image(self, field: Field) -> None:
        """One of the two ways to give a picture was used."""
        if not field.data and not any(self.image_id.raw_data or ()):
            raise ValidationError(gettext("Choose a picture first."))

    @property
    def inverted(self) -> bool | None:
        """As Classifier.classify takes it."""
        return INVERT[self.invert.data]

    @property
    def first_error(self) -> str:
        """One text to show where there is room for one; the last of a field is the plainest."""
        return str(next((errors[-1] for errors in self.errors.values() if errors), ""))
