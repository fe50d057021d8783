"""A part of a picture, with a little of what is around it."""

import math

from PIL import Image

Corners = tuple[float, float, float, float]  # xyxy


def crop(
    picture: Image.Image, box: Corners, size: tuple[int, int], margin: float = 0.0
) -> Image.Image:
    """What ``box`` frames in ``picture``, at least one pixel, and never beyond its edges.

    Args:
        box: corners in pixels of a picture of ``size``, of which ``picture`` may be a smaller copy.
        size: (width, height) of that picture.
        margin: how much is added on each side, as a part of the longer side of the box.
    """
    across, down = picture.width / size[0], picture.height / size[1]
    x1, y1, x2, y2 = box
    more = margin * max(x2 - x1, y2 - y1)
    left = min(max(math.floor((x1 - more) * across), 0), picture.width - 1)
    top = min(max(math.floor((y1 - more) * down), 0), picture.height - 1)
    right = min(max(math.ceil((x2 + more) * across), left + 1), picture.width)
    bottom = min(max(math.ceil((y2 + more) * down), top + 1), picture.height)
    return picture.crop((left, top, right, bottom))
