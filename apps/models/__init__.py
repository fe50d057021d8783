"""Facts kept in the database."""

from apps.models.image import SETTLED, Detection, Image, ImageStatus, Result
from apps.models.setting import DETECTOR, Setting
from apps.models.tag import MAX_TAG_LENGTH, ImageTag, Tag, TagSource
from apps.models.types import fold, utcnow
from apps.models.user import Role, User, new_session_key
from apps.models.worker import Worker

__all__ = [
    "DETECTOR",
    "MAX_TAG_LENGTH",
    "SETTLED",
    "Detection",
    "Image",
    "ImageStatus",
    "ImageTag",
    "Result",
    "Role",
    "Setting",
    "Tag",
    "TagSource",
    "User",
    "Worker",
    "fold",
    "new_session_key",
    "utcnow",
]
