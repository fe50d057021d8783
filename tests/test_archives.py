"""ZIP files through the door that people use, good, odd and hostile; and pictures sent twice."""

import io
import struct
import unicodedata
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image
from apps.services import archives
from tests.conftest import picture_bytes, stored_files
from tests.test_hostile_uploads import assert_nothing_stray, person, post, rows


def packed(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of (name, data) pairs, in their order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def raw_names(data: bytes, name: bytes, placeholder: str) -> bytes:
    """The archive with ``placeholder`` replaced by as many other bytes, not said to be UTF-8."""
    assert len(name) == len(placeholder)
    return data.replace(placeholder.encode(), name)


def results_of(client, *files: tuple[str, bytes], status: int = 201) -> list[dict[str, object]]:
    answer = post(client, *files, json=True)
    assert answer.status_code == status, answer.text
    return answer.json["results"]


def titles(app) -> list[str]:
    return [image.title for image in rows(app)]


def test_every_picture_of_an_archive_is_uploaded_and_detected(ann, app):
    first, second = picture_bytes(), picture_bytes(format="PNG")
    data = packed(("cats/", b""), ("cats/tom.jpg", first), ("dogs/deep/rex.png", second))
    results = results_of(ann, ("pets.zip", data))
    assert [(result["file"], result["ok"]) for result in results] == [
        ("tom.jpg", True),
        ("rex.png", True),
    ]
    assert {result["archive"] for result in results} == {"pets.zip"}
    assert [image.status for image in rows(app)] == ["done", "done"]
    with app.app_context():
        root = Path(app.config["STORAGE_ROOT"])
        [original] = db.session.scalars(select(Image).where(Image.title == "tom.jpg"))
        assert (root / original.original_key).read_bytes() == first
    assert_nothing_stray(app)


def test_the_plain_form_takes_an_archive_and_lists_what_it_refused(ann, app):
    good = picture_bytes()
    page = post(ann, ("pets.zip", packed(("a.jpg", good), ("notes.txt", b"nothing"))))
    assert page.status_code == 200
    assert "1 of 2 files were uploaded" in page.text
    assert "notes.txt" in page.text
    assert "pets.zip" in page.text
    assert "not a picture" in page.text
    only = post(ann, ("one.zip", packed(("b.jpg", picture_bytes()))))
    assert only.status_code == 303
    assert only.location.startswith("/images/")
    many = post(ann, ("two.zip", packed(*((f"{n}.jpg", picture_bytes()) for n in range(2)))))
    assert (many.status_code, many.location) == (303, "/")


def test_good_members_are_kept_among_bad_ones_each_with_its_reason(ann, app):
    good, twice = picture_bytes(), picture_bytes()
    data = packed(
        ("1.jpg", good),
        ("2.txt", b"text"),
        ("3.jpg", picture_bytes()[:300]),
        ("4.png", twice),
        ("5.png", twice),
        ("6.jpg", b""),
    )
    results = results_of(ann, ("mixed.zip", data))
    assert [result.get("code") for result in results] == [
        None,
        "not_a_picture",
        "truncated",
        None,
        "duplicate",
        "not_a_picture",
    ]
    assert all(result["message"] for result in results if not result["ok"])
    assert titles(app) == ["1.jpg", "4.png"]
    assert_nothing_stray(app)


def test_an_archive_and_pictures_may_come_together(ann, app):
    results = results_of(
        ann,
        ("a.jpg", picture_bytes()),
        ("b.zip", packed(("c.jpg", picture_bytes()))),
        ("d.jpg", picture_bytes()),
    )
    assert [result["file"] for result in results] == ["a.jpg", "c.jpg", "d.jpg"]


def test_hidden_files_and_what_systems_leave_behind_are_skipped(ann, app):
    names = ("__MACOSX/._a.jpg", ".DS_Store", "x/.hidden/b.jpg", "Thumbs.db", "x/desktop.ini")
    data = packed(*((name, b"clutter") for name in names), ("x/a.jpg", picture_bytes()))
    assert [result["file"] for result in results_of(ann, ("a.zip", data))] == ["a.jpg"]


def test_names_are_titles_and_never_paths(ann, app):
    names = ("../../../tmp/owned.jpg", "/etc/owned2.jpg", "..\\..\\owned3.jpg", "C:\\owned4.jpg")
    data = packed(*((name, picture_bytes()) for name in names))
    results_of(ann, ("evil.zip", data))
    assert titles(app) == ["owned.jpg", "owned2.jpg", "owned3.jpg", "owned4.jpg"]
    assert_nothing_stray(app)


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_korean_names_are_read_whether_or_not_the_archive_says_how(ann, app, encoding):
    name = "고양이.jpg".encode(encoding)
    placeholder = "x" * len(name)
    data = raw_names(packed((placeholder, picture_bytes())), name, placeholder)
    results_of(ann, ("한글.zip", data))
    assert titles(app) == ["고양이.jpg"]


def test_names_marked_as_utf8_and_taken_apart_by_a_mac_are_put_together(ann, app):
    apart = unicodedata.normalize("NFD", "강아지.jpg")
    assert apart != "강아지.jpg"
    results_of(ann, ("a.zip", packed((apart, picture_bytes()))))
    assert titles(app) == ["강아지.jpg"]


def test_an_archive_inside_is_not_unpacked_but_its_neighbours_are(ann, app):
    inner = packed(("inner.jpg", picture_bytes()))
    results = results_of(ann, ("a.zip", packed(("in.zip", inner), ("out.jpg", picture_bytes()))))
    assert [result.get("code") for result in results] == ["nested_archive", None]
    assert titles(app) == ["out.jpg"]


def test_locked_members_are_refused_and_the_others_are_kept(ann, app):
    data = bytearray(packed(("a.jpg", picture_bytes()), ("b.jpg", picture_bytes())))
    data[6] |= 1  # the local header and the directory both say "encrypted"
    data[data.index(b"PK\x01\x02") + 8] |= 1
    results = results_of(ann, ("locked.zip", bytes(data)))
    assert [result.get("code") for result in results] == ["encrypted", None]
    assert "password" in results[0]["message"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_uncommon_packing_is_refused_with_a_way_out(ann, method):
    data = packed(("a.jpg", picture_bytes()), method=method)
    [result] = results_of(ann, ("a.zip", data), status=422)
    assert result["code"] == "packed"
    assert "ordinary ZIP" in result["message"]


def test_a_member_whose_checksum_is_wrong_is_damaged_and_the_next_one_is_not(ann, app):
    first = picture_bytes()
    data = packed(("a.jpg", first), ("b.jpg", picture_bytes()), method=zipfile.ZIP_STORED)
    place = data.index(first) + len(first) // 2
    data = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
    results = results_of(ann, ("a.zip", data))
    assert [result.get("code") for result in results] == ["truncated", None]
    assert_nothing_stray(app)


def test_a_bomb_is_refused_before_anything_is_unpacked(ann, app, monkeypatch):
    def never(*_: object) -> bytes:
        raise AssertionError("a member was unpacked")

    zeros = bytes(16 << 20)
    data = packed(("a.jpg", picture_bytes()), *((f"{n}.bmp", zeros) for n in range(5)))
    monkeypatch.setattr(archives.Member, "read", never)
    [result] = results_of(ann, ("bomb.zip", data), status=422)
    assert result["code"] == "archive_bomb"
    assert result["file"] == "bomb.zip"
    assert "80 MB" in result["message"]
    assert rows(app) == []


def test_a_few_blank_pictures_are_no_bomb(ann):
    blank = io.BytesIO()
    from PIL import Image as Picture

    Picture.new("L", (3000, 2000), "white").save(blank, "BMP")
    results = results_of(ann, ("blank.zip", packed(("white.bmp", blank.getvalue()))))
    assert [result["ok"] for result in results] == [True]


def test_members_that_share_their_data_are_a_bomb(ann):
    """The directory names one piece of data again and again."""
    data = packed(("a.jpg", picture_bytes((200, 200))), method=zipfile.ZIP_STORED)
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 40, 40, 40 * len(entry), start, 0)
    [result] = results_of(ann, ("a.zip", data[:start] + 40 * entry + tail), status=422)
    assert result["code"] == "archive_bomb"


def test_a_member_never_gives_more_than_it_declared(ann):
    data = bytearray(packed(("a.jpg", picture_bytes())))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 20)
    [result] = results_of(ann, ("a.zip", bytes(data)), status=422)
    assert result["code"] == "truncated"


