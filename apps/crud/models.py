"""Name of the original course application, kept importable."""

from apps.models import User

__all__ = ["User"]
