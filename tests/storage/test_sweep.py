"""What killed processes left in the storage."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Export, Image, Import, ImportedPicture, Video

TWO_DAYS_AGO = time.time() - 2 * 86400


def put(app, key: str) -> None:
    services(app).storage.put(key, b"left behind")


def grow_old(app) -> Path:
    root = Path(app.config["STORAGE_ROOT"])
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (TWO_DAYS_AGO, TWO_DAYS_AGO))
    return root


def keys(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def sweep(app, *options: str):
    return app.test_cli_runner().invoke(args=["storage", "sweep", *options])


@pytest.fixture
def filled(app, ann, upload) -> set[str]:
    """One of everything that rows name; the keys."""
    upload(ann)
    trashed = upload(ann)
    ann.post(f"/images/delete/{trashed}")
    with app.app_context():
        owner = db.session.scalars(select(Image.owner_id)).first()
        facts = {"owner_id": owner, "title": "x", "bytes": 1}
        video = Video(
            **facts, sha256="0", width=64, height=48, key="b" * 32, extension="mp4",
            media_type="video/mp4", every=1, duration_ms=1000, frames=10,
        )  # fmt: skip
        coming = Import(**facts, key="c" * 32)
        export = Export(
            owner_id=owner, kind="coco", boxes="all", threshold=0, with_pictures=True, key="d" * 32
        )
        db.session.add_all([video, coming, export])
        db.session.flush()
        part = ImportedPicture(
            key="e" * 32, import_id=coming.id, extension="jpg", copy_extension="jpg"
        )
        db.session.add(part)
        named = [*video.storage_keys, coming.file_key, f"export/{export.key}-1.zip"]
        named += part.storage_keys
        db.session.commit()
    for key in named:
        put(app, key)
    return keys(Path(app.config["STORAGE_ROOT"]))


LEFT = {
    f"original/{'f' * 32}.jpg", f"display/{'f' * 32}.jpg", f"thumbnail/{'f' * 32}.webp",
    f"video/{'f' * 32}.mp4", f"poster/{'f' * 32}.jpg", f"export/{'f' * 32}-2.zip",
    f"import/{'f' * 32}.zip", "original/.new-0123", f"video/{'e' * 32}.mp4",
}  # fmt: skip


def test_what_no_row_names_is_listed_and_goes_when_told_so(app, filled):
    for key in LEFT:
        put(app, key)
    put(app, "other/file")
    root = grow_old(app)
    listed = sweep(app)
    assert listed.exit_code == 0, listed.output
    assert {line.split("\t")[2] for line in listed.output.splitlines()[:-1]} == LEFT
    assert f"{len(LEFT)} files" in listed.output
    assert keys(root) == filled | LEFT | {"other/file"}
    assert "deleted" in sweep(app, "--yes").output
    assert keys(root) == filled | {"other/file"}
    assert sweep(app, "--yes").output == "0 files, 0 bytes.\n"


def test_young_files_may_still_get_their_row(app, filled):
    grow_old(app)
    for key in LEFT:
        put(app, key)
    assert sweep(app, "--yes").output == "0 files, 0 bytes.\n"


def test_a_storage_of_another_database_is_left_alone(app):
    for key in LEFT:
        put(app, key)
    root = grow_old(app)
    refused = sweep(app, "--yes")
    assert refused.exit_code == 1
    assert "belong together" in refused.output
    assert keys(root) == LEFT
