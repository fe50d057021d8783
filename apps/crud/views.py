"""Administration of users, images, tags and models: importing them registers their pages."""

from apps.crud import images, models_page, own_models, tags, users
from apps.crud.blueprint import bp

__all__ = ["bp", "images", "models_page", "own_models", "tags", "users"]
