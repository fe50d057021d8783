"""Stored files as answers."""

from flask import Response, send_file

from apps.services.images import StoredFile


def send_stored(stored: StoredFile, *, attachment: bool = False) -> Response:
    """``stored`` as a private answer that a cache must ask about before using it again."""
    response = send_file(
        stored.stream,
        mimetype=stored.media_type,
        etag=stored.etag,
        as_attachment=attachment,
        download_name=stored.download_name,
        max_age=None,
    )
    if response.status_code == 200:
        response.content_length = stored.size
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
