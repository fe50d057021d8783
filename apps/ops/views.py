"""``/healthz``: the process answers. ``/readyz``: it can do its work."""

import logging

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from apps.container import services
from apps.extensions import db, limiter

bp = Blueprint("ops", __name__)
limiter.exempt(bp)
logger = logging.getLogger(__name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    checks = {"database": _database(), "storage": _storage(), "weights": _weights()}
    ready = all(checks.values())
    return jsonify(status="ok" if ready else "unavailable", checks=checks), 200 if ready else 503


def _database() -> bool:
    try:
        db.session.execute(text("SELECT 1 FROM users LIMIT 1"))
    except SQLAlchemyError:
        logger.exception("database not ready")
        return False
    return True


def _storage() -> bool:
    try:
        services().storage.check()
    except OSError:
        logger.exception("storage not ready")
        return False
    return True


def _weights() -> bool:
    return services().models.embedded_ready()
