"""Hundreds of damaged, hostile and odd files through the door that people use.

Each file is posted twice, as a program does and as a browser does. Whatever it is, the answer is a
page or JSON that says what happened; what is refused leaves nothing behind, and what is accepted
leaves three files and one row.
"""

import builtins
import io
import os
import random
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from PIL import EpsImagePlugin
from PIL import Image as Picture
from sqlalchemy import func, select

from apps.container import services
from apps.errors import InvalidImage
from apps.extensions import db
from apps.models import Image, User
from tests.conftest import picture_bytes, stored_files

CODES = {
    "not_a_picture",
    "truncated",
    "too_many_pixels",
    "too_large",
    "over_quota",
    "duplicate",
}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
}


@dataclass(frozen=True)
class Case:
    """One file. ``accepted`` None: either is right, as long as it is one or the other."""

    what: str
    data: bytes
    accepted: bool | None
    name: str = "picture.jpg"
    code: str | None = None  # of the refusal, where only one is right


# -- posting and looking -------------------------------------------------------------------


def multipart(files: list[tuple[bytes, bytes]]) -> tuple[bytes, str]:
    """(body, content type) of raw (name, data) pairs; the names may hold anything."""
    boundary = b"----a-boundary-that-no-file-contains"
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n%s\r\n" % (boundary, name, data)
        for name, data in files
    ]
    body = b"".join(parts) + b"--%s--\r\n" % boundary
    return body, f"multipart/form-data; boundary={boundary.decode()}"


def post(client: FlaskClient, *files: tuple[str, bytes], json: bool = False):
    """The answer to an upload; JSON is asked for as our own script does."""
    raw = [
        (name.encode().replace(b"\\", b"\\\\").replace(b'"', b"%22"), data) for name, data in files
    ]
    body, kind = multipart(raw)
    headers = {"Accept": "application/json"} if json else {}
    return client.post("/upload", data=body, content_type=kind, headers=headers)


def rows(app: Flask) -> list[Image]:
    with app.app_context():
        return list(db.session.scalars(select(Image).order_by(Image.id)))


def assert_nothing_stray(app: Flask) -> None:
    """Three files for each row below the storage folder, and no other file anywhere."""
    wanted = sorted(key for image in rows(app) for key in image.storage_keys)
    assert stored_files(app) == wanted
    instance = Path(app.instance_path)
    blobs = Path(app.config["STORAGE_ROOT"])
    others = {
        path.name
        for path in instance.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(blobs)
    }
    assert others <= {"testing.sqlite", "testing.sqlite-wal", "testing.sqlite-shm"}


def assert_refused(result: dict[str, object], case: Case) -> None:
    assert result["ok"] is False
    assert result["code"] in ({case.code} if case.code else CODES)
    assert isinstance(result["message"], str)
    assert len(result["message"]) > 10


def assert_stored(app: Flask, client: FlaskClient, case: Case, image_id: int) -> None:
    """One row, the untouched original and two clean derivatives, all of them served."""
    with app.app_context():
        image = db.session.get_one(Image, image_id)
        root = Path(app.config["STORAGE_ROOT"])
        assert (root / image.original_key).read_bytes() == case.data
        assert image.bytes == len(case.data)
        assert image.media_type == MEDIA_TYPES[image.extension]
        assert image.status == "done"
        for key, side in ((image.display_key, 2048), (image.thumbnail_key, 384)):
            with Picture.open(root / key) as derived:
                assert derived.format == "JPEG"
                assert max(derived.size) <= side
                assert max(derived.size) == min(side, max(image.width, image.height))
                assert not derived.getexif()
                assert not {"exif", "xmp", "icc_profile"} & set(derived.info)
    served = client.get(f"/images/{image.original_name}")
    assert served.data == case.data
    assert served.mimetype == image.media_type
    assert served.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in served.headers["Content-Security-Policy"]
    assert client.get(f"/images/{image_id}").status_code == 200


def check(app: Flask, program: FlaskClient, browser: FlaskClient, case: Case) -> None:
    """Post ``case`` as a program and as a browser, and hold both answers against the rules."""
    before = len(rows(app))
    answer = post(program, (case.name, case.data), json=True)
    assert answer.status_code in (201, 422)
    [result] = answer.json["results"]
    assert result["file"].strip()
    page = post(browser, (case.name, case.data))
    if result["ok"]:
        assert case.accepted is not False
        assert answer.status_code == 201
        assert page.status_code == 303
        assert len(rows(app)) == before + 2
        assert_stored(app, program, case, result["id"])
    else:
        assert case.accepted is not True, result
        assert answer.status_code == 422
        assert_refused(result, case)
        assert page.status_code == 422
        assert str(escape(result["message"])) in page.text
        assert len(rows(app)) == before


