"""SQLite under load: many uploads at once while detection runs."""

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import func, select

from apps.container import services
from apps.extensions import db
from apps.models import Detection, Image, ImageStatus
from tests.conftest import picture_bytes, stored_files

THREADS, EACH = 16, 20


def test_sixteen_uploaders_and_the_detector_share_one_sqlite_file(make_app, caplog):
    app = make_app(QUEUE="thread", QUEUE_POLL_SECONDS=0.2, PROPAGATE_EXCEPTIONS=False)

    def work(number: int) -> list[int]:
        client = app.test_client()
        name = f"person{number}"
        values = {"username": name, "email": f"{name}@example.com", "password": "plain long words"}
        assert client.post("/auth/signup", data=values).status_code == 302
        codes = []
        for _ in range(EACH):
            data = {"image": [(io.BytesIO(picture_bytes()), "a.jpg")]}
            codes.append(client.post("/upload", data=data).status_code)
            assert client.get("/").status_code == 200
        return codes

    with ThreadPoolExecutor(THREADS) as pool:
        codes = [code for codes in pool.map(work, range(THREADS)) for code in codes]
    assert codes == [303] * (THREADS * EACH)

    with app.app_context():
        while services(app).detections.next_queued() is not None:
            pass  # the thread is still at it
    services(app).queue.stop(60)
    # A lock that was not waited for is tried again or taken back by the queue, and only told here.
    assert "database is locked" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    with app.app_context():
        assert set(db.session.scalars(select(Image.attempts))) == {1}
        statuses = dict(
            db.session.execute(select(Image.status, func.count()).group_by(Image.status)).all()
        )
        boxes = db.session.scalar(select(func.count()).select_from(Detection))
    assert statuses == {ImageStatus.DONE: THREADS * EACH}
    assert boxes == 2 * THREADS * EACH
    assert len(stored_files(app)) == 3 * THREADS * EACH
    assert not list(Path(app.config["STORAGE_ROOT"]).rglob(".new-*"))
