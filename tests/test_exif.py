"""What the camera wrote into a file: told without the place, asked for again for nothing."""

import io

import pytest
from PIL import ExifTags
from PIL import Image as Picture

from apps.vision.exif import CameraFacts, camera_facts

TAGS, IFD = ExifTags.Base, ExifTags.IFD


def photograph(**changes: object) -> bytes:
    """A JPEG as a camera writes it; ``make=None`` leaves a tag out."""
    exif = Picture.Exif()
    texts = {"make": "Canon", "model": "Canon EOS R6"} | changes
    for tag, name in ((TAGS.Make, "make"), (TAGS.Model, "model")):
        if texts[name] is not None:
            exif[tag] = texts[name]
    exif.get_ifd(IFD.Exif).update(
        {
            TAGS.DateTimeOriginal: "2024:05:17 09:30:00",
            TAGS.ExposureTime: changes.get("time", 0.004),
            TAGS.FNumber: 2.8,
            TAGS.ISOSpeedRatings: 100,
            TAGS.FocalLength: 50.0,
            TAGS.LensModel: "RF50mm F1.8 STM",
        }
    )
    exif.get_ifd(IFD.GPSInfo).update(
        {1: "N", 2: (37.0, 33.0, 59.0), 3: "E", 4: (126.0, 58.0, 41.0)}
    )
    file = io.BytesIO()
    Picture.new("RGB", (64, 48), "teal").save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_camera_time_and_exposure_are_told_and_the_place_is_not(ann, upload):
    image_id = upload(ann, photograph())
    answer = ann.get(f"/images/{image_id}/exif.json")
    assert answer.json == {
        "camera": "Canon EOS R6",
        "lens": "RF50mm F1.8 STM",
        "taken_at": "2024-05-17T09:30:00",
        "exposure": "1/250 s, f/2.8, ISO 100, 50 mm",
        "position": True,
    }
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "37" not in answer.text


def test_asking_again_reads_no_file(ann, upload, app, monkeypatch):
    image_id = upload(ann, photograph())
    etag = ann.get(f"/images/{image_id}/exif.json").headers["ETag"]
    monkeypatch.setattr("apps.detector.picture.camera_facts", None)
    again = ann.get(f"/images/{image_id}/exif.json", headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")


def test_only_the_owner_learns_it(ann, bob, app, upload):
    image_id = upload(ann, photograph())
    assert bob.get(f"/images/{image_id}/exif.json").status_code == 404
    assert ann.get("/images/999999/exif.json").status_code == 404
    assert ann.post(f"/images/{image_id}/exif.json").status_code in (400, 405)
    assert app.test_client().get(f"/images/{image_id}/exif.json").status_code in (302, 401)


def test_a_picture_without_such_a_block_says_nothing(ann, upload):
    answer = ann.get(f"/images/{upload(ann)}/exif.json")
    assert answer.json == {
        "camera": None, "lens": None, "taken_at": None, "exposure": None, "position": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS R6", "Canon EOS R6"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("Apple", "iPhone 13", "Apple iPhone 13"),
        (None, "X100V", "X100V"),
        ("\0\x07", None, None),
        ("m" * 5000, None, "m" * 80),
    ],
)
def test_makers_that_repeat_their_name_are_told_once(make, model, camera):
    assert camera_facts(photograph(make=make, model=model)).camera == camera


@pytest.mark.parametrize("time", [0, float("inf")])
def test_an_impossible_exposure_is_left_out(time):
    assert camera_facts(photograph(time=time)).exposure == "f/2.8, ISO 100, 50 mm"


def test_a_long_exposure_is_told_in_seconds():
    assert str(camera_facts(photograph(time=2.5)).exposure).startswith("2.5 s, ")


def test_damaged_blocks_are_no_error():
    data = photograph()
    for place in range(20, 400, 7):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        assert isinstance(camera_facts(bytes(broken)), CameraFacts)
    assert camera_facts(b"no picture") == CameraFacts()
