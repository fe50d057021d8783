"""Forms of the administrators' pages."""

from collections.abc import Callable, Sequence
from typing import Any

from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from wtforms import (
    BooleanField,
    EmailField,
    Field,
    HiddenField,
    IntegerField,
    PasswordField,
    SelectChoice,
    SelectField,
    StringField,
    SubmitField,
    TextAreaField,
    ValidationError,
)
from wtforms.validators import DataRequired, InputRequired, Length, NumberRange, Optional

from apps.container import services
from apps.errors import AppError, Conflict, InvalidInput
from apps.i18n import error_text
from apps.models import MAX_TAG_LENGTH, Role, User
from apps.services import accounts, labels, own_models, tags
from apps.vision.decode import safe_title
from apps.vision.zoo.architectures import BUILDERS, Origin
from apps.vision.zoo.cards import MAX_TEXT

ACCEPT = "image/*,.heic,.heif,.avif,.tif,.tiff"
MIB = 2**20
MAX_QUOTA = 10**9  # MB, a petabyte: more is a slip, and the column holds it in bytes
MAX_TITLE = 120


def accepted(form: FlaskForm, action: Callable[[], object], field: Field | None = None) -> bool:
    """Whether ``form`` was sent, is valid, and ``action`` did its work.

    A refusal of the service becomes an error of ``field``, by default of the form as a whole, so
    that nothing typed is lost.
    """
    if not form.validate_on_submit():
        return False
    try:
        action()
    except (Conflict, InvalidInput) as error:
        if field is None:
            form.form_errors.append(error_text(error))
        else:
            field.errors = [*field.errors, error_text(error)]
        form.refused = error.status
        return False
    return True


def status_of(form: FlaskForm) -> int:
    """Status of the page that shows ``form``: 200 until it was sent, then why it failed."""
    return getattr(form, "refused", 422) if form.is_submitted() else 200


def _clean(field: Field, rule: Callable[[Any], object]) -> Any:
    """What ``rule`` makes of the field's data; its refusal as the field's error."""
    try:
        return rule(field.data or "")
    except AppError as error:
        raise ValidationError(error_text(error)) from error


def _options(owners: Sequence[tuple[int, str]]) -> list[SelectChoice]:
    return [SelectChoice(str(owner_id), name) for owner_id, name in owners]


class UserForm(FlaskForm):
    """What an administrator decides about an account."""

    username = StringField(
        _l("User name"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "off", "maxlength": accounts.USERNAME_MAX},
    )
    email = EmailField(_l("Email"), validators=[InputRequired()], render_kw={"autocomplete": "off"})
    password = PasswordField(
        _l("Password"),
        validators=[InputRequired()],
        render_kw={"autocomplete": "new-password", "minlength": accounts.PASSWORD_MIN},
    )
    role = SelectField(
        _l("Role"),
        choices=[
            SelectChoice(Role.USER.value, _l("User")),
            SelectChoice(Role.ADMIN.value, _l("Administrator")),
        ],
        default=Role.USER.value,
    )
    active = BooleanField(_l("Active: may log in"), default=True)
    quota = IntegerField(
        _l("Space for pictures (MB)"),
        validators=[Optional(), NumberRange(0, MAX_QUOTA)],
        render_kw={"min": 0, "inputmode": "numeric"},
    )
    submit = SubmitField(_l("Save"))
    but: int | None = None  # whose own name and email are not taken

    def validate_username(self, field: Field) -> None:
        field.data = _clean(field, accounts.clean_username)
        _clean(field, lambda name: services().accounts.require_free(username=name, but=self.but))

    def validate_email(self, field: Field) -> None:
        field.data = _clean(field, accounts.clean_email)
        _clean(field, lambda email: services().accounts.require_free(email=email, but=self.but))

    def validate_password(self, field: Field) -> None:
        if field.data:
            _clean(field, lambda text: accounts.check_password(accounts.normalize_password(text)))

    @property
    def changes(self) -> dict[str, Any]:
        """Columns of the account, the password left out."""
        quota = self.quota.data
        return {
            "username": self.username.data,
            "email": self.email.data,
            "role": Role(self.role.data),
            "active": self.active.data,
            "quota_bytes": None if quota is None else quota * MIB,
        }


class EditUserForm(UserForm):
    password = PasswordField(
        _l("Set a new password"),
        validators=[Optional()],
        render_kw={"autocomplete": "new-password", "minlength": accounts.PASSWORD_MIN},
    )

    def __init__(self, user: User, **kwargs: Any) -> None:
        self.but = user.id
        quota = user.quota_bytes
        present = {
            "username": user.username,
            "email": user.email,
            "role": user.role.value,
            "active": user.active,
            "quota": None if quota is None else quota // MIB,
        }
        # Not obj=user: its password hash would then stand for a password field that was not sent.
        super().__init__(data=present, **kwargs)


