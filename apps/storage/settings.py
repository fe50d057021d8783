"""Settings of a storage that fsspec opens: refused at the start, with what to set instead.

No text repeats an address or an option, which may hold a password.
"""

from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from apps.errors import ConfigError

S3 = ("s3", "s3a")
MAX_PRESIGN = 7 * 24 * 3600  # seconds: the longest that signature version 4 allows


def checked_scheme(url: object, setting: str) -> str:
    """The scheme of ``url``.

    Args:
        setting: what the administrator calls ``url``.

    Raises:
        ConfigError: no address, of no known kind, or its driver is missing.
    """
    scheme, separator, rest = str(url or "").partition("://")
    if not separator or not scheme.isalnum() or "::" in rest:
        raise ConfigError(f'{setting} is not an address; write it like "s3://bucket/prefix".')
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ConfigError(
            f"{setting} begins with {scheme}://, which fsspec does not know; "
            "use s3://, gs://, file:// or another of its names."
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"{setting} begins with {scheme}://, whose driver is missing ({error}). "
            f"{_how_to_install(scheme)}"
        ) from error
    if scheme in S3 and (not rest.strip("/") or set("?#@") & set(rest)):
        raise ConfigError(
            f"{setting} names a bucket and perhaps a folder in it, like s3://bucket/prefix; "
            "keys and endpoints go to SIGHTBOX_STORAGE_OPTIONS or AWS_* variables."
        )
    if scheme in ("file", "local") and not rest.startswith("/"):
        raise ConfigError(f'{setting} needs a whole path, like "file:///srv/blobs".')
    return scheme


def _how_to_install(scheme: str) -> str:
    package = str(known_implementations[scheme]["class"]).partition(".")[0]
    if package == "fsspec":
        return "Install what it names into the virtual environment."
    return f"Install it into the virtual environment: pip install {package}."


def checked_options(options: object) -> dict[str, Any]:
    """``options`` as a dict. Raises ConfigError if they are none."""
    if not isinstance(options, Mapping):
        raise ConfigError(
            "SIGHTBOX_STORAGE_OPTIONS (or --from-options) is not a JSON mapping; "
            'write it like \'{"endpoint_url": "https://s3.example.org"}\'.'
        )
    return dict(options)


def checked_presign(seconds: float, scheme: str) -> int:
    """``seconds`` as a whole number. Raises ConfigError if no address can last so long."""
    if seconds != int(seconds) or not 0 <= seconds <= MAX_PRESIGN:
        raise ConfigError(
            f"SIGHTBOX_STORAGE_PRESIGN is {seconds!r}; "
            f"set it to whole seconds up to {MAX_PRESIGN}, or 0 for no addresses."
        )
    if seconds and scheme not in S3:
        raise ConfigError(f"SIGHTBOX_STORAGE_PRESIGN needs an s3:// address, not {scheme}://.")
    return int(seconds)
