"""Pascal VOC: one XML file for each picture; its corners are pixel numbers from 1."""

from pathlib import PurePosixPath
from typing import Any

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from apps.errors import N_
from apps.vision.formats.incoming.files import Shelf, numbers
from apps.vision.formats.incoming.found import Found
from apps.vision.formats.voc import CORNERS

ENTITIES = N_("This XML file declares entities, which may expand without end. It is left out.")
NOT_XML = N_("This file is not readable as XML: %(reason)s. It is left out.")
NO_OBJECT = N_("An object has no name or no box of four numbers. It is left out.")
NO_PICTURE = N_("There is no picture for this label file. It is left out.")
MAX_BYTES = 4 * 2**20  # of one file: its elements take many times as much memory
ROOT = "annotation"


def fits(shelf: Shelf) -> bool:
    """Whether there are label files in this format; one look at the first few is enough."""
    return any(
        b"<annotation" in (shelf.data(name, MAX_BYTES) or b"") for name in shelf.named(".xml")[:20]
    )


def read(shelf: Shelf, found: Found) -> None:
    """Add what every label file says."""
    for name in shelf.named(".xml"):
        top = _parse(shelf, name)
        if top is not None and top.tag == ROOT:
            _read_one(shelf, name, top, found)


def _read_one(shelf: Shelf, name: str, top: Any, found: Found) -> None:
    said = (top.findtext("filename") or "").strip()
    stem = PurePosixPath(name).stem
    same = shelf.find_stem(stem)
    if said and (PurePosixPath(said.replace("\\", "/")).stem == stem or not same):
        file = shelf.find(said, name, loose=True)
    else:  # some tools leave the right name out
        file = same[0] if len(same) == 1 else None
        if file is None:
            shelf.problems.add(name, NO_PICTURE)
    if file is None:
        return
    picture = found.picture(file)
    size = numbers((top.findtext("size/width") or 0, top.findtext("size/height") or 0))
    if size and all(0 <= side < 10**7 for side in size):
        picture.size = (int(size[0]), int(size[1]))
    for row in top.iter("object"):
        label = (row.findtext("name") or "").strip()
        corners = numbers(row.findtext(f"bndbox/{tag}") or "" for tag in CORNERS)
        if not label or corners is None:
            shelf.problems.add(name, NO_OBJECT)
            continue
        x1, y1, x2, y2 = corners
        found.add(picture, label, (x1 - 1, y1 - 1, x2, y2))


def _parse(shelf: Shelf, name: str) -> Any:
    """The root element; None after a problem, which is noted."""
    data = shelf.data(name, MAX_BYTES)
    if data is None:
        return None
    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        shelf.problems.add(name, ENTITIES)
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        shelf.problems.add(name, NOT_XML, reason=str(error))
    return None
