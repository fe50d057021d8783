"""An application on a free port, for browsers and other programs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import make_server

from apps.container import services
from apps.extensions import db


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Its address while the block lasts."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def stop_queues(app: Flask) -> None:
    """End every thread that works in the background of ``app``."""
    here = services(app)
    queues = (here.video_queue, here.import_queue, here.export_queue, here.webhook_queue)
    for queue in (here.queue, *queues):
        queue.stop(timeout=10)


@contextmanager
def site_of(app: Flask) -> Iterator[Flask]:
    """``app`` with an empty database, served at ``TEST_ADDRESS``; all it began ends with it."""
    with app.app_context():
        db.create_all()
    with served(app) as address:
        app.config["TEST_ADDRESS"] = address
        yield app
    stop_queues(app)
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
