"""Settings: one class for each way to run, then ``SIGHTBOX_*`` variables, then overrides."""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask_security.utils import aware_utcnow
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from apps.errors import ConfigError

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent


class Base:
    """Defaults that hold everywhere. docs/settings.md explains each key for administrators."""

    SECRET_KEY: str | None = None
    SQLALCHEMY_DATABASE_URI: str | None = None

    # Pictures
    MAX_CONTENT_LENGTH = 1024 * MIB  # bytes in one request, all files together
    MAX_FORM_MEMORY_SIZE = MIB  # bytes of form fields other than files
    MAX_FORM_PARTS = 1000  # files and fields in one request
    MAX_FILE_BYTES = 64 * MIB  # bytes in one picture
    MAX_ARCHIVE_FILES = 2000  # in the ZIP files of one request
    MAX_ARCHIVE_BYTES = 4096 * MIB  # of them all, unpacked
    MAX_IMPORT_BYTES = 4096 * MIB  # bytes in one archive that is imported
    MAX_IMPORT_FILES = 100_000  # in it, pictures and label files
    MAX_IMPORT_UNPACKED_BYTES = 16384 * MIB  # of it, unpacked
    MAX_LABEL_BYTES = 48 * MIB  # in one label file of it
    MAX_IMAGE_PIXELS = 64_000_000  # width x height; refuses decompression bombs before decoding
    USER_QUOTA_BYTES = 10 * 1024 * MIB  # bytes of originals for each account; 0 is no limit
    MAX_VIDEO_BYTES = 1024 * MIB  # bytes in one clip
    MAX_VIDEO_SECONDS = 1800.0  # length of one clip
    GALLERY_PAGE_SIZE = 48
    TRASH_DAYS = 30  # that a deleted picture can be restored
    EXPORT_QUOTA_BYTES = 20 * 2**30  # of the exports that an account keeps; 0: no limit
    EXPORT_DAYS = 7  # for which the file of an export can be loaded
    ADMIN_PAGE_SIZE = 50

    # Adapters: read by container.py alone
    ENGINE = "torch"  # torch | fake (tests)
    DETECTOR = "auto"  # or a name that "flask models list" shows
    MODEL_DOWNLOADS = True  # whether "auto" may fetch the weights that it would rather use
    MODELS_LOADED = 2  # in memory at the same time; the least recently used one goes
    MODEL_IDLE_MINUTES = 0.0  # unload a model that nobody used for so long; 0 is never
    LIVE_ON_CPU = False  # with celery: the web process looks at frames of cameras itself
    LIVE_RATE = "1800 per minute"  # frames of cameras for each account
    WARM = False  # load the default model at the start instead of with the first picture
    WEIGHTS_ROOT: str | None = None  # default: weights/ in the instance folder
    MAX_WEIGHTS_BYTES = 1024 * MIB  # in one file of weights that an administrator adds
    DEVICE = "auto"  # auto | cpu | cuda | cuda:1 | mps
    DEVICE_FALLBACK = False  # go on with the CPU when the GPU stops working
    PRECISION = "float32"  # of backbones on a GPU: float32 | bfloat16 | float16
    THREADS = 24  # requests answered at the same time; gunicorn_conf.py reads it too
    CPU_THREADS = 0  # of the detector; 0: PyTorch decides
    BATCH_SIZE = 8  # pictures that share one run of a model, at most
    ENGINE_CAPACITY = 64  # pictures that may wait for the engine before it says "busy"
    QUEUE = "thread"  # thread | celery | inline (tests)
    QUEUE_THREADS = 6  # thread: pictures that this process has in hand at the same time
    QUEUE_POLL_SECONDS = 5.0  # thread: how long a job whose wake-up was lost may wait
    CELERY_BROKER_URL: str | None = None  # celery: redis://host:6379/1 or amqp://user:pass@host//
    SWEEP_SECONDS = 30.0  # celery: the same as QUEUE_POLL_SECONDS, when the broker forgot
    WORKER_METRICS_PORT = 0  # celery: where a worker answers Prometheus; 0: nowhere
    WORKER_METRICS_HOST = "127.0.0.1"
    WORKER_LOST_SECONDS = 60.0  # silence after which a worker's pictures go to others
    STORAGE = "local"  # local | fsspec
    STORAGE_ROOT: str | None = None  # local: default blobs/ in the instance folder
    STORAGE_URL: str | None = None  # fsspec: s3://bucket/prefix
    STORAGE_OPTIONS: dict[str, Any] = {}  # of that filesystem; may hold secrets
    STORAGE_PRESIGN = 0  # seconds that an address of a stored file is good; 0: none are given
    LOG_LEVEL = "INFO"
    METRICS_TOKEN: str | None = None  # what /metrics demands; None: it is open

    # Accounts
    SIGNUP_OPEN = True
    ADMIN_CONTACT: str | None = None  # shown where a person needs help, for example an email
    MAIL_SERVER: str | None = None
    MAIL_DEFAULT_SENDER = "Sightbox <no-reply@localhost>"
    MAIL_TIMEOUT = 10  # seconds
    MAIL_USE_LOCALTIME = False
    API_RATE = "3000 per minute"  # requests with one token
    API_REFUSED_RATE = "120 per minute"  # requests from one address without a good token
    OUTBOUND_PRIVATE = False  # addresses of this network may be asked: webhooks, pictures by URL
    API_OPEN_ON_LOOPBACK = False  # /v1/ asks programs on this machine for no token
    LOGIN_RATE = "10 per minute; 100 per hour"
    SIGNUP_RATE = "10 per minute; 60 per hour"

    # Web
    SESSION_COOKIE_NAME = "sightbox_session"
    SESSION_COOKIE_HTTPONLY = True
    SESSION_COOKIE_SAMESITE = "Lax"
    REMEMBER_COOKIE_NAME = "sightbox_remember"
    REMEMBER_COOKIE_HTTPONLY = True
    REMEMBER_COOKIE_SAMESITE = "Lax"
    REMEMBER_COOKIE_DURATION = timedelta(days=60)
    PREFERRED_URL_SCHEME = "http"
    TRUSTED_HOSTS: list[str] | None = None  # names this server answers to; None: any
    TRUSTED_PROXIES = 0  # reverse proxies in front whose X-Forwarded-* headers are believed
    WTF_CSRF_TIME_LIMIT = None  # a form stays valid as long as the session does
    RATELIMIT_STORAGE_URI = "memory://"
    RATELIMIT_HEADERS_ENABLED = True
    RATELIMIT_ENABLED = True
    RATELIMIT_IN_MEMORY_FALLBACK_ENABLED = True  # while Redis is away, each process counts alone
    BABEL_DEFAULT_LOCALE = "en"
    BOOTSTRAP_SERVE_LOCAL = True

    # Flask-Security: its views at the addresses of this application
    SECURITY_BLUEPRINT_NAME = "auth"
    SECURITY_URL_PREFIX = "/auth"
    SECURITY_REGISTER_URL = "/signup"
    SECURITY_CHANGE_URL = "/password"
    SECURITY_RESET_URL = "/reset"
    SECURITY_CONFIRM_URL = "/confirm"
    SECURITY_VERIFY_URL = "/verify"
    SECURITY_CHANGE_EMAIL_URL = "/change-email"
    SECURITY_POST_CHANGE_VIEW = "account.show"
    SECURITY_POST_RESET_VIEW = "auth.login"
    SECURITY_REGISTERABLE = True
    SECURITY_CHANGEABLE = True
    SECURITY_LOGIN_WITHOUT_CONFIRMATION = True
    SECURITY_PASSWORD_CONFIRM_REQUIRED = False
    SECURITY_PASSWORD_LENGTH_MIN = 8
    SECURITY_PASSWORD_HASH = "argon2"
    SECURITY_PASSWORD_SINGLE_HASH = {"argon2", "plaintext"}  # argon2 carries its own salt
    SECURITY_PASSWORD_SCHEMES = ["argon2", "plaintext"]
    SECURITY_DEPRECATED_PASSWORD_SCHEMES = ["plaintext"]
    SECURITY_PASSWORD_NORMALIZE_FORM = "NFKC"
    SECURITY_INPUT_NORMALIZE_FORM = "NFKC"  # keeps Hangul syllables whole
    SECURITY_EMAIL_VALIDATOR_ARGS = {
        "check_deliverability": False,  # offline machines ask no DNS
        "globally_deliverable": False,  # me@lab.local is a fine address on one's own network
    }
    SECURITY_DATETIME_FACTORY = staticmethod(aware_utcnow)
    SECURITY_API_ENABLED_METHODS = ["session"]
    SECURITY_LOGOUT_METHODS = ["POST"]
    SECURITY_RETURN_GENERIC_RESPONSES = True  # a reset form does not tell who has an account
    SECURITY_CLI_USERS_NAME = False  # apps/cli/users.py is ours
    SECURITY_CLI_ROLES_NAME = False
    SECURITY_STATIC_FOLDER = None
    SECURITY_STATIC_FOLDER_URL = None
    SECURITY_I18N_DIRNAME = [str(ROOT / "apps" / "translations"), "builtin"]