@pytest.fixture
def no_escape(app, monkeypatch) -> Iterator[None]:
    """No process is started, and no file is opened for writing outside the instance folder."""
    allowed = Path(app.instance_path)
    strays: list[str] = []

    def note(path: object) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            place = Path(os.fsdecode(path)).resolve()
            if not place.is_relative_to(allowed) and place != Path(os.devnull):
                strays.append(str(place))

    def watch(owner: object, name: str, writes: Callable[..., object]) -> None:
        original = getattr(owner, name)

        def watched(path, *args, **kwargs):
            if writes(*args, **kwargs):
                note(args[0] if name in ("replace", "rename") else path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    def by_mode(mode: str = "r", *_: object, **__: object) -> bool:
        return bool(set(mode) & set("wax+"))

    def by_flags(flags: int, *_: object, **__: object) -> int:
        return flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)

    for module in (builtins, io):
        watch(module, "open", by_mode)
    watch(os, "open", by_flags)
    for name in ("replace", "rename", "mkdir"):
        watch(os, name, lambda *_, **__: True)

    def never(*_: object, **__: object) -> None:
        pytest.fail("an upload started a program")  # no Exception, so nothing hides it

    monkeypatch.setattr(subprocess, "Popen", never)
    monkeypatch.setattr(os, "system", never)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    yield
    assert strays == []


# -- the files -----------------------------------------------------------------------------


