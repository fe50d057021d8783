"""gunicorn's settings: one process, so that the model is loaded once; threads for the pages."""

import os
import sys
from typing import Any

host = os.environ.get("HOST", "127.0.0.1")
bind = f"{f'[{host}]' if ':' in host else host}:{os.environ.get('PORT', '5000')}"
worker_class = "gthread"
workers = 1
threads = int(os.environ.get("SIGHTBOX_THREADS", "24"))
timeout = 300  # seconds: a slow upload of many pictures is no reason to kill the process
graceful_timeout = 10
keepalive = 15
max_requests = 0
accesslog = "-" if os.environ.get("SIGHTBOX_ACCESS_LOG") else None
loglevel = "warning"
control_socket_disable = True


def when_ready(_server: Any) -> None:
    """Say where it is and what to do next."""
    print(  # noqa: T201
        f"\nSightbox is ready: http://{bind}\n"
        "Open it in a browser and sign up; the first account becomes administrator.\n"
        "Ctrl-C stops it.\n",
        flush=True,
    )


def post_worker_init(_worker: Any) -> None:
    """Go on with the pictures that waited when the server was stopped, and load the model."""
    from apps.container import start
    from apps.wsgi import app

    # Pages and detections take turns in Python; a detection waits for each of its turns.
    sys.setswitchinterval(0.0005)  # seconds; 0.005 by default
    start(app)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Let the picture that is being looked at finish; what waits stays queued in the database."""
    from apps.container import services
    from apps.wsgi import app

    pictures, clips = services(app).queue, services(app).video_queue
    services(app).import_queue.stop(timeout=0)  # what it leaves is taken back at the next start
    exports = services(app).export_queue
    services(app).webhook_queue.stop(timeout=0)  # what is on its way is sent again
    clips.stop(timeout=0)  # told first, so that all end at the same time
    exports.stop(timeout=0)
    pictures.stop(timeout=8)
    clips.stop(timeout=4)
    exports.stop(timeout=4)
