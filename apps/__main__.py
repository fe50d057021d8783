"""``python -m apps``: check the settings and bring the database up to date.

``python -m apps --check`` changes nothing: it says whether the database is up to date.
"""

import logging
import os
import sys

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dotenv import load_dotenv
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy.exc import SQLAlchemyError

from apps.app import create_app
from apps.config import ROOT
from apps.errors import ConfigError
from apps.extensions import db


def main(*arguments: str) -> int:
    """Exit status 0 when the application can start; 2 with the reason when it cannot."""
    os.umask(0o077)  # the database is nobody else's
    load_dotenv(ROOT / ".env")
    try:
        app = create_app(os.environ.get("SIGHTBOX_CONFIG", "local"))
        with app.app_context():
            if arguments == ("--check",):
                _require_up_to_date(app)
            else:
                logging.getLogger("alembic").setLevel(logging.WARNING)
                upgrade()
    except ConfigError as error:
        sys.stderr.write(f"Sightbox does not start: {error}\n")
        return 2
    return 0


def _require_up_to_date(app: Flask) -> None:
    """Whether every migration that this version knows was applied; a newer database is fine.

    Raises:
        ConfigError: it was not, or the database does not answer.
    """
    scripts = ScriptDirectory.from_config(app.extensions["migrate"].migrate.get_config())
    try:
        with db.engine.connect() as connection:
            current = set(MigrationContext.configure(connection).get_current_heads())
    except SQLAlchemyError as error:
        raise ConfigError(f"The database does not answer: {error}") from error
    older = {script.revision for script in scripts.walk_revisions()} - set(scripts.get_heads())
    if not current or current & older:
        raise ConfigError(
            "The database is not up to date. Run this once, on one machine: python -m apps"
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
