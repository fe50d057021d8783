"""Logs for administrators: ``event key=value``, ids and no bodies, one stream."""

import logging
import sys

from flask import Flask

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def init_app(app: Flask) -> None:
    """Send what ``apps`` logs to standard error, at ``LOG_LEVEL`` and above."""
    logger = logging.getLogger("apps")
    logger.setLevel(app.config["LOG_LEVEL"])
    if not logger.handlers and not app.testing:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
        logger.propagate = False
