"""Bytes to upright RGB pictures, whatever the format, the mode and the intentions."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from apps.errors import InvalidImage
from apps.vision import bombs
from apps.vision.decode import (
    ACCEPTED,
    DISPLAY_SIDE,
    THUMBNAIL_SIDE,
    decode,
    derivatives,
    flatten,
    orientation,
    safe_title,
    shrunk,
    upright_size,
)
from tests.conftest import picture_bytes

RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 180, 40), (40, 60, 210), (128, 128, 128)


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """48 x 32 with a colour in each corner: red, green, blue, grey from the left top by rows."""
    picture = Image.new("RGB", (48, 32), RED)
    picture.paste(GREEN, (24, 0, 48, 16))
    picture.paste(BLUE, (0, 16, 24, 32))
    picture.paste(GREY, (24, 16, 48, 32))
    return picture


def near(found: object, wanted: tuple[int, int, int], slack: int = 12) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= slack for a, b in zip(found, wanted, strict=True))


def assert_corners(picture: Image.Image, slack: int = 12) -> None:
    assert picture.mode == "RGB"
    assert picture.size == (48, 32)
    for place, color in (((4, 4), RED), ((43, 4), GREEN), ((4, 27), BLUE), ((43, 27), GREY)):
        assert near(picture.getpixel(place), color, slack), (place, picture.getpixel(place))


def refusal(data: bytes, max_pixels: int | None = None) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        decode(data, max_pixels)
    assert str(caught.value).strip()
    return caught.value


# -- orientation ---------------------------------------------------------------------------

# How a camera that is held so stores the picture: the inverse of what makes it upright.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_exif_orientation_ends_upright(format, orientation):
    turn = STORED_AS[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, format, exif=exif.tobytes())
    assert_corners(decode(data).picture, slack=25)


def test_a_picture_is_turned_once_however_often_it_is_decoded():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(corners().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    again = encoded(decode(data).picture, "PNG")
    assert_corners(decode(again).picture)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0not a TIFF structure at all",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x07\0\xff\xff\xff\xff" * 5,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
        b"",
    ],
)
def test_a_good_picture_with_damaged_exif_data_is_taken_as_upright(exif):
    assert_corners(decode(encoded(corners(), "JPEG", exif=exif, quality=95)).picture)


# -- formats and modes ---------------------------------------------------------------------

FORMATS = {
    "JPEG": ("jpg", "image/jpeg"),
    "PNG": ("png", "image/png"),
    "WEBP": ("webp", "image/webp"),
    "GIF": ("gif", "image/gif"),
    "BMP": ("bmp", "image/bmp"),
    "TIFF": ("tif", "image/tiff"),
    "AVIF": ("avif", "image/avif"),
    "HEIF": ("heic", "image/heic"),
}


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_gives_the_right_colours_extension_and_media_type(format):
    decoded = decode(encoded(corners(), format))
    assert_corners(decoded.picture, slack=25)
    assert (decoded.extension, decoded.media_type) == FORMATS[format]


def test_the_text_for_people_names_every_accepted_format():
    assert {name.upper() for name in ACCEPTED.split(", ")} == {*FORMATS, "HEIC"} - {"HEIF"}


def test_a_multi_picture_jpeg_of_a_phone_is_a_jpeg():
    data = encoded(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))])
    decoded = decode(data)
    assert_corners(decoded.picture, slack=25)
    assert decoded.extension == "jpg"


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits"])
def test_tiff_compressions_are_read(compression):
    assert_corners(decode(encoded(corners(), "TIFF", compression=compression)).picture, slack=30)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "PNG", "TIFF", "AVIF", "HEIF"])
def test_of_several_frames_the_first_is_taken(format):
    others = [Image.new("RGB", (48, 32), "black"), Image.new("RGB", (48, 32), "white")]
    data = encoded(corners(), format, save_all=True, append_images=others)
    assert_corners(decode(data).picture, slack=25)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_neither_inverted_nor_refused(format):
    data = encoded(corners().convert("CMYK"), format)
    assert_corners(decode(data).picture, slack=25)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped_to_white(format, dtype):
    ramp = np.linspace(0, 65535, 256).astype(dtype).reshape(16, 16)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), format)).picture).astype(int)
    assert np.abs(found[..., 0] - np.arange(256).reshape(16, 16)).max() <= 1
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_camera_of_8_or_12_bits_in_a_16_bit_file_is_not_black(white):
    ramp = np.linspace(0, white, 256).astype(np.uint16).reshape(16, 16)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")).picture).astype(int)
    assert np.abs(found[..., 0] - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_nearly_black_16_bit_picture_stays_nearly_black(level):
    flat = Image.fromarray(np.full((8, 8), level, np.uint16))
    assert near(decode(encoded(flat, "PNG")).picture.getpixel((3, 3)), (level,) * 3, slack=0)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6])
def test_float_tiff_is_scaled_by_its_range(top):
    ramp = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")).picture).astype(int)
    assert np.abs(found[..., 0] - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, -5.0])
def test_numbers_that_are_no_brightness_do_no_harm(strange):
    pixels = np.full((8, 8), 0.5, np.float32)
    pixels[0, 0] = strange
    assert decode(encoded(Image.fromarray(pixels), "TIFF")).picture.mode == "RGB"


def test_32_bit_integers_are_scaled():
    ramp = np.linspace(0, 200_000, 256).astype(np.int32).reshape(16, 16)
    found = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")).picture).astype(int)
    assert np.abs(found[..., 0] - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_transparency_is_laid_over_white(format):
    picture = corners().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 24, 32))
    found = decode(encoded(picture, format)).picture
    assert near(found.getpixel((4, 4)), (255, 255, 255), slack=8)
    assert near(found.getpixel((43, 4)), GREEN, slack=25)


def test_half_transparent_grey_is_half_white():
    found = decode(encoded(Image.new("LA", (8, 8), (0, 128)), "PNG")).picture
    assert near(found.getpixel((3, 3)), (127, 127, 127), slack=2)


def test_a_transparent_palette_entry_is_white():
    picture = corners().quantize(4, dither=Image.Dither.NONE)
    index = picture.getpixel((4, 4))
    for format in ("PNG", "GIF"):
        found = decode(encoded(picture, format, transparency=index)).picture
        assert near(found.getpixel((4, 4)), (255, 255, 255), slack=0)
        assert near(found.getpixel((43, 4)), GREEN)


def test_one_transparent_colour_of_an_rgb_png_is_white():
    found = decode(encoded(corners(), "PNG", transparency=RED)).picture
    assert near(found.getpixel((4, 4)), (255, 255, 255), slack=0)
    assert near(found.getpixel((43, 4)), GREEN, slack=0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I"])
def test_each_mode_that_a_tiff_can_have_becomes_rgb(mode):
    picture = Image.new("L", (8, 8), 255)
    data = encoded(picture if mode == "LAB" else picture.convert(mode), "TIFF")
    if mode == "LAB":
        data = encoded(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF")
    found = decode(data).picture
    assert found.mode == "RGB"
    assert near(found.getpixel((3, 3)), (255, 255, 255), slack=3)


def test_black_and_white_stays_black_and_white():
    picture = Image.new("1", (8, 8))
    picture.paste(1, (4, 0, 8, 8))
    for format in ("PNG", "TIFF", "GIF", "BMP"):
        found = decode(encoded(picture, format)).picture
        assert found.getpixel((1, 1)) == (0, 0, 0)
        assert found.getpixel((6, 1)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2)])
def test_odd_sizes_work_down_to_the_thumbnail(size):
    picture = decode(encoded(Image.new("RGB", size, RED), "PNG")).picture
    assert picture.size == size
    for data, side in zip(derivatives(picture), (DISPLAY_SIDE, THUMBNAIL_SIDE), strict=True):
        with Image.open(io.BytesIO(data)) as file:
            assert max(file.size) == min(max(size), side)
            assert min(file.size) >= 1


def test_a_picture_without_alpha_is_not_copied():
    picture = corners()
    assert flatten(picture) is picture


# -- derivatives ---------------------------------------------------------------------------


def test_derivatives_are_jpeg_bounded_and_carry_nothing_of_the_original():
    exif = Image.Exif()
    exif[0x010F] = "a secret maker"
    secret = {"exif": exif, "xmp": b"<x>secret</x>", "comment": b"secret"}
    data = encoded(Image.new("RGB", (3000, 1000), RED), "JPEG", **secret)
    for derived, side in zip(
        derivatives(decode(data).picture), (DISPLAY_SIDE, THUMBNAIL_SIDE), strict=True
    ):
        assert b"secret" not in derived
        with Image.open(io.BytesIO(derived)) as file:
            assert file.format == "JPEG"
            assert file.size == (side, round(side / 3))
            assert not file.getexif()
            assert not {"exif", "xmp", "comment"} & set(file.info)


def test_a_small_picture_is_not_blown_up():
    assert shrunk(corners(), 400).size == (48, 32)


# -- refusals ------------------------------------------------------------------------------


def test_an_empty_file_says_that_it_is_empty():
    error = refusal(b"")
    assert error.code == "not_a_picture"
    assert "empty" in str(error)


@pytest.mark.parametrize(
    "data", [b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"BM", b"\0" * 99]
)
def test_what_is_no_picture_is_told_which_formats_are(data):
    error = refusal(data)
    assert error.code == "not_a_picture"
    assert ACCEPTED in str(error)


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"BMP"}))
def test_a_file_that_ends_inside_its_header_is_called_damaged_and_not_foreign(format):
    assert refusal(encoded(corners(), format)[:24]).code == "truncated"


@pytest.mark.parametrize("format", FORMATS)
def test_half_a_file_is_refused(format):
    data = encoded(Image.effect_noise((64, 48), 90).convert("RGB"), format)
    assert refusal(data[: len(data) // 2]).code == "truncated"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG with valid checksums whose header promises ``width`` x ``height`` RGB pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 49))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch):
    def never(self: object, *_: object) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    error = refusal(png(50_000, 50_000), max_pixels=64_000_000)
    assert error.code == "too_many_pixels"
    assert "50000 × 50000" in str(error)
    assert "64.0 megapixels" in str(error)


def test_the_limit_of_pixels_itself_is_allowed():
    data = encoded(corners(), "PNG")
    assert decode(data, 48 * 32).picture.size == (48, 32)
    assert refusal(data, 48 * 32 - 1).code == "too_many_pixels"


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_a_header_that_understates_its_size_gains_nothing(format):
    data = bytearray(encoded(Image.new("RGB", (512, 512), RED), format))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", 64, 64)
    try:
        size = decode(bytes(data), 64 * 64).picture.size
    except InvalidImage:
        return
    assert size == (64, 64)


@pytest.mark.parametrize("size", [(0, 0), (0, 4), (4, 0)])
def test_a_picture_without_pixels_is_refused(size):
    assert refusal(png(*size)).code == "truncated"


# -- files built to be expensive -----------------------------------------------------------


def table(*entries: tuple[int, int, int, int]) -> bytes:
    """One TIFF table of (tag, type, count, value or offset)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + rows + bytes(4)


