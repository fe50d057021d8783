"""Commands: ``flask users …``, ``flask detect …``, ``flask models …``."""

from flask import Flask

from apps.cli.detect import detect
from apps.cli.models import models
from apps.cli.users import users

__all__ = ["detect", "init_app", "models", "users"]


def init_app(app: Flask) -> None:
    """Add our commands to ``flask``."""
    app.cli.add_command(users)
    app.cli.add_command(detect)
    app.cli.add_command(models)
