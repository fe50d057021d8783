"""The pictures of a request in Roboflow's words: parts of a form, base64, or addresses."""

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from flask import current_app, request

from apps import outbound
from apps.container import services
from apps.errors import N_, InvalidInput, TooLarge
from apps.services.uploads import read_upload

MOST = 16  # in one request
TIMEOUT = 20.0  # seconds for all pictures of a request that are at addresses
AT_ONCE = 4  # of them


def pictures_of(body: Mapping[str, Any]) -> tuple[list[bytes], bool]:
    """The bytes of every picture, and whether a list was sent.

    Raises:
        InvalidInput: none, too many, a pickle, or an address that gives none in time.
        TooLarge: more bytes than a picture may have.
    """
    most = services().uploads.limits.file_bytes
    if files := request.files.getlist("image"):
        _few(len(files))
        return [read_upload(cast(BinaryIO, file.stream), most) for file in files], len(files) > 1
    given = body.get("image")
    entries = given if isinstance(given, list) else [given]
    _few(len(entries))
    said = [_picture(entry, most) for entry in entries]
    fetched = iter(_fetched([url for url in said if isinstance(url, str)], most))
    return [next(fetched) if isinstance(one, str) else one for one in said], given is entries


def _few(count: int) -> None:
    if not 1 <= count <= MOST:
        raise InvalidInput(N_("Send 1 to %(most)s pictures at once."), most=MOST)


def _picture(entry: Any, most: int) -> bytes | str:
    """A picture, or its address."""
    kind = entry.get("type") if isinstance(entry, dict) else None
    value = entry.get("value") if isinstance(entry, dict) else None
    if kind in ("numpy", "numpy_object"):
        raise InvalidInput(
            N_("Pictures as NumPy pickles are not accepted, because they can hold programs. "
               "Send them as base64.")
        )  # fmt: skip
    if kind not in ("base64", "url") or not isinstance(value, str):
        raise InvalidInput(
            N_("“image” is an object with “type” (“base64” or “url”) and “value”, a text.")
        )
    return value if kind == "url" else _from_base64(value, most)


def _fetched(urls: Sequence[str], most: int) -> list[bytes]:
    """What is at the addresses, a few at the same time: the request holds a thread of the server
    no longer than TIMEOUT, apart from resolving names."""
    if not urls:
        return []
    private, ends = current_app.config["OUTBOUND_PRIVATE"], time.monotonic() + TIMEOUT

    def one(url: str) -> bytes:
        left = ends - time.monotonic()
        if left <= 0:
            raise outbound.Unanswered(
                N_("The pictures did not come within %(most)s seconds. Ask for fewer at once."),
                most=round(TIMEOUT),
            )
        return outbound.fetch(url, most_bytes=most, timeout=left, allow_private=private)

    with ThreadPoolExecutor(AT_ONCE, "pictures") as pool:
        return list(pool.map(one, urls))


def _from_base64(text: str, most: int) -> bytes:
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        data = base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        raise InvalidInput(N_("The value of “image” is not base64.")) from None
    if len(data) > most:
        raise TooLarge(N_("A picture has at most %(most)s bytes."), most=most)
    return data