def encoded(picture: Picture.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Picture.Image:
    """A picture whose bytes cannot be packed much, so that every part of its file matters."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture.fromarray(pixels)


def good_files() -> dict[str, bytes]:
    """A good file of each format and of the variants that plug-ins treat apart."""
    plain, other = noise(1), noise(2)
    clear = plain.convert("RGBA")
    clear.putalpha(Picture.linear_gradient("L").resize(plain.size))
    exif = Picture.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    several = {"save_all": True, "append_images": [other]}
    files = {format: encoded(plain, format) for format in FORMATS}
    files |= {
        "JPEG progressive with EXIF": encoded(plain, "JPEG", progressive=True, exif=exif),
        "PNG with alpha and EXIF": encoded(clear, "PNG", exif=exif),
        "APNG": encoded(plain, "PNG", **several),
        "WebP with alpha and EXIF": encoded(clear, "WEBP", exif=exif),
        "WebP lossless": encoded(plain, "WEBP", lossless=True),
        "WebP animated": encoded(plain, "WEBP", **several),
        "GIF animated": encoded(plain, "GIF", **several),
        "BMP palette": encoded(plain.quantize(16), "BMP"),
        "TIFF deflate": encoded(clear, "TIFF", compression="tiff_deflate", exif=exif),
        "TIFF lzw": encoded(plain, "TIFF", compression="tiff_lzw"),
        "TIFF jpeg": encoded(plain, "TIFF", compression="jpeg"),
        "TIFF of two pages": encoded(plain, "TIFF", **several),
        "BigTIFF": encoded(plain, "TIFF", big_tiff=True),
        "AVIF with alpha": encoded(clear, "AVIF"),
        "HEIC with alpha and EXIF": encoded(clear, "HEIF", exif=exif.tobytes()),
    }
    return files


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *extra: bytes, body: bytes = bytes(13 * 4)) -> bytes:
    """A PNG with valid checksums whose header promises ``width`` x ``height`` RGB pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rest = b"".join(extra) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + rest


def tiff(*entries: tuple[int, int, int, int], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one table of (tag, type, count, value or offset)."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + table + bytes(4) + body


def flat_tiff(width: int, height: int, **changed: int) -> bytes:
    """An uncompressed grey TIFF of one strip, some of whose entries say something else."""
    tags = {
        "width": (256, 4, width),
        "height": (257, 4, height),
        "bits": (258, 3, 8),
        "compression": (259, 3, 1),
        "photometric": (262, 3, 1),
        "offset": (273, 4, 8 + 2 + 10 * 12 + 4),
        "orientation": (274, 3, 1),
        "samples": (277, 3, 1),
        "rows": (278, 4, height),
        "bytes": (279, 4, width * height),
    }
    entries = [
        (tag, kind, 1, changed.get(name, value)) for name, (tag, kind, value) in tags.items()
    ]
    return tiff(*entries, body=bytes(min(width * height, 4096)))


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def zipped(content: bytes = b"<script>alert(1)</script>") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.html", content)
    return buffer.getvalue()


def truncated_files() -> Iterator[Case]:
    """The eight formats, cut at eight lengths."""
    for format in FORMATS:
        data = encoded(noise(3), format)
        for part in (0.02, 0.1, 0.25, 0.5, 0.75):
            length = max(2, int(len(data) * part))
            yield Case(f"{format} cut at {part:.0%}", data[:length], False)
        yield Case(f"{format} of one byte", data[:1], False)
        yield Case(f"{format} without its last byte", data[:-1], None)
        yield Case(f"{format} with its first half twice", data[: len(data) // 2] * 2, None)


def flipped_files() -> Iterator[Case]:
    """Every good file with a few bytes changed, mostly in its header; the seeds are fixed."""
    for what, data in good_files().items():
        for seed in range(5):
            dice = random.Random(f"{what} {seed}")
            broken = bytearray(data)
            end = len(broken) if seed % 2 else min(len(broken), 200)
            for _ in range(dice.choice((1, 2, 4, 16))):
                place = dice.randrange(end)
                broken[place] = dice.choice((0, 1, 0x7F, 0xFF, broken[place] ^ 0x80))
            yield Case(f"{what}, flips {seed}", bytes(broken), None)


def broken_tiff_tags() -> Iterator[Case]:
    """Each entry of a TIFF table in turn says something that cannot be."""
    data = encoded(noise(4, (12, 9)), "TIFF", compression="tiff_deflate")
    start = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, start)[0]):
        place = start + 2 + 12 * index
        tag = struct.unpack_from("<H", data, place)[0]
        for what, offset, new in (
            ("type 0", 2, b"\0\0"),
            ("type 12", 2, b"\x0c\0"),
            ("count 0", 4, bytes(4)),
            ("count of four billion", 4, b"\xff" * 4),
            ("value 0", 8, bytes(4)),
            ("value beyond the file", 8, b"\xff" * 4),
        ):
            yield Case(f"TIFF tag {tag} {what}", patched(data, place + offset, new), None)
    for name, value in (
        ("compression", 99),
        ("bits", 0),
        ("bits", 65535),
        ("photometric", 99),
        ("samples", 65535),
        ("offset", 0xFFFFFFFF),
        ("rows", 0),
        ("orientation", 9),
    ):
        yield Case(f"TIFF {name} {value}", flat_tiff(4, 4, **{name: value}), None)
    yield Case("TIFF table beyond the end", b"II*\0" + b"\xff" * 4 + bytes(64), False)
    yield Case("TIFF of no entries", tiff(), False)
    yield Case("TIFF table that is its own successor", data[:-4] + data[4:8], None)
    for seed in range(15):
        dice = random.Random(seed)
        entries = [
            (dice.choice((256, 257, 258, 259, 262, 273, 277, 279, dice.randrange(65536))),
             dice.randrange(14), dice.choice((0, 1, 2, 2**32 - 1)), dice.randrange(2**32))
            for _ in range(dice.randrange(1, 30))
        ]  # fmt: skip
        yield Case(f"TIFF of random entries {seed}", tiff(*entries, body=bytes(99)), None)


def foreign_files() -> Iterator[Case]:
    """What is no picture, or none that is accepted, under the name of one."""
    page = b"<!doctype html><html><script>alert(1)</script></html>"
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\nshowpage\n"
    jpeg = encoded(noise(5), "JPEG")
    files = {
        "nothing at all": b"",
        "one byte": b"\xff",
        "zeros": bytes(1 << 18),
        "HTML": page,
        "SVG": svg,
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "PDF with a JPEG inside": b"%PDF-1.4\n" + jpeg,
        "EPS": eps,
        "PostScript": b"%!\n/Times-Roman findfont (%pipe%touch /tmp/owned) (w) file\n",
        "EPS with a preview": b"\xc5\xd0\xd3\xc6" + struct.pack("<IIII", 32, 90, 0, 0) + eps,
        "EPS from a Mac": eps.replace(b"\n", b"\r"),
        "Photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(400),
        "ZIP": zipped(),
        "ZIP with a JPEG after it": zipped() + jpeg,
        "a pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93.",
        "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
        "a film": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(64),
        "a text that starts as a bitmap does": b"BM is short for bitmap. " * 9,
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(20),
        "a set of icons": b"icns\0\0\0\x18ic07\0\0\0\x10\x89PNG\r\n\x1a\n",
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "XBM": b"#define x_width 8\n#define x_height 8\nstatic char x_bits[] = {0};\n",
        "RIFF that is no WebP": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
        "a JPEG after a line break": b"\n" + jpeg,
        "an offer of HEIC alone": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "an offer of AVIF alone": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
        "a GIF of a header alone": b"GIF89a\x08\0\x08\0\0\0\0;",
        "a JPEG of a start and an end": b"\xff\xd8\xff\xd9",
        "a JPEG whose tables overflow": b"\xff\xd8\xff\xc4\xff\xff" + b"\xff" * 300,
        "a PNG of a signature alone": b"\x89PNG\r\n\x1a\n",
        "a PNG of a wrong checksum": patched(png(4, 4), 29, b"\0\0\0\0"),
    }
    for what, data in files.items():
        yield Case(what, data, False)
    for format in (
        "ICO",
        "PPM",
        "PCX",
        "TGA",
        "SGI",
        "JPEG2000",
        "DIB",
        "DDS",
        "MSP",
    ):
        small = noise(6, (16, 16)).convert("1" if format == "MSP" else "RGB")
        yield Case(f"a real {format}", encoded(small, format), False, code="not_a_picture")


def polyglots() -> Iterator[Case]:
    """Good pictures that are something else as well: kept as they are, served as pictures."""
    script = b"<script>alert(document.cookie)</script>"
    gif, jpeg = encoded(noise(7), "GIF"), encoded(noise(7), "JPEG")
    yield Case("GIF and HTML", gif + script, True, "picture.html")
    yield Case("GIF and JavaScript", gif[:-1] + b";/*" + script + b"*/=1", True, "x.js")
    yield Case("JPEG and ZIP", jpeg + zipped(), True, "archive.zip")
    yield Case("JPEG with HTML as its comment", encoded(noise(8), "JPEG", comment=script), True)
    yield Case("PNG with a script", png(4, 4, chunk(b"tEXt", b"Title\0" + script)), True, "x.php")
    yield Case("PNG with PHP after it", encoded(noise(9), "PNG") + b"<?php phpinfo(); ?>", True)
    yield Case("BMP and a shell script", encoded(noise(9), "BMP") + b"\nrm -rf /\n", True, "x.sh")
    yield Case("WebP with a page after it", encoded(noise(10), "WEBP") + script, True)


def huge_headers() -> Iterator[Case]:
    """Small files that promise pictures far beyond the limit, or of no size at all."""
    pixels = "too_many_pixels"
    yield Case("PNG of 50,000 squared", png(50_000, 50_000), False, code=pixels)
    yield Case("PNG of 2^31 - 1 squared", png(2**31 - 1, 2**31 - 1), False)
    yield Case("PNG of 2^32 - 5 by 4", png(2**32 - 5, 4), False)
    gif = encoded(noise(11), "GIF")
    yield Case("GIF of 65,535 squared", patched(gif, 6, b"\xff" * 4), False, code=pixels)
    yield Case("GIF of no size", patched(gif, 6, bytes(4)), None)
    bmp = encoded(noise(11), "BMP")
    for width, height in (
        (2**31 - 1, 2**31 - 1),
        (60_000, 60_000),
        (-5, -5),
        (0, 0),
        (40, -(2**31)),
    ):
        data = patched(bmp, 18, struct.pack("<ii", width, height))
        yield Case(f"BMP of {width} x {height}", data, False)
    yield Case("BMP from its top", patched(bmp, 22, struct.pack("<i", -30)), True)
    yield Case("TIFF of 50,000 squared", flat_tiff(50_000, 50_000, bytes=9), False, code=pixels)
    yield Case("TIFF of no width", flat_tiff(0, 9), False)
    yield Case("TIFF of no size", flat_tiff(0, 0), False)
    animated = encoded(noise(12), "WEBP", save_all=True, append_images=[noise(13)])
    canvas = animated.index(b"VP8X") + 12
    yield Case("WebP of 16,383 squared", patched(animated, canvas, b"\xfe\x3f\0" * 2), False)
    yield Case("WebP of 2^24 squared", patched(animated, canvas, b"\xff" * 6), False)
    jpeg = encoded(noise(12), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    yield Case("JPEG of 65,500 squared", patched(jpeg, frame, b"\xff\xdc" * 2), False, code=pixels)
    yield Case("JPEG of no size", patched(jpeg, frame, bytes(4)), False)
    for format in ("AVIF", "HEIF"):
        data = encoded(noise(12), format)
        place = data.index(b"ispe") + 8
        for side in (0, 2**16, 2**31, 2**32 - 1):
            changed = patched(data, place, struct.pack(">II", side, side))
            yield Case(f"{format} of {side} squared", changed, False)
    yield Case("PNG of no size", png(0, 0), False)
    yield Case("PNG of no height", png(4, 0), False)
    yield Case("PNG that ends early", png(400, 400), False, code="truncated")
    flood = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20)))
    yield Case("PNG of more text than memory", png(4, 4, flood), False)
    frames = chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))
    yield Case("APNG of four billion frames", png(4, 4, frames), None)


