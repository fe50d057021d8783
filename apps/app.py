"""The application factory; reads as a table of contents."""

from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from apps import assets, cli, config, container, errorpages, i18n, logs, ops, web
from apps.api import blueprints as api
from apps.auth import security
from apps.extensions import bootstrap, csrf, db, limiter, mail, migrate


def create_app(config_key: str = "local", **overrides: Any) -> Flask:
    """Build one application.

    Args:
        config_key: ``local``, ``testing`` or ``production``.
        overrides: settings that win over class and environment; ``INSTANCE_PATH`` is the folder
            of local data.

    Raises:
        ConfigError: a setting is missing or wrong; the text says which.
    """
    instance = config.instance_path(config_key, overrides)
    app = Flask("apps", instance_path=instance, static_folder=None, static_url_path="/static")
    app.url_map.converters["int"] = web.RowIdConverter
    config.load(app, config_key, overrides)
    logs.init_app(app)
    web.limit_bodies(app)
    _init_extensions(app)
    container.init_app(app)
    _register_blueprints(app)
    security.init_app(app)
    errorpages.init_app(app)
    web.init_app(app)
    assets.init_app(app)
    api.init_app(app)
    ops.init_app(app)
    cli.init_app(app)
    return app


def _init_extensions(app: Flask) -> None:
    from apps import models  # noqa: F401  (maps every table before the first query)

    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies
        )
    db.init_app(app)
    migrate.init_app(app, db, directory=str(config.ROOT / "migrations"))
    csrf.init_app(app)
    limiter.init_app(app)
    mail.init_app(app)
    i18n.init_app(app)
    bootstrap.init_app(app)


def _register_blueprints(app: Flask) -> None:
    from apps.auth.views import bp as account
    from apps.classifier.views import bp as classifier
    from apps.crud.views import bp as crud
    from apps.detector.views import bp as detector
    from apps.imports.views import bp as imports
    from apps.live.views import bp as live
    from apps.ops.views import bp as ops
    from apps.video.views import bp as video

    app.register_blueprint(account, url_prefix="/auth")
    app.register_blueprint(classifier, url_prefix="/classifier")
    app.register_blueprint(crud, url_prefix="/crud")
    app.register_blueprint(detector)
    app.register_blueprint(imports, url_prefix="/imports")
    app.register_blueprint(live, url_prefix="/live")
    app.register_blueprint(video, url_prefix="/video")
    app.register_blueprint(ops)
