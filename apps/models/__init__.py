"""Facts kept in the database."""

from apps.models import triggers  # what create_all makes beside the tables
from apps.models.annotation import MAX_LABEL_LENGTH, STANDS, Annotation, Verdict
from apps.models.counts import PictureCount, TagCount
from apps.models.export import Export, ExportStatus
from apps.models.filter import SavedFilter
from apps.models.image import NOT_DONE, SETTLED, UNSAID, Detection, Image, ImageStatus, Result
from apps.models.import_ import OPEN, Import, ImportedPicture, ImportStatus
from apps.models.labelstudio import LabelStudio
from apps.models.setting import DETECTOR, Setting
from apps.models.tag import MAX_TAG_LENGTH, VISIBLE, ImageTag, Tag, TagSource
from apps.models.token import CALL_TEXT, FOR_A_TEST, TEST_START, ClientCall, KeptAnswer, Token
from apps.models.trash import TrashedImage
from apps.models.types import fold, utcnow
from apps.models.user import Role, User, new_session_key
from apps.models.video import Video, VideoFrame, VideoStatus
from apps.models.webhook import (
    ANSWER_TEXT,
    URL_LENGTH,
    Delivery,
    DeliveryStatus,
    OffReason,
    Webhook,
)
from apps.models.worker import Worker

__all__ = [
    "ANSWER_TEXT",
    "CALL_TEXT",
    "DETECTOR",
    "FOR_A_TEST",
    "MAX_LABEL_LENGTH",
    "MAX_TAG_LENGTH",
    "NOT_DONE",
    "OPEN",
    "SETTLED",
    "STANDS",
    "TEST_START",
    "UNSAID",
    "URL_LENGTH",
    "VISIBLE",
    "Annotation",
    "ClientCall",
    "Delivery",
    "DeliveryStatus",
    "Detection",
    "Export",
    "ExportStatus",
    "Image",
    "ImageStatus",
    "ImageTag",
    "Import",
    "ImportStatus",
    "ImportedPicture",
    "KeptAnswer",
    "LabelStudio",
    "OffReason",
    "PictureCount",
    "Result",
    "Role",
    "SavedFilter",
    "Setting",
    "Tag",
    "TagCount",
    "TagSource",
    "Token",
    "TrashedImage",
    "User",
    "Verdict",
    "Video",
    "VideoFrame",
    "VideoStatus",
    "Webhook",
    "Worker",
    "fold",
    "new_session_key",
    "triggers",
    "utcnow",
]
