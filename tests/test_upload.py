import io

from sqlalchemy import select

from apps.extensions import db
from apps.models import Detection
from tests.conftest import picture_bytes, stored_files


def test_an_uploaded_picture_is_detected_and_shown(ann, upload, app):
    image_id = upload(ann)
    page = ann.get(f"/images/{image_id}")
    assert page.status_code == 200
    assert 'data-status="done"' in page.text
    assert "<rect" in page.text
    with app.app_context():
        rows = db.session.scalars(select(Detection)).all()
        assert {row.label for row in rows} == {"dog", "cat"}
    assert len(stored_files(app)) == 3
