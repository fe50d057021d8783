"""Administration, part by part: importing the modules registers their pages."""

from apps.crud import images, models_page, own_models, status, tags, users
from apps.crud.blueprint import bp

__all__ = ["bp", "images", "models_page", "own_models", "status", "tags", "users"]
