"""Checks on raw bytes that keep a small file from costing gigabytes or hours.

A limit on pixels does not stop these. Measured with Pillow 13 before this module: a TIFF of 32 MB
with one pixel in each strip took 5 GB and two minutes to open; a JPEG of 32 MB of empty segments
1.1 GB; a progressive JPEG 0.04 s for each 100 bytes of empty scan, so hours in all.
"""

import io
import re
import struct

HEADER_READS = 500_000  # a header of real files takes a few hundred
DECODE_READS = 4_000_000  # run-length BMP reads twice for each run
MAX_SCANS = 200  # of one JPEG; cameras and web tools write about ten
MAX_SCAN_PIXELS = 2_000_000_000  # scans x pixels: a few seconds of decoding
MAX_VALUES = 1 << 19  # numbers in TIFF tables: two for each 16 x 16 tile of 64 megapixels
MAX_TABLES = 1000  # TIFF headers in one file; EXIF is one

# SOS marker, length and number of components: too long to turn up by chance in compressed data.
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_TIFF = re.compile(rb"II\x2a\x00|MM\x00\x2a|MM\x2a\x00|II\x00\x2a|MM\x00\x2b|II\x2b\x00")

_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TEXT_LIKE = (1, 2, 7)  # stay one block of bytes in Python, whatever their length
_OFFSETS = (273, 324)  # of strips and tiles: Pillow makes one object for each, of any type
_POINTERS = (34665, 34853, 40965)  # Exif, GPS and Interoperability tables


class Frugal(io.BytesIO):
    """Bytes that can be read only so often: files of millions of tiny parts end early."""

    def __init__(self, data: bytes, reads: int = HEADER_READS) -> None:
        super().__init__(data)
        self.reads_left = reads

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO. Raises OSError when the budget is used up."""
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OSError("the file consists of too many parts")
        return super().read(size)


def refuse_bombs(data: bytes) -> None:
    """Raise ValueError if ``data`` is built to cost far more than its size and pixels."""
    if scans(data) > MAX_SCANS:
        raise ValueError("too many scans in a JPEG")
    view = memoryview(data)
    values = 0
    for tables, match in enumerate(_TIFF.finditer(data)):  # TIFF itself, or EXIF in any format
        values += _values(view[match.start() :], MAX_VALUES - values)
        if values > MAX_VALUES or tables >= MAX_TABLES:
            raise ValueError("too many values in TIFF tables")


def scans(data: bytes) -> int:
    """How often a decoder goes over the pixels of a JPEG; 1 for other formats."""
    return sum(1 for _ in _SCAN.finditer(data)) if data.startswith(b"\xff\xd8") else 1


def refuse_slow(data: bytes, size: tuple[int, int]) -> None:
    """Raise ValueError if decoding ``data`` to ``size`` pixels would take far too long."""
    if scans(data) * size[0] * size[1] > MAX_SCAN_PIXELS:
        raise ValueError("too many scans for so many pixels")


def _values(view: memoryview, limit: int) -> int:
    """Numbers that Pillow would make of the TIFF tables in ``view``; stops above ``limit``."""
    order = "<" if view[0] == ord("I") else ">"
    big = view[2] == 43
    waiting = [_unpack(order + "Q", view, 8) if big else _unpack(order + "I", view, 4)]
    seen: set[int] = set()
    total = 0
    while waiting and total <= limit and len(seen) < 16:  # Pillow follows two levels: 13 tables
        offset = waiting.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        counted, pointers = _table(view, offset, order, big, limit - total)
        total += counted
        waiting += pointers
    return total


def _table(
    view: memoryview, offset: int, order: str, big: bool, limit: int
) -> tuple[int, list[int]]:
    """(numbers, offsets of further tables) of the table at ``offset``."""
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    first = offset + (8 if big else 2)
    number = _unpack(order + ("Q" if big else "H"), view, offset)
    total = 0
    pointers: dict[int, int] = {}
    for place in range(first, min(first + number * entry.size, len(view)), entry.size):
        if place + entry.size > len(view) or total > limit:
            break
        tag, kind, count, value = entry.unpack_from(view, place)
        total += 1
        if kind not in _UNIT or count * _UNIT[kind] > len(view):
            continue  # Pillow skips these too
        if kind not in _TEXT_LIKE or tag in _OFFSETS:
            total += count
        if tag in _POINTERS:
            pointers.setdefault(tag, value)
    return total, list(pointers.values())


def _unpack(form: str, view: memoryview, offset: int) -> int:
    """One number, or 0 past the end."""
    if offset + struct.calcsize(form) > len(view):
        return 0
    number: int = struct.unpack_from(form, view, offset)[0]
    return number