def odd_metadata() -> Iterator[Case]:
    """Good pixels under metadata that is garbage: people want their picture, not a lecture."""
    garbage = random.Random(1).randbytes(300)
    tables = {
        "no TIFF": b"Exif\0\0" + garbage,
        "a table beyond the end": b"Exif\0\0MM\0*\xff\xff\xff\xff",
        "a table that is cut": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\3\0" * 9,
        "an orientation of text": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0",
        "an orientation of 99": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63" + bytes(7),
        "a table that holds itself": b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08"
        + bytes(7),
    }
    for number, (what, exif) in enumerate(tables.items()):
        yield Case(f"JPEG, EXIF is {what}", encoded(noise(20 + number), "JPEG", exif=exif), True)
        yield Case(f"WebP, EXIF is {what}", encoded(noise(20 + number), "WEBP", exif=exif), True)
        yield Case(f"PNG, EXIF is {what}", encoded(noise(20 + number), "PNG", exif=exif), None)
        yield Case(f"AVIF, EXIF is {what}", picture_of("AVIF", 20 + number, exif), None)
        yield Case(f"HEIC, EXIF is {what}", picture_of("HEIF", 20 + number, exif), None)
    xmp = b'<x tiff:Orientation="777777777777" \xff\xfe\0 <!ENTITY a SYSTEM "file:///etc/passwd">'
    for format in ("JPEG", "WEBP", "TIFF"):
        options = {"tiffinfo": {700: xmp}} if format == "TIFF" else {"xmp": xmp}
        yield Case(f"{format}, XMP garbage", encoded(noise(30), format, **options), True)
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(noise(31), format, icc_profile=garbage)
        yield Case(f"{format}, colour profile of garbage", data, True)
    mpf = b"\xff\xe2" + struct.pack(">H", 40) + b"MPF\0" + garbage[:34]
    jpeg = encoded(noise(32), "JPEG")
    yield Case("JPEG, garbage as its index of pictures", jpeg[:2] + mpf + jpeg[2:], None)


