"""From the upright picture back to the pixels as a file has them (EXIF orientation)."""

from dataclasses import replace

from apps.vision.types import Box

UPRIGHT = 1
_SIDEWAYS = (5, 6, 7, 8)


def sideways(orientation: int) -> bool:
    """Whether width and height change places between the file and the upright picture."""
    return orientation in _SIDEWAYS


def lay_down(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """A box of the upright picture of ``size`` (width, height), in the pixels of the file.

    Its mask is left out: it belongs to the upright picture.

    Args:
        orientation: of EXIF, 1 to 8.
    """
    (x1, y1), (x2, y2) = (
        _point(x, y, orientation, size) for x, y in ((box.x1, box.y1), (box.x2, box.y2))
    )
    return replace(box, x1=min(x1, x2), y1=min(y1, y2), x2=max(x1, x2), y2=max(y1, y2), mask=None)


def stand_up(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """A box in the pixels of the file, of ``size`` (width, height), in the upright picture."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return lay_down(box, back, size)


def _point(x: float, y: float, orientation: int, size: tuple[int, int]) -> tuple[float, float]:
    width, height = size
    points = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (y, width - x),
        7: (height - y, width - x),
        8: (height - y, x),
    }
    return points.get(orientation, (x, y))
