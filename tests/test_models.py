from datetime import datetime

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, InvalidRequestError, StatementError

from apps.extensions import db
from apps.models import Detection, Image, ImageStatus, Tag, User


def add(app, row) -> None:
    with app.app_context():
        db.session.add(row)
        db.session.commit()


@pytest.mark.parametrize(
    "box",
    [
        {"x1": 5, "y1": 1, "x2": 5, "y2": 9, "score": 0.5},
        {"x1": 1, "y1": 9, "x2": 5, "y2": 1, "score": 0.5},
        {"x1": 1, "y1": 1, "x2": 5, "y2": 9, "score": 1.5},
    ],
)
def test_the_database_refuses_impossible_boxes(app, ann, upload, box):
    image_id = upload(ann)
    with pytest.raises(IntegrityError):
        add(app, Detection(image_id=image_id, label="dog", model="m", **box))


def test_a_naive_time_is_refused(app):
    with pytest.raises(StatementError, match="naive"):
        add(app, Tag(name="a", folded="a", created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_times_come_back_with_their_zone(app, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        assert db.session.get_one(Image, image_id).created_at.tzinfo is not None


def test_a_collection_that_was_not_asked_for_is_an_error_and_not_a_query(app, ann, upload):
    image_id = upload(ann)
    with app.app_context(), pytest.raises(InvalidRequestError, match="raise"):
        _ = db.session.get_one(Image, image_id).detections


def test_deleting_a_user_row_takes_the_pictures_rows(app, ann, upload):
    upload(ann)
    with app.app_context():
        db.session.delete(db.session.scalars(select(User)).one())
        db.session.commit()
        assert db.session.scalars(select(Image)).all() == []
        assert db.session.scalars(select(Detection)).all() == []


def test_only_done_and_failed_are_settled():
    assert [status for status in ImageStatus if status.settled] == ["done", "failed"]
