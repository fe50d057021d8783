"""Administration of users, images and tags: importing the three registers their pages."""

from apps.crud import images, tags, users
from apps.crud.blueprint import bp

__all__ = ["bp", "images", "tags", "users"]