def tiff(width: int, height: int, *entries: tuple[int, int, int, int]) -> bytes:
    plain = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
    )
    return b"II*\0" + struct.pack("<I", 8) + table(*plain, *entries)


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_a_tiff_of_a_million_strips_is_refused_before_pillow_makes_an_object_of_each(kind):
    strips = bombs.MAX_VALUES + 1
    data = tiff(1, strips, (273, kind, strips, 8), (278, 4, 1, 1)) + bytes(4 * strips)
    error = refusal(data)
    assert error.code == "truncated"
    assert "too many values" in str(error.__cause__)


def tiled(side: int, tile: int) -> bytes:
    """A white TIFF of ``side`` squared pixels in one compressed tile of ``tile`` squared."""
    body = zlib.compress(b"\xff" * min(tile**2, 1 << 20))
    sizes = ((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1))
    tiles = ((322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 122), (325, 4, 1, len(body)))
    return b"II*\0" + struct.pack("<I", 8) + table(*sizes, *tiles) + body


def test_a_tiff_tile_far_larger_than_its_picture_is_refused():
    assert "tiles" in str(refusal(tiled(4, 20_000)).__cause__)


def test_a_tiff_tile_larger_than_a_small_picture_is_fine():
    picture = decode(tiled(4, 64)).picture
    assert picture.size == (4, 4)
    assert picture.getpixel((2, 2)) == (255, 255, 255)


