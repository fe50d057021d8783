"""What a web server imports: ``gunicorn apps.wsgi:app``."""

import os

from dotenv import load_dotenv

from apps.app import create_app
from apps.config import ROOT
from apps.container import services

load_dotenv(ROOT / ".env")
app = create_app(os.environ.get("SIGHTBOX_CONFIG", "local"))
services(app).queue.start()
