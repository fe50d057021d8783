"""Administration, part by part: importing the modules registers their pages."""

from apps.crud import classifiers_page, images, models_page, own_models, status, tags, users
from apps.crud.blueprint import bp

__all__ = [
    "bp",
    "classifiers_page",
    "images",
    "models_page",
    "own_models",
    "status",
    "tags",
    "users",
]