def test_exif_tables_in_any_format_are_counted_too():
    values = bombs.MAX_VALUES + 1
    hidden = b"II*\0" + struct.pack("<I", 8) + table((34665, 4, 1, 26))
    hidden += table((37500, 3, values, 64)) + bytes(2 * values + 64)
    error = refusal(png(4, 4, chunk(b"eXIf", hidden)))
    assert "too many values" in str(error.__cause__)


def test_tables_that_point_at_each_other_end():
    ring = b"II*\0" + struct.pack("<I", 8) + table((34665, 4, 1, 8), (34853, 4, 1, 8))
    bombs.refuse_bombs(ring)
    bombs.refuse_bombs(b"II+\0" + b"\xff" * 12)
    bombs.refuse_bombs(b"MM\0*")


def test_thousands_of_tables_are_refused():
    with pytest.raises(ValueError, match="too many"):
        bombs.refuse_bombs(b"II*\0\xff\xff\xff\xff" * (bombs.MAX_TABLES + 1))


def test_a_long_picture_information_block_is_no_table():
    data = encoded(corners(), "TIFF", tiffinfo={700: b"x" * (2 * bombs.MAX_VALUES)})
    assert_corners(decode(data).picture)


def test_a_jpeg_of_countless_scans_is_refused():
    data = encoded(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data).picture.size == (64, 64)
    assert "scans" in str(refusal(data[:-2] + scan * bombs.MAX_SCANS + data[-2:]).__cause__)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_file_of_countless_empty_parts_is_refused(format):
    count = bombs.HEADER_READS
    data = encoded(corners(), "JPEG")
    parts = data[:2] + b"\xff\xe5\0\2" * count + data[2:]
    if format == "PNG":
        parts = png(4, 4, chunk(b"prVt", b"") * count)
    assert "too many parts" in str(refusal(parts).__cause__)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_text_that_unpacks_to_a_flood_is_refused(kind):
    flood = zlib.compress(bytes(64 << 20), 9)
    assert refusal(png(4, 4, chunk(kind, b"k\0\0" + flood))).code == "truncated"


