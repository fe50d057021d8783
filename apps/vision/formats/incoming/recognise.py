"""Which format an archive is in, and everything that it says."""

import csv
import logging

from apps.errors import N_, InvalidInput
from apps.vision.formats.incoming import coco, labelstudio, table, voc, yolo
from apps.vision.formats.incoming.files import Shelf
from apps.vision.formats.incoming.found import Found, shown

logger = logging.getLogger(__name__)

BROKEN = N_("The label file “%(name)s” cannot be read: %(reason)s.")
UNNAMED = N_("No label file names this picture. It comes without boxes.")


def read(shelf: Shelf) -> Found:
    """The labels of an archive, in whatever format they are.

    Of formats that are beside each other, the one counts that says most: JSON, XML, a table, text.

    Raises:
        InvalidInput: none is known, one cannot be read, there is no picture, or there are more than
            MAX_BOXES boxes.
    """
    if not shelf.pictures:
        raise InvalidInput(
            N_("There is no picture in this archive. Pack the pictures together with the labels.")
        )
    try:
        found = _from_json(shelf) or _from_others(shelf)
    except (ValueError, csv.Error, RecursionError) as error:
        logger.warning("labels not read file=%r", shelf.at, exc_info=True)
        raise InvalidInput(BROKEN, name=shown(shelf.at), reason=shown(str(error))) from error
    if found is None:
        if shelf.problems.reasons:  # locked, too large, damaged: that is why
            message, params = shelf.problems.reasons[0]
            raise InvalidInput(message, **params)
        raise InvalidInput(
            N_(
                "There are no labels in this archive that Sightbox can read: COCO or Label Studio "
                "JSON, Pascal VOC XML, YOLO text files or a CSV table of boxes."
            )
        )
    for name in shelf.pictures:
        if name not in found.pictures:
            found.picture(name)
            shelf.problems.add(name, UNNAMED, loss=False)
    return found


def _from_json(shelf: Shelf) -> Found | None:
    found: Found | None = None
    for name in shelf.named(".json"):
        content = shelf.json(name)
        if coco.fits(content) and (found is None or found.kind == "coco"):
            found = found or Found("coco")
            coco.read(shelf, name, content, found)
        elif labelstudio.fits(content) and (found is None or found.kind == "labelstudio"):
            found = found or Found("labelstudio")
            labelstudio.read(shelf, name, content, found)
    return found


def _from_others(shelf: Shelf) -> Found | None:
    if voc.fits(shelf):
        found = Found("voc")
        voc.read(shelf, found)
        return found
    tables = [name for name in shelf.named(".csv") if table.fits(shelf, name)]
    if tables:
        found = Found("csv")
        for name in tables:
            table.read(shelf, name, found)
        return found
    if yolo.fits(shelf):
        found = Found("yolo")
        yolo.read(shelf, found)
        return found
    return None
