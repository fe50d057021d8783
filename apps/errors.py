"""Errors a user may read, each with the HTTP status that it answers.

``message`` is an English message id with ``%(name)s`` placeholders, marked with :func:`N_` so that
the translation tools find it; it is translated where it is shown, never where it is raised.

    AppError
    |- ConfigError           the application must not start
    |- Unauthorized          401: a program without a token that is good
    |- NotFound              404
    |- Forbidden             403
    |- Conflict              409
    |- Mismatch              412: If-Match names another version than the present one
    |- Unconditional         428: a change without the version that it is made for
    |- InvalidInput          422
    |  |- InvalidImage       a file that is not an acceptable picture
    |  |  |- TooLargeImage   413: as TooLarge, of a picture
    |  |  |- DuplicateImage  the account has the same bytes already
    |  |- InvalidWeights     a file that no network can be loaded from
    |- TooLarge              413
    |- UnsupportedBody       415
    |- TooMany               429
    |- Unavailable           503: something outside does not answer
    |- Busy                  503: too much is waiting already
    |  |- OutOfMemory        too little memory for one picture, for now or for ever
    |- DeviceLost            503: the GPU stopped working
    |- DetectionError        the reason a picture's detection failed for good
       |- WeightsError       weights missing, changed or not plain tensors
"""


def N_(text: str) -> str:  # noqa: N802 (the usual name for this)
    """Mark ``text`` for translation without translating it yet."""
    return text


class AppError(Exception):
    """Base of every error with a text for users."""

    status = 400
    code = "error"  # stable word for programs, where the text is for people

    def __init__(self, message: str, **params: object) -> None:
        self.message = message
        self.params = params
        super().__init__(message % params if params else message)


class ConfigError(AppError):
    """The application refuses to start; the text says what to set."""

    status = 500
    code = "config"


class Unauthorized(AppError):
    """A program has shown no token, or none that is good."""

    status = 401
    code = "token"

    def __init__(
        self,
        message: str,
        owner_id: int | None = None,
        prefix: str = "",
        *,
        damaged: bool = False,
    ) -> None:
        super().__init__(message)
        self.owner_id = owner_id  # whose token it was
        self.prefix = prefix
        self.damaged = damaged  # only its visible start is that of a token, which anybody may know


class NotFound(AppError):
    status = 404
    code = "not_found"


class Forbidden(AppError):
    status = 403
    code = "forbidden"


class Conflict(AppError):
    status = 409
    code = "conflict"


class Mismatch(AppError):
    status = 412
    code = "changed_meanwhile"


class Unconditional(AppError):
    status = 428
    code = "if_match_missing"


class InvalidInput(AppError):
    status = 422
    code = "invalid"


class InvalidImage(InvalidInput):
    """One file of an upload was refused; ``code`` says which rule it broke."""

    def __init__(self, code: str, message: str, **params: object) -> None:
        super().__init__(message, **params)
        self.code = code


class TooLargeImage(InvalidImage):
    """A file with more bytes than one may have, in a body that is small enough."""

    status = 413

    def __init__(self, message: str, **params: object) -> None:
        super().__init__("too_large", message, **params)


class DuplicateImage(InvalidImage):
    """The account has this picture already: ``image_id``, unless it went this very moment."""

    def __init__(self, image_id: int | None, message: str, **params: object) -> None:
        super().__init__("duplicate", message, **params)
        self.image_id = image_id


class InvalidWeights(InvalidInput):
    """What was given as weights can never be used, whatever is said about it."""

    code = "weights_file"


class TooLarge(AppError):
    status = 413
    code = "too_large"


class UnsupportedBody(AppError):
    status = 415
    code = "unsupported"


class TooMany(AppError):
    """More requests than a token may send."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class Unavailable(AppError):
    """Something outside does not answer; the same request may work in a moment."""

    status = 503
    code = "unavailable"


class Busy(AppError):
    status = 503
    code = "busy"
    retry_after = 5  # seconds


class OutOfMemory(Busy):
    """One picture does not fit into the memory of the device at present."""


class DetectionError(AppError):
    """Trying again cannot help: the picture is marked failed with this text."""

    status = 500
    code = "detection"


class WeightsError(DetectionError):
    code = "weights"


class DeviceLost(AppError):
    status = 503
    code = "device_lost"
