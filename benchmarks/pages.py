"""How much dearer a full gallery is than one with a single picture."""

import sys
import tempfile

from flask.testing import FlaskClient

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, ImageTag, TagSource
from benchmarks.report import Row, arguments, report
from benchmarks.timing import median_ratio

ROUNDS = 40
MOST, MOST_FULL = 40.0, 2.5


def _client(app, name: str, pictures: int) -> FlaskClient:
    client = app.test_client()
    values = {"username": name, "email": f"{name}@example.com", "password": "many plain words"}
    client.post("/auth/signup", data=values)
    with app.app_context():
        user = services().accounts.find(name)
        assert user is not None
        tag = services().tags.ensure("dog")
        for n in range(pictures):
            row = Image(
                owner_id=user.id, title=f"{n}.jpg", key=f"{user.id:08x}{n:024x}", extension="jpg",
                media_type="image/jpeg", sha256=f"{n:064x}", bytes=10, width=4, height=3,
                status=ImageStatus.DONE,
            )  # fmt: skip
            db.session.add(row)
            db.session.flush()
            db.session.add(ImageTag(image_id=row.id, tag_id=tag.id, source=TagSource.MODEL))
        db.session.commit()
    return client


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = create_app("testing", INSTANCE_PATH=folder)
        with app.app_context():
            db.create_all()
        one, full = _client(app, "one", 1), _client(app, "full", 48)

        def health() -> object:
            return one.get("/healthz")

        def single() -> object:
            return one.get("/")

        rows = [
            Row("gallery of 1 / healthz", median_ratio(single, health, options.rounds), most=MOST),
            Row(
                "gallery of 48 / gallery of 1",
                median_ratio(lambda: full.get("/"), single, options.rounds),
                most=MOST_FULL,
            ),
        ]
        with app.app_context():
            db.engine.dispose()
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