def picture_of(format: str, seed: int, exif: bytes) -> bytes:
    """A file whose EXIF block holds anything: the encoder would check ``exif`` itself."""
    marker = Picture.Exif()
    marker[0x010F] = "x" * 400
    plain = marker.tobytes()
    data = encoded(noise(seed), format, exif=plain)
    body = plain.removeprefix(b"Exif\0\0")
    place = data.index(body[:12])
    return patched(data, place, exif.removeprefix(b"Exif\0\0").ljust(len(body), b"\0")[: len(body)])


def odd_pictures() -> Iterator[Case]:
    """Good pictures of every mode and of strange shapes."""
    for what, data in good_files().items():
        yield Case(what, data, True)
    base = noise(40)
    ramp = np.linspace(0, 65535, 1200).reshape(30, 40)
    palette = base.quantize(8)
    files = {
        "CMYK JPEG": encoded(base.convert("CMYK"), "JPEG"),
        "CMYK TIFF": encoded(base.convert("CMYK"), "TIFF"),
        "16-bit PNG": encoded(Picture.fromarray(ramp.astype(np.uint16)), "PNG"),
        "16-bit TIFF": encoded(Picture.fromarray(ramp.astype(np.uint16)), "TIFF"),
        "float TIFF": encoded(Picture.fromarray(ramp.astype(np.float32)), "TIFF"),
        "float TIFF of no numbers": encoded(
            Picture.fromarray((ramp * np.nan).astype("f4")), "TIFF"
        ),
        "32-bit TIFF": encoded(Picture.fromarray(ramp.astype(np.int32)), "TIFF"),
        "palette PNG with a clear entry": encoded(palette, "PNG", transparency=0),
        "palette PNG with half-clear entries": encoded(
            palette, "PNG", transparency=bytes(range(8))
        ),
        "palette GIF with a clear entry": encoded(palette, "GIF", transparency=0),
        "1-bit PNG": encoded(base.convert("1"), "PNG"),
        "1-bit TIFF as a fax": encoded(base.convert("1"), "TIFF", compression="group4"),
        "grey with alpha": encoded(base.convert("LA"), "PNG"),
        "grey JPEG": encoded(base.convert("L"), "JPEG"),
        "interlaced GIF": encoded(base, "GIF", interlace=True),
        "multi-picture JPEG": encoded(base, "MPO", save_all=True, append_images=[noise(41)]),
        "TIFF of Lab colours": encoded(Picture.new("LAB", (9, 9), (99, 120, 130)), "TIFF"),
        "one pixel": encoded(Picture.new("RGB", (1, 1)), "PNG"),
        "1 x 20,000": encoded(Picture.new("RGB", (1, 20_000)), "PNG"),
        "20,000 x 1": encoded(Picture.new("RGB", (20_000, 1)), "PNG"),
        "3,000 x 2": encoded(Picture.new("RGB", (3000, 2)), "WEBP"),
        "2,100 x 1,500": encoded(Picture.new("RGB", (2100, 1500), "teal"), "JPEG"),
    }
    for what, data in files.items():
        yield Case(what, data, True)


