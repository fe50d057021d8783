"""What a file of weights is and says of itself, before anything of it is loaded.

Safetensors: https://huggingface.co/docs/safetensors (8 bytes length, JSON header, data).
PyTorch's own: a zip archive of stored, uncompressed entries with one pickle, ``data.pkl``.
"""

import json
import math
import struct
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from apps.errors import N_, InvalidWeights

MAX_HEADER = 8 * 2**20  # bytes; that of a large detector has 0.1 MB
MAX_TENSORS = 5000  # a large detector has 700
MAX_DIMENSIONS = 8
MAX_PICKLE = 16 * 2**20  # bytes of data.pkl
# Bits of the types that weights may have; a BatchNorm2d counts in I64.
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64}

HOW_TO_SAVE = 'torch.save(model.state_dict(), "weights.pth")'
DAMAGED = N_("The file is damaged, or was not copied to its end.")
PICKLE = N_(
    "This is a Python pickle, which can run code when it is read, so it is refused. Where you "
    "trained, save the weights alone, with PyTorch 1.6 or newer: %(how)s"
)
PROGRAM = N_(
    "This is a TorchScript program, not a file of weights. Where you trained, save the weights "
    "alone: %(how)s"
)
UNKNOWN = N_(
    "This is neither a safetensors file nor one that torch.save made. Where you trained, save the "
    "weights alone: %(how)s"
)


class Kind(StrEnum):
    SAFETENSORS = "safetensors"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor as the header promises it."""

    dtype: str  # a key of BITS
    shape: tuple[int, ...]


def kind_of(path: Path) -> Kind:
    """Which of the two ``path`` is, by its first bytes; its name says nothing.

    Raises:
        InvalidWeights: neither.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK\x03\x04"):
        return Kind.TORCH
    if len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= size:
        return Kind.SAFETENSORS
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InvalidWeights(PICKLE, how=HOW_TO_SAVE)
    if len(start) == 9 and start[8:] == b"{":
        raise InvalidWeights(DAMAGED)
    raise InvalidWeights(UNKNOWN, how=HOW_TO_SAVE)


def safetensors_entries(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name, from its header alone.

    Raises:
        InvalidWeights: the header is too long, not what the format asks for, or promises other
            data than there is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise InvalidWeights(
                N_("The header of this file is longer than %(limit)s MB."), limit=MAX_HEADER >> 20
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        if not 0 < len(header) <= MAX_TENSORS:
            raise InvalidWeights(
                N_("The file holds %(number)s tensors; a detector has 1 to %(limit)s."),
                number=len(header),
                limit=MAX_TENSORS,
            )
        entries = {str(name): _entry(item) for name, item in header.items()}
        end = max(item["data_offsets"][1] for item in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidWeights(DAMAGED) from error
    if end != size - 8 - length:
        raise InvalidWeights(DAMAGED)
    return entries


def _entry(item: dict[str, Any]) -> Entry:
    """Raises InvalidWeights for a type that weights do not have, else as a wrong header."""
    if item["dtype"] not in BITS:
        raise wrong_type(str(item["dtype"]))
    shape = item["shape"]
    first, last = item["data_offsets"]
    if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("shape")
    if (
        type(first) is not int
        or first < 0
        or last - first != math.prod(shape) * BITS[item["dtype"]] // 8
    ):
        raise ValueError("data_offsets")
    return Entry(item["dtype"], tuple(shape))


def wrong_type(name: str) -> InvalidWeights:
    """The refusal of numbers that are not floating-point ones of 16 to 64 bits."""
    return InvalidWeights(
        N_("The file holds numbers of the type %(type)s; weights must be float16, 32 or 64."),
        type=name[:20],
    )


def check_archive(path: Path) -> None:
    """See that a zip archive is what torch.save makes, and grows by nothing when it is read.

    Raises:
        InvalidWeights: it is another archive, a program, or packed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise InvalidWeights(DAMAGED) from error
    names = [entry.filename for entry in entries]
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise InvalidWeights(PROGRAM, how=HOW_TO_SAVE)
    if len(pickles) != 1:
        raise InvalidWeights(UNKNOWN, how=HOW_TO_SAVE)
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    total = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if packed or total > path.stat().st_size:
        raise InvalidWeights(
            N_("The file would grow when it is unpacked. torch.save makes no such files.")
        )
    if len(entries) > 2 * MAX_TENSORS or pickles[0].file_size > MAX_PICKLE:
        raise InvalidWeights(
            N_("The file holds %(number)s tensors; a detector has 1 to %(limit)s."),
            number=len(entries),
            limit=MAX_TENSORS,
        )
