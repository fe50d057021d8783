"""``/healthz``: the process answers. ``/readyz``: it can do its work. ``/metrics``: how it does."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from apps.extensions import limiter
from apps.ops import metrics, readiness

bp = Blueprint("ops", __name__)
limiter.exempt(bp)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    checks = readiness.checks()
    ready = all(checks.values())
    return jsonify(status="ok" if ready else "unavailable", checks=checks), 200 if ready else 503


@bp.get("/metrics")
def scrape() -> ResponseReturnValue:
    return metrics.answer()