def wrong_names() -> Iterator[Case]:
    """The bytes decide what a file is; its name may say anything."""
    for number, extension in enumerate(
        ("jpg", "png", "gif", "svg", "html", "php", "exe", "pdf", "eps", "txt", "")
    ):
        for format in ("JPEG", "PNG"):
            data = encoded(noise(50 + number), format)
            yield Case(f"{format} named .{extension}", data, True, f"x.{extension}")


GROUPS = {
    group.__name__: group
    for group in (
        truncated_files,
        flipped_files,
        broken_tiff_tags,
        foreign_files,
        polyglots,
        huge_headers,
        odd_metadata,
        odd_pictures,
        wrong_names,
    )
}


def test_there_are_hundreds_of_files():
    assert sum(1 for group in GROUPS.values() for _ in group()) >= 400


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_is_either_stored_whole_or_refused_with_a_reason(
    group, app, ann, bob, no_escape
):
    for case in GROUPS[group]():
        try:
            check(app, ann, bob, case)
        except Exception as error:
            error.add_note(f"file: {case.what}, {len(case.data)} bytes")
            raise
    assert_nothing_stray(app)


def test_a_promise_of_too_many_pixels_is_refused_before_any_pixel_is_decoded(ann, app, monkeypatch):
    def never(self: object, *_: object) -> None:
        raise MemoryError("a pixel was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    answer = post(ann, ("bomb.png", png(50_000, 50_000)), json=True)
    [result] = answer.json["results"]
    assert result["code"] == "too_many_pixels"
    assert "50000 × 50000" in result["message"]
    assert_nothing_stray(app)


# -- names ---------------------------------------------------------------------------------

NAMES = {
    "../../../../tmp/owned.jpg": "owned.jpg",
    "..\\..\\windows\\owned.jpg": "owned.jpg",
    "/etc/cron.d/owned": "owned",
    "C:\\owned.jpg": "owned.jpg",
    "....//....//owned.jpg": "owned.jpg",
    "%2e%2e%2fowned.jpg": "%2e%2e%2fowned.jpg",
    "nul\0byte.jpg": "nulbyte.jpg",
    "🐈‍⬛ über 고양이.jpg": "🐈⬛ über 고양이.jpg",
    "x" * 300 + ".jpg": "x" * 115 + "….jpg",
    "é" * 300: "é" * 120,
    "CON": "CON",
    "nul.jpg": "nul.jpg",
    "...hidden.jpg": "hidden.jpg",
    ".htaccess": "htaccess",
    "..": "picture",
    "/": "picture",
    " ": "picture",
    "\u202egpj.exe": "gpj.exe",
    "a\u2028b\u2029c.jpg": "abc.jpg",
    'quote".jpg': 'quote".jpg',
    "it's.jpg": "it's.jpg",
    "<script>alert(1)<!script>.jpg": "<script>alert(1)<!script>.jpg",
    "{{ 7*7 }}%s%(x)s.jpg": "{{ 7*7 }}%s%(x)s.jpg",
    "'; drop table images; --.jpg": "'; drop table images; --.jpg",
    "=cmd|' !A1.csv": "=cmd|' !A1.csv",
    "tab\there.jpg": "tabhere.jpg",
}


def test_a_name_is_a_title_for_people_and_never_a_path(ann, app, no_escape):
    for name, title in NAMES.items():
        answer = post(ann, (name, picture_bytes()), json=True)
        assert answer.status_code == 201, (name, answer.text)
        [result] = answer.json["results"]
        assert result["file"] == title, name
        page = ann.get(result["url"])
        assert page.status_code == 200
        assert str(escape(title)) in page.text
        assert "<script>alert" not in page.text
        saved = ann.get(f"{rows(app)[-1].original_name.join(('/images/', ''))}?download=1")
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert "\n" not in saved.headers["Content-Disposition"]
        for kind in ("annotated", "boxes.json"):
            assert ann.get(f"{result['url']}/{kind}").status_code == 200
    assert ann.get("/").status_code == 200
    assert_nothing_stray(app)


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize(
    "name",
    [b"", b"\xff\xfe.jpg", b"\xed\xa0\x80.jpg", b"new\r\nX-Evil: yes\r\n\r\nline.jpg", b'a"; b="c'],
)
def test_a_name_that_breaks_the_form_itself_breaks_nothing_else(ann, app, name, json):
    body, kind = multipart([(name, picture_bytes())])
    headers = {"Accept": "application/json"} if json else {}
    answer = ann.post("/upload", data=body, content_type=kind, headers=headers)
    assert answer.status_code in (201, 303, 400, 422)
    assert "X-Evil" not in answer.headers
    assert_nothing_stray(app)


def test_a_refused_name_is_shown_as_text_and_not_as_markup(ann):
    page = post(ann, ("<img src=x onerror=alert(1)>.jpg", b"no picture"))
    assert page.status_code == 422
    assert "<img src=x" not in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page.text


# -- many files in one request -------------------------------------------------------------


def mixed() -> list[tuple[str, bytes, str | None]]:
    """(name, data, code of the refusal or None): good files between bad ones."""
    twice = picture_bytes()
    return [
        ("1-good.jpg", picture_bytes(), None),
        ("2-page.jpg", b"<html></html>", "not_a_picture"),
        ("3-good.png", picture_bytes(format="PNG"), None),
        ("4-empty.png", b"", "not_a_picture"),
        ("5-huge.png", png(50_000, 50_000), "too_many_pixels"),
        ("6-good.jpg", twice, None),
        ("7-again.jpg", twice, "duplicate"),
        ("8-cut.jpg", encoded(noise(60), "JPEG")[:400], "truncated"),
        ("9-good.webp", picture_bytes(format="WEBP"), None),
    ]


def test_good_files_go_on_among_bad_ones_in_their_order(ann, app):
    files = mixed()
    answer = post(ann, *((name, data) for name, data, _ in files), json=True)
    assert answer.status_code == 201
    results = answer.json["results"]
    assert [result["file"] for result in results] == [name for name, _, _ in files]
    assert [result.get("code") for result in results] == [code for _, _, code in files]
    assert all(result["message"] for result in results if not result["ok"])
    assert [image.title[0] for image in rows(app)] == ["1", "3", "6", "9"]
    assert_nothing_stray(app)


def test_the_page_lists_every_file_in_order_and_why_it_was_refused(ann, app):
    files = mixed()
    page = post(ann, *((name, data) for name, data, _ in files))
    assert page.status_code == 200
    assert "4 of 9 files were uploaded" in page.text
    places = [page.text.index(name) for name, _, _ in files]
    assert places == sorted(places)
    for text in ("uploaded this picture already", "The file is empty", "cut short", "megapixels"):
        assert text in page.text
    assert len(rows(app)) == 4


def test_many_good_files_lead_to_the_gallery(ann, app):
    files = [(f"{number}.jpg", picture_bytes()) for number in range(20)]
    answer = post(ann, *files)
    assert answer.status_code == 303
    assert answer.location == "/"
    assert len(stored_files(app)) == 60


def test_only_bad_files_are_422(ann, app):
    answer = post(ann, ("a.jpg", b""), ("b.jpg", b"<html>"), json=True)
    assert answer.status_code == 422
    assert [result["ok"] for result in answer.json["results"]] == [False, False]
    assert rows(app) == []
    assert_nothing_stray(app)


def test_no_file_at_all_is_said_to_be_missing(ann):
    answer = ann.post("/upload", headers={"Accept": "application/json"})
    assert answer.status_code == 422
    assert answer.json["error"]["code"] == "no_file"
    assert answer.json["error"]["message"]
    page = ann.post("/upload", data={"image": "text instead of a file"})
    assert page.status_code == 422
    assert "Choose at least one picture" in page.text


# Werkzeug leaves the files of a form that it gives up on to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_request_that_breaks_off_stores_nothing(ann, app, cut):
    body, kind = multipart([(b"a.jpg", picture_bytes(size=(300, 300)))])
    answer = ann.post("/upload", data=body[: int(len(body) * cut)], content_type=kind)
    assert 400 <= answer.status_code < 500
    assert_nothing_stray(app)
    assert rows(app) == []


# -- limits --------------------------------------------------------------------------------


def person(app: Flask, name: str = "ann", **values: object) -> FlaskClient:
    """A logged-in client of an application that has its own settings."""
    with app.app_context():
        user = User(username=name, email=f"{name}@example.com", password="x", **values)
        db.session.add(user)
        db.session.commit()
        key = user.fs_uniquifier
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"] = key
        session["_fresh"] = True
    return client


def test_a_file_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not(make_app):
    data = picture_bytes()
    app = make_app(MAX_FILE_BYTES=len(data))
    client = person(app)
    answer = post(client, ("fits.jpg", data), ("large.jpg", data + b"\0"), json=True)
    assert [result.get("code") for result in answer.json["results"]] == [None, "too_large"]
    assert "larger than" in answer.json["results"][1]["message"]
    assert_nothing_stray(app)


def test_a_full_account_is_told_so_until_it_makes_room(make_app):
    first, second = picture_bytes(), picture_bytes()
    app = make_app(USER_QUOTA_BYTES=len(first) + len(second) - 1)
    client = person(app)
    answer = post(client, ("1.jpg", first), ("2.jpg", second), json=True)
    assert [result.get("code") for result in answer.json["results"]] == [None, "over_quota"]
    assert "full" in answer.json["results"][1]["message"]
    assert_nothing_stray(app)
    client.post(f"/images/delete/{answer.json['results'][0]['id']}")
    assert post(client, ("2.jpg", second), json=True).status_code == 422  # the trash counts
    client.post("/trash/delete", data={"all": "1", "confirmed": "1"})
    assert stored_files(app) == []
    assert post(client, ("2.jpg", second), json=True).status_code == 201


def test_the_space_of_one_account_can_be_set_apart(make_app):
    app = make_app(USER_QUOTA_BYTES=1)
    assert post(person(app, "ann"), ("a.jpg", picture_bytes()), json=True).status_code == 422
    free = person(app, "bob", quota_bytes=0)
    assert post(free, ("a.jpg", picture_bytes()), json=True).status_code == 201
    tight = person(app, "cleo", quota_bytes=10)
    [result] = post(tight, ("a.jpg", picture_bytes()), json=True).json["results"]
    assert result["code"] == "over_quota"


def test_the_same_bytes_are_a_duplicate_for_one_account_and_new_for_another(ann, bob, app):
    data = picture_bytes()
    assert post(ann, ("a.jpg", data)).status_code == 303
    answer = post(ann, ("other-name.png", data), json=True)
    assert answer.status_code == 422
    [result] = answer.json["results"]
    assert result["code"] == "duplicate"
    assert "already" in result["message"]
    assert post(bob, ("a.jpg", data), json=True).status_code == 201
    assert len(rows(app)) == 2
    assert_nothing_stray(app)


def test_a_deleted_picture_may_come_again(ann, app):
    data = picture_bytes()
    first = post(ann, ("a.jpg", data), json=True).json["results"][0]["id"]
    ann.post(f"/images/delete/{first}")
    assert post(ann, ("a.jpg", data), json=True).status_code == 201
    ann.post("/trash/delete", data={"all": "1", "confirmed": "1"})
    assert_nothing_stray(app)


@pytest.mark.parametrize("json", [True, False])
def test_a_request_that_is_too_large_as_a_whole_is_413_with_a_text(make_app, json):
    app = make_app(MAX_CONTENT_LENGTH=5000)
    client = person(app)
    answer = post(client, *((f"{n}.jpg", picture_bytes()) for n in range(20)), json=json)
    assert answer.status_code == 413
    text = answer.json["error"]["message"] if json else answer.text
    assert "Send fewer or smaller files" in text
    assert rows(app) == []
    assert_nothing_stray(app)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_more_parts_than_the_limit_are_413(make_app):
    app = make_app(MAX_FORM_PARTS=10)
    answer = post(person(app), *((f"{n}.jpg", b"") for n in range(11)), json=True)
    assert answer.status_code == 413
    assert_nothing_stray(app)


def test_nobody_uploads_without_an_account(app):
    answer = post(app.test_client(), ("a.jpg", picture_bytes()))
    assert answer.status_code in (302, 303, 401)
    assert rows(app) == []
    assert_nothing_stray(app)


# -- failures of the machine itself --------------------------------------------------------


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_full_disk_leaves_neither_files_nor_a_row(app, make_user, monkeypatch, fails_at):
    storage = type(services(app).storage)
    put, calls = storage.put, []

    def failing(self, key: str, data: bytes) -> None:
        calls.append(key)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        put(self, key, data)

    monkeypatch.setattr(storage, "put", failing)
    owner = make_user("ann")
    with app.app_context():
        with pytest.raises(InvalidImage, match="storage is full"):
            services().uploads.upload(owner, "a.jpg", io.BytesIO(picture_bytes()))
        assert db.session.scalar(select(func.count()).select_from(Image)) == 0
    assert_nothing_stray(app)


def test_the_original_is_kept_byte_for_byte(app, make_user):
    owner = make_user("ann")
    for what, data in good_files().items():
        with app.app_context():
            image = services().uploads.upload(owner, what, io.BytesIO(data))
            assert services().images.read_original(image) == data
