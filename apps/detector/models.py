"""Names of the original course application, kept importable."""

from apps.models import Image as UserImage
from apps.models import ImageTag as UserImageTag

__all__ = ["UserImage", "UserImageTag"]
