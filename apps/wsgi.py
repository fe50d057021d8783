"""What a web server imports: ``gunicorn apps.wsgi:app``."""

import os

from dotenv import load_dotenv

from apps.app import create_app
from apps.config import ROOT

os.umask(0o077)  # the database and the pictures are nobody else's
load_dotenv(ROOT / ".env")
app = create_app(os.environ.get("SIGHTBOX_CONFIG", "local"))
