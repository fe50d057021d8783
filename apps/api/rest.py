"""The REST interface below ``/api/v1``: which operations there are, and their reference."""

from flask import Flask, Response, current_app, jsonify
from flask.typing import ResponseReturnValue

from apps.api import (
    accounts,
    boxes,
    catalogue,
    clips,
    detections,
    exports,
    images,
    imports,
    instant,
    jobs,
    webhooks,
)
from apps.api.spec import new_api
from apps.extensions import csrf

PREFIX = "/api/v1"
_DOCUMENT = "sightbox.openapi"


def init_app(app: Flask) -> None:
    """Register every operation and the document that describes them."""
    api = new_api()
    api.init_app(app)
    scheme = {"type": "http", "scheme": "bearer", "description": "A token of the account page."}
    api.spec.components.security_scheme("token", scheme)
    pictures = (images, detections, boxes, clips, exports, imports)
    for module in (*pictures, instant, jobs, catalogue, webhooks, accounts):
        csrf.exempt(module.bp)
        api.register_blueprint(module.bp, url_prefix=PREFIX)
    app.extensions[_DOCUMENT] = api.spec.to_dict()
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", openapi)


def openapi() -> ResponseReturnValue:
    """The OpenAPI document, for people who are not logged in too."""
    response: Response = jsonify(current_app.extensions[_DOCUMENT])
    return response
