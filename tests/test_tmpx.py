import io
import json
import zipfile

from apps.container import services
from apps.services.imports import Choices
from tests.conftest import picture_bytes


def test_x(app, make_user, tmp_path):
    owner = make_user("ann")
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.writestr("images/a.jpg", picture_bytes())
        z.writestr("images/b.jpg", picture_bytes())
        z.writestr("images/c.jpg", picture_bytes()[:-200])
        z.writestr("images/link/../../x.jpg", b"x")
        z.writestr(
            "annotations.json",
            json.dumps(
                {
                    "images": [
                        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
                        {"id": 2, "file_name": "b.jpg", "width": 128, "height": 96},
                    ],
                    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "x" * 50}],
                    "annotations": [
                        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10]},
                        {"image_id": 2, "category_id": 2, "bbox": [10, 20, float("nan"), 10]},
                        {"image_id": 2, "category_id": 2, "bbox": [10, 20, 200, 10]},
                    ],
                }
            ),
        )
    b.seek(0)
    with app.app_context():
        s = services().imports
        row = s.create(owner, "x.zip", b)
        print(row.status, row.error, json.dumps(row.report, indent=1))
        row = s.confirm(owner, row.id, Choices(tags=("t1",), detect=True))
        print(row.status, row.error, row.pictures, row.boxes, s.remaining(row.id))
        print(s.undo(owner, row.id))