def test_too_many_files_are_refused_as_a_whole(make_app):
    app = make_app(MAX_ARCHIVE_FILES=3)
    client = person(app)
    data = packed(*((f"{n}.jpg", picture_bytes()) for n in range(4)))
    [result] = results_of(client, ("many.zip", data), status=422)
    assert result["code"] == "too_many_files"
    assert "4 files" in result["message"]
    assert rows(app) == []
    # The archives of one request share the limit.
    two = [packed(*((f"{m}{n}.jpg", picture_bytes()) for n in range(2))) for m in range(2)]
    results = results_of(client, ("1.zip", two[0]), ("2.zip", two[1]))
    assert [result.get("code") for result in results] == [None, None, "too_many_files"]


def test_more_than_the_limit_of_unpacked_bytes_is_refused(make_app):
    app = make_app(MAX_ARCHIVE_BYTES=1000)
    data = packed(*((f"{n}.jpg", picture_bytes()) for n in range(4)))
    [result] = results_of(person(app), ("a.zip", data), status=422)
    assert result["code"] == "archive_bomb"


def test_a_directory_longer_than_any_honest_one_is_not_read(ann, monkeypatch):
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 5000)
    data = packed(*((f"{n:04}.jpg", b"") for n in range(500)))
    [result] = results_of(ann, ("a.zip", data), status=422)
    assert result["code"] == "too_many_files"


