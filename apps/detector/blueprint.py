"""The blueprint, and what several of its templates need."""

from functools import lru_cache

from flask import Blueprint

from apps.container import services
from apps.i18n import stored_text
from apps.models import Image
from apps.vision.masks import outline, svg_path

bp = Blueprint("detector", __name__, template_folder="templates")


@bp.app_template_filter()
def model_title(name: str) -> str:
    """What people call the model, in the language of the page."""
    return stored_text(services().models.title(name))


@bp.app_template_test()
def known_model(name: str) -> bool:
    """Whether there is a page about the model called ``name``."""
    return services().models.registry.is_known(name)


@bp.app_template_filter()
def mask_path(mask: str, image: Image) -> str:
    """The outline of a mask, as the ``d`` of an SVG path in pixels of ``image``."""
    return _path(mask, (image.width, image.height))


@lru_cache(512)  # the editor asks again with every change that it saves
def _path(mask: str, size: tuple[int, int]) -> str:
    return svg_path(outline(mask, size))
