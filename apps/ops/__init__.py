"""For those who run it: whether it works, and how."""

from flask import Flask

from apps.ops import metrics, readiness


def init_app(app: Flask) -> None:
    """Prepare what the addresses of this blueprint ask."""
    metrics.init_app(app)
    readiness.init_app(app)