class Local(Base):
    """One machine, nothing to install: SQLite and files in the instance folder."""

    SQLALCHEMY_DATABASE_URI = "sqlite:///sightbox.sqlite"  # relative to the instance folder


class Testing(Base):
    """Hermetic: ignores the environment; tests give a temporary instance folder."""

    TESTING = True
    SECRET_KEY = "testing-only"
    SQLALCHEMY_DATABASE_URI = "sqlite:///testing.sqlite"
    WTF_CSRF_ENABLED = False
    RATELIMIT_ENABLED = False
    ENGINE = "fake"
    QUEUE = "inline"
    MODEL_DOWNLOADS = False
    LOG_LEVEL = "WARNING"
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS = {
        "argon2__time_cost": 1,
        "argon2__memory_cost": 64,
        "argon2__parallelism": 1,
    }


class Production(Base):
    """Behind TLS. Refuses to start until the required settings are given."""

    SESSION_COOKIE_SECURE = True
    REMEMBER_COOKIE_SECURE = True
    PREFERRED_URL_SCHEME = "https"


config: dict[str, type[Base]] = {"local": Local, "testing": Testing, "production": Production}

WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
SQLITE_CONNECTIONS = 48  # kept open at most; an idle one is a file handle
REQUIRED = ("SECRET_KEY", "SQLALCHEMY_DATABASE_URI")


