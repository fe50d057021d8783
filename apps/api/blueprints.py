"""What of this package is registered with an application, and how."""

from flask import Flask

from apps.api import (
    access,
    connect,
    deepstack,
    labelstudio,
    problems,
    rest,
    roboflow,
    selftest,
    tokens,
    webhook_pages,
)
from apps.errorpages import answer_below
from apps.extensions import csrf


def init_app(app: Flask) -> None:
    """Pages, the REST interface and the protocols; programs need no CSRF token, as no cookie
    lets them in."""
    app.register_blueprint(tokens.bp)
    app.register_blueprint(webhook_pages.bp)
    app.register_blueprint(connect.bp)
    app.register_blueprint(selftest.bp)
    csrf.exempt(deepstack.bp)
    app.register_blueprint(deepstack.bp)
    answer_below(app, "/v1/", deepstack.error)
    csrf.exempt(labelstudio.bp)
    app.register_blueprint(labelstudio.bp)
    answer_below(app, access.SECRET_PATH, labelstudio.error)
    csrf.exempt(roboflow.bp)
    app.register_blueprint(roboflow.bp)
    for prefix in roboflow.PREFIXES:
        answer_below(app, prefix, roboflow.error)
    answer_below(app, "/api/", problems.problem)
    rest.init_app(app)
    app.before_request(access.count_unknown)
    app.after_request(access.log_call)
    app.after_request(access.tell_rate)
