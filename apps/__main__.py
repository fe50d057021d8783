"""``python -m apps``: check the settings and bring the database up to date."""

import logging
import os
import sys

from dotenv import load_dotenv
from flask_migrate import upgrade

from apps.app import create_app
from apps.config import ROOT
from apps.errors import ConfigError


def main() -> int:
    """Exit status 0 when the application can start; 2 with the reason when it cannot."""
    os.umask(0o077)  # the database is nobody else's
    load_dotenv(ROOT / ".env")
    try:
        app = create_app(os.environ.get("SIGHTBOX_CONFIG", "local"))
    except ConfigError as error:
        sys.stderr.write(f"Sightbox does not start: {error}\n")
        return 2
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with app.app_context():
        upgrade()
    return 0


if __name__ == "__main__":
    sys.exit(main())