def instance_path(key: str, overrides: dict[str, Any]) -> str:
    """The folder of local data: override, then SIGHTBOX_INSTANCE_PATH, then instance/."""
    given = overrides.pop("INSTANCE_PATH", None)
    if given is None and key != "testing":
        given = os.environ.get("SIGHTBOX_INSTANCE_PATH")
    path = Path(given) if given else ROOT / "instance"
    return str(path.expanduser().resolve())


def load(app: Flask, key: str, overrides: dict[str, Any]) -> None:
    """Fill ``app.config``: class, then ``SIGHTBOX_*`` environment, then ``overrides``.

    Raises:
        ConfigError: unknown key, or a required setting is missing; the text says which.
    """
    if key not in config:
        raise ConfigError(
            f"Unknown configuration {key!r}; use one of {', '.join(config)}. "
            "SIGHTBOX_CONFIG or the argument of create_app chooses it."
        )
    app.config.from_object(config[key])
    if key != "testing":  # a developer's shell must not change what the tests run on
        app.config.from_prefixed_env("SIGHTBOX")
    app.config.from_mapping(overrides)
    app.config["CONFIG_KEY"] = key
    Path(app.instance_path).mkdir(mode=0o700, parents=True, exist_ok=True)
    if key == "local" and not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = _local_secret(Path(app.instance_path) / "secret_key")
    missing = [name for name in REQUIRED if not app.config[name]]
    if missing:
        names = ", ".join(f"SIGHTBOX_{name}" for name in missing)
        raise ConfigError(f"Set {names} before starting; docs/settings.md says how.")
    _check_types(app, key)
    if not isinstance(app.config["METRICS_TOKEN"], str | None):
        raise ConfigError(
            "SIGHTBOX_METRICS_TOKEN looks like a number; set it to a text, for example the output "
            "of: openssl rand -hex 32"
        )
    if app.config["MAIL_SERVER"] and not app.config["TRUSTED_HOSTS"] and key != "testing":
        raise ConfigError(
            "Set SIGHTBOX_TRUSTED_HOSTS, for example '[\"boxes.example.org\"]', because mails "
            "carry links: a forged Host header could lead them to another server."
        )
    if app.config["STORAGE_ROOT"] is None:
        app.config["STORAGE_ROOT"] = str(Path(app.instance_path) / "blobs")
    if app.config["WEIGHTS_ROOT"] is None:
        app.config["WEIGHTS_ROOT"] = str(Path(app.instance_path) / "weights")
    _derive_servers(app)
    _derive_mail(app)


