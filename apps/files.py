"""Stored files as answers."""

from flask import Response, redirect, request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wrappers import Response as AnyResponse
from werkzeug.wsgi import FileWrapper

from apps.services.images import StoredFile, StoredLink


def send_stored(stored: StoredFile | StoredLink) -> AnyResponse:
    """``stored`` as a private answer that a cache must ask about before using it again.

    Originals are saved, not shown. A part is sent when the request asks for one (Range).
    """
    if isinstance(stored, StoredLink):
        response = redirect(stored.address, 302)
        response.headers["Cache-Control"] = "private, no-store"  # the address is a short-lived key
        return response
    return _stream(stored)


def _stream(stored: StoredFile) -> Response:
    response = send_file(
        stored.stream,
        mimetype=stored.media_type,
        etag=stored.etag,
        as_attachment=stored.original,
        download_name=stored.download_name,
        max_age=None,
        conditional=False,  # send_file does not know how long a stream is: see below
    )
    response.content_length = stored.size
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if "Range" in request.headers:  # the web server's own wrapper cannot seek to it
        response.response = FileWrapper(stored.stream)
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=stored.size)
    except RequestedRangeNotSatisfiable:
        stored.stream.close()
        raise
    return response
