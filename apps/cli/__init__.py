"""Commands: ``flask users …``, ``flask detect …``."""

from flask import Flask

from apps.cli.detect import detect
from apps.cli.users import users

__all__ = ["detect", "init_app", "users"]


def init_app(app: Flask) -> None:
    """Add our commands to ``flask``."""
    app.cli.add_command(users)
    app.cli.add_command(detect)