def _check_types(app: Flask, key: str) -> None:
    """Every value has the type of its default; yes and no are understood in many spellings."""
    for name in dir(config[key]):
        default, value = getattr(config[key], name), app.config.get(name)
        if not name.isupper() or default is None or value is None:
            continue
        if isinstance(default, bool):
            word = WORDS.get(str(value).strip().lower())
            if word is None:
                raise ConfigError(f"SIGHTBOX_{name} is {value!r}; set it to true or false.")
            app.config[name] = word
        elif isinstance(default, int | float) and (
            isinstance(value, bool) or not isinstance(value, int | float)
        ):
            raise ConfigError(f"SIGHTBOX_{name} is {value!r}; set it to a plain number.")


def _derive_servers(app: Flask) -> None:
    """Connections to other machines break: notice it early, and never wait for long."""
    given = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(app) | given
    if app.config["RATELIMIT_STORAGE_URI"].startswith("redis"):
        timeouts = {"socket_connect_timeout": 1, "socket_timeout": 1}  # seconds
        app.config.setdefault("RATELIMIT_STORAGE_OPTIONS", timeouts)


def _engine_options(app: Flask) -> dict[str, Any]:
    """Of the database's connections, where nothing else is asked for."""
    try:
        url = make_url(app.config["SQLALCHEMY_DATABASE_URI"])
    except ArgumentError as error:
        raise ConfigError(f"SIGHTBOX_SQLALCHEMY_DATABASE_URI: {error}") from error
    if url.get_backend_name() != "sqlite":
        return {"pool_pre_ping": True}
    if url.database in (None, "", ":memory:") or "memory" in url.query.values():
        return {}  # one connection, which is the database
    # One for each thread at once: what is over the pool's size is opened for each transaction.
    return {"pool_size": SQLITE_CONNECTIONS}


def _derive_mail(app: Flask) -> None:
    """Everything that needs to send mail is on exactly when there is a server to send it."""
    has_mail = bool(app.config["MAIL_SERVER"])
    for feature in ("RECOVERABLE", "CONFIRMABLE", "CHANGE_EMAIL"):
        app.config.setdefault(f"SECURITY_{feature}", has_mail)
    for notice in ("REGISTER", "PASSWORD_CHANGE", "PASSWORD_RESET", "PASSWORD_RESET_NOTICE"):
        app.config.setdefault(f"SECURITY_SEND_{notice}_EMAIL", has_mail)


def _local_secret(path: Path) -> str:
    """The secret key of this installation, made once and readable by its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret := secrets.token_hex(32))
    return secret