class UploadForm(FlaskForm):
    """One picture for somebody; what it is is decided by its bytes, not here."""

    owner = SelectField(_l("Owner"), coerce=int)
    image = FileField(
        _l("Picture"),
        validators=[FileRequired(_l("Choose a picture."))],
        render_kw={"accept": ACCEPT},
    )
    submit = SubmitField(_l("Upload"))

    def __init__(self, owners: Sequence[tuple[int, str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.owner.choices = _options(owners)


class ImageForm(FlaskForm):
    title = StringField(
        _l("Title"),
        validators=[DataRequired(_l("Write a title.")), Length(max=MAX_TITLE)],
        render_kw={"maxlength": MAX_TITLE, "autocomplete": "off"},
    )
    owner = SelectField(_l("Owner"), coerce=int)
    submit = SubmitField(_l("Save"))

    def __init__(self, owners: Sequence[tuple[int, str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.owner.choices = _options(owners)


class TagForm(FlaskForm):
    name = StringField(
        _l("Tag"),
        validators=[InputRequired(_l("Write a tag first."))],
        render_kw={"maxlength": MAX_TAG_LENGTH, "autocomplete": "off"},
    )
    merge = HiddenField()  # sent by the button that answers the question
    submit = SubmitField(_l("Save"))

    def validate_name(self, field: Field) -> None:
        field.data = _clean(field, tags.clean_name)


class OwnModelForm(FlaskForm):
    """A file of weights and what it is. A file that arrived is kept while the rest is corrected."""

    file = FileField(_l("File of weights"), render_kw={"accept": ".safetensors,.pth,.pt,.bin"})
    kept = HiddenField()  # key of a file that arrived with an earlier try
    kept_name = HiddenField()
    name = StringField(
        _l("Name"),
        validators=[InputRequired(_l("Write a name."))],
        render_kw={"maxlength": 60, "autocomplete": "off", "autocapitalize": "none"},
    )
    architecture = SelectField(
        _l("Network"),
        choices=[SelectChoice(name, name) for name in BUILDERS],
        default="fasterrcnn_resnet50_fpn",
    )
    origin = SelectField(
        _l("Its training began with"),
        choices=[
            SelectChoice(Origin.COCO.value, _l("torchvision's COCO weights (usual)")),
            SelectChoice(
                Origin.BACKBONE.value, _l("a backbone trained on ImageNet, or random numbers")
            ),
        ],
        default=Origin.COCO.value,
    )
    from_zero = BooleanField(_l("Trained without a background: label numbers begin at 0"))
    classes = TextAreaField(
        _l("Classes, in the order of their label numbers"),
        validators=[InputRequired(_l("Write the classes, one a line."))],
        render_kw={"rows": 6, "autocomplete": "off", "spellcheck": "false"},
    )
    description = StringField(_l("What it is for (optional)"), render_kw={"maxlength": MAX_TEXT})
    licence = StringField(
        _l("Licence and source of the weights (optional)"),
        render_kw={"maxlength": MAX_TEXT},
    )
    submit = SubmitField(_l("Upload and check"))

    def validate_file(self, field: Field) -> None:
        """Put the file aside at once, whatever else is wrong with the form."""
        own = services().own_models
        if field.data:
            self.kept.data, self.kept_name.data = "", safe_title(field.data.filename)
            self.kept.data = _clean(field, lambda upload: own.keep(upload.stream))
        elif self.kept.data:
            key, self.kept.data = self.kept.data, ""
            _clean(field, lambda _: own.kept(key))
            self.kept.data = key
        else:
            raise ValidationError(_l("Choose a file."))

    def validate_name(self, field: Field) -> None:
        field.data = _clean(field, own_models.clean_name)
        _clean(field, services().own_models.require_free)

    def validate_classes(self, field: Field) -> None:
        _clean(field, labels.parse_classes)

    def validate_description(self, field: Field) -> None:
        _clean(field, own_models.clean_note)

    validate_licence = validate_description

    def model(self, by: str) -> own_models.NewModel:
        """Everything but the file, as said by the administrator called ``by``."""
        return own_models.NewModel(
            name=self.name.data,
            architecture=self.architecture.data,
            classes=self.classes.data,
            by=by,
            file_name=self.kept_name.data,
            origin=Origin(self.origin.data),
            background=not self.from_zero.data,
            description=self.description.data or "",
            licence=self.licence.data or "",
        )