# -- titles --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cat.jpg", "cat.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\cat.jpg", "cat.jpg"),
        ("C:\\photos\\cat.jpg", "cat.jpg"),
        ("/", "picture"),
        ("..", "picture"),
        ("", "picture"),
        (None, "picture"),
        (" . ", "picture"),
        ("\u3000", "picture"),
        ("...hidden.png", "hidden.png"),
        ("cat\0.jpg", "cat.jpg"),
        ("cat\r\nSet-Cookie: a=b.jpg", "catSet-Cookie: a=b.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("cat\u2028dog\u2029.jpg", "catdog.jpg"),
        ("zero\u200bwidth\ufeff.jpg", "zerowidth.jpg"),
        ("\udcff\ud800.jpg", "jpg"),
        ("Ärger 한글 🐈.jpg", "Ärger 한글 🐈.jpg"),
        ("CON", "CON"),
        ("a\"b'c<d>.jpg", "a\"b'c<d>.jpg"),
    ],
)
def test_a_title_keeps_what_people_read_and_drops_what_tricks_them(name, title):
    assert safe_title(name) == title


def test_a_long_title_keeps_its_extension():
    title = safe_title("x" * 300 + ".jpeg")
    assert len(title) == 120
    assert title.endswith("….jpeg")


def test_a_long_title_without_an_extension_is_cut():
    assert safe_title("x" * 300) == "x" * 120
    assert len(safe_title("x." + "y" * 300)) == 120


@pytest.mark.parametrize("seed", range(20))
def test_any_title_is_short_printable_and_can_be_stored(seed):
    numbers = np.random.default_rng(seed).integers(0, 0x110000, 400)
    title = safe_title("".join(chr(number) for number in numbers))
    assert 1 <= len(title) <= 120
    title.encode()
    assert not any(ord(c) < 32 or c in "/\\\x7f\u202e" for c in title)


def test_a_jpeg_of_many_scans_is_refused_where_they_cost_too_much(monkeypatch):
    """A progressive JPEG goes over its pixels about ten times."""
    baseline, progressive = (picture_bytes((80, 60), progressive=p) for p in (False, True))
    monkeypatch.setattr("apps.vision.bombs.MAX_SCAN_PIXELS", 80 * 60 * 3)
    assert decode(baseline).picture.size == (80, 60)
    with pytest.raises(InvalidImage, match="damaged"):
        decode(progressive)
    monkeypatch.undo()
    assert decode(progressive).picture.size == (80, 60)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_how_a_file_lies_and_how_large_it_is_upright(kind, turn):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(buffer, kind, exif=exif)
    data = buffer.getvalue()
    upright = (20, 40) if turn in (6, 8) else (40, 20)
    assert (decode(data).turn, orientation(data)) == (turn, turn)
    assert decode(data).size == decode(data).picture.size == upright_size(data) == upright
