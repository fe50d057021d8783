"""Commands: ``flask users …``, ``detect``, ``models``, ``storage``, ``train``, ``trash`` …"""

from flask import Flask

from apps.cli.backup import backup, restore
from apps.cli.detect import detect
from apps.cli.models import models
from apps.cli.storage import storage
from apps.cli.train import train
from apps.cli.train_detector import detector, evaluate
from apps.cli.trash import trash
from apps.cli.users import users
from apps.cli.workers import workers

__all__ = [
    "backup",
    "detect",
    "init_app",
    "models",
    "restore",
    "storage",
    "train",
    "trash",
    "users",
    "workers",
]


def init_app(app: Flask) -> None:
    """Add our commands to ``flask``."""
    app.cli.add_command(users)
    app.cli.add_command(detect)
    app.cli.add_command(models)
    app.cli.add_command(workers)
    app.cli.add_command(storage)
    app.cli.add_command(trash)
    app.cli.add_command(backup)
    app.cli.add_command(restore)
    train.add_command(detector)
    train.add_command(evaluate)
    app.cli.add_command(train)