def test_a_member_larger_than_a_picture_may_be_is_refused_alone(make_app):
    small = picture_bytes()
    app = make_app(MAX_FILE_BYTES=len(small))
    data = packed(("large.jpg", picture_bytes((300, 300))), ("small.jpg", small))
    results = results_of(person(app), ("a.zip", data))
    assert [result.get("code") for result in results] == ["too_large", None]


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04",
        b"PK\x03\x04" + bytes(500),
        b"PK\x05\x06" + b"\xff" * 18,
        packed(("a.jpg", b"x" * 2000))[:-30],
        packed(("a.jpg", b"x" * 2000))[:60],
    ],
)
def test_a_broken_archive_says_so(ann, app, data):
    [result] = results_of(ann, ("a.zip", data), status=422)
    assert result["code"] == "broken_archive"
    page = post(ann, ("a.zip", data))
    assert page.status_code == 422
    assert "cut short or damaged" in page.text
    assert_nothing_stray(app)


@pytest.mark.parametrize("files", [(), (("folder/", b""),), ((".hidden", b"x"),)])
def test_an_archive_without_files_says_so(ann, files):
    [result] = results_of(ann, ("a.zip", packed(*files)), status=422)
    assert result["code"] == "empty_archive"


def test_a_flipped_archive_is_an_answer_and_never_a_crash(ann, app):
    good = packed(("a.jpg", picture_bytes()), ("b/c.jpg", picture_bytes()))
    for place in range(4, len(good), 23):
        broken = bytearray(good)
        broken[place] ^= 0xFF
        answer = post(ann, ("a.zip", bytes(broken)), json=True)
        assert answer.status_code in (201, 422)
        assert answer.json["results"]
    assert_nothing_stray(app)


def test_the_space_of_an_account_ends_in_the_middle_of_an_archive(make_app):
    pictures = [picture_bytes() for _ in range(4)]
    app = make_app(USER_QUOTA_BYTES=sum(map(len, pictures[:2])) + 10)
    data = packed(*((f"{n}.jpg", picture) for n, picture in enumerate(pictures)))
    results = results_of(person(app), ("a.zip", data))
    assert [result.get("code") for result in results] == [None, None, "over_quota", "over_quota"]
    assert len(stored_files(app)) == 6
    assert_nothing_stray(app)


def test_what_came_of_members_is_counted(ann, app):
    results_of(ann, ("a.zip", packed(("a.jpg", picture_bytes()), ("b.txt", b"x"))))
    results_of(ann, ("b.zip", b"PK\x03\x04"), status=422)
    registry = services(app).metrics.registry
    for result in ("stored", "not_a_picture", "broken_archive"):
        value = registry.get_sample_value("sightbox_uploads_total", {"result": result})
        assert value == 1


# -- pictures that are there already, and whose they are -----------------------------------


def test_a_duplicate_names_the_picture_that_is_there_already(ann, bob):
    data = picture_bytes()
    [first] = results_of(ann, ("a.jpg", data))
    [again] = results_of(ann, ("b.jpg", data), status=422)
    assert (again["ok"], again["code"]) == (False, "duplicate")
    assert (again["id"], again["url"]) == (first["id"], first["url"])
    [other] = results_of(bob, ("b.jpg", data))
    assert other["id"] != first["id"]
    page = post(ann, ("b.jpg", data))
    assert f'href="{first["url"]}"' in page.text


def test_the_session_is_told_to_its_owner_alone(ann, app, make_user):
    answer = ann.get("/upload/session", headers={"Accept": "application/json"})
    assert answer.json["account"] == make_user("ann")
    assert answer.json["csrf_token"]
    assert "no-store" in answer.headers["Cache-Control"]
    anonymous = app.test_client().get("/upload/session", headers={"Accept": "application/json"})
    assert anonymous.status_code == 401
    assert ann.post("/upload/session").status_code == 405


def test_the_token_of_the_session_is_good_for_an_upload(make_app):
    app = make_app(WTF_CSRF_ENABLED=True)
    client = person(app)
    data = {"image": (io.BytesIO(picture_bytes()), "a.jpg")}
    refused = client.post("/upload", data=data, headers={"Accept": "application/json"})
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "csrf")
    token = client.get("/upload/session").json["csrf_token"]
    data = {"image": (io.BytesIO(picture_bytes()), "a.jpg")}
    headers = {"Accept": "application/json", "X-CSRFToken": token}
    assert client.post("/upload", data=data, headers=headers).status_code == 201


def test_a_queue_of_another_account_is_refused(ann, bob, app, make_user):
    for client, status in ((ann, 201), (bob, 409)):
        answer = client.post(
            "/upload",
            data={"image": (io.BytesIO(picture_bytes()), "a.jpg")},
            headers={"Accept": "application/json", "X-Account": str(make_user("ann"))},
        )
        assert answer.status_code == status
    assert answer.json["error"]["code"] == "other_account"
    assert [image.owner_id for image in rows(app)] == [make_user("ann")]
