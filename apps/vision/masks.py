"""Masks: which pixels of the picture belong to an object, kept as COCO run-length encoding.

The format is that of "segmentation" in COCO result files (https://cocodataset.org/#format-results;
the comments of pycocotools/mask.py and maskApi.c): the bitmap of the whole picture is read down
its columns, ``counts`` are the lengths of the runs of 0 and 1 in turn, and each count is written
with five bits a character. A size is (width, height) in pixels, as everywhere in this package;
COCO writes it the other way round.
"""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

if TYPE_CHECKING:
    from torch import nn

Size = tuple[int, int]
Corners = tuple[float, float, float, float]
Polygon = list[tuple[float, float]]  # corners (x, y) in pixels; the last joins the first
Bits = NDArray[np.bool_]
Numbers = NDArray[np.int64]

AT_LEAST = 0.5  # probability from which a pixel belongs to the object, as torchvision's examples
STRIP = 512  # columns of a picture that are held as numbers at the same time
GRID = 128  # an outline is as fine as each of its sides divided by this
SPREAD = 2  # steps to both sides over which an outline is evened out
SMOOTH = 0.35  # cells of the grid by which a simpler outline may differ


# -- into the format and back ----------------------------------------------------------------


def encode(mask: Bits) -> str:
    """RLE of a (height, width) bitmap."""
    height, width = mask.shape
    changes = [_changes(mask[:, x : x + STRIP].T, (x, 0), height) for x in range(0, width, STRIP)]
    return _compressed(changes, (width, height))


def decode(rle: str, size: Size) -> Bits:
    """The (height, width) bitmap of ``rle``."""
    counts = _counts(rle)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size).T


def fits(rle: str, size: Size) -> bool:
    """Whether a stranger's ``rle`` is one of a picture of this size, and can be used safely."""
    codes = rle.encode("ascii", "replace")
    if not codes or not all(48 <= code < 112 for code in codes) or (codes[-1] - 48) & 0x20:
        return False
    if max(map(len, re.split(rb"[0-O]", codes))) > 6:  # a number of more bits than any run needs
        return False
    counts = _counts(rle)
    return bool(counts.min() >= 0 and counts.sum() == size[0] * size[1])


def cropped(rle: str, size: Size) -> tuple[int, int, Bits]:
    """(x, y, bitmap) of the smallest rectangle that holds every 1 of ``rle``."""
    x, y, width, height = (int(number) for number in coco.toBbox(_object(rle, size)))
    return x, y, decode(rle, size)[y : y + height, x : x + width]


def of_box(
    probabilities: NDArray[np.float32], corners: Corners, size: Size, at_least: float = AT_LEAST
) -> str:
    """RLE of what a mask head says about one box.

    The pixels are those of torchvision's ``paste_masks_in_image`` (the mask gets a border of
    zeros, the box grows with it, bilinear interpolation), but only those of the box are ever
    computed, a strip at a time: its float bitmap of the whole picture for each box would take
    5 GB for 100 boxes in 12 megapixels.

    Args:
        probabilities: (S, S), 0..1, over the box; 28 × 28 for Mask R-CNN.
        corners: the box, xyxy, in pixels of the picture, not cut off at its borders.
        size: of the picture.
    """
    width, height = size
    padded = np.pad(probabilities, 1)
    x1, x2 = _grown(corners[0], corners[2], len(padded) / len(probabilities))
    y1, y2 = _grown(corners[1], corners[3], len(padded) / len(probabilities))
    left, right = max(x1, 0), min(x2, width)
    top, bottom = max(y1, 0), min(y2, height)
    down = _between(y2 - y1, len(padded))[top - y1 : max(bottom - y1, 0)] @ padded
    across = _between(x2 - x1, len(padded))
    changes = [
        _changes(across[x - x1 : min(x + STRIP, right) - x1] @ down.T >= at_least, (x, top), height)
        for x in range(left, right, STRIP)
    ]
    return _compressed(changes, size)


def of_output(
    output: dict[str, Any], place: int, scale: tuple[float, float], size: Size
) -> str | None:
    """RLE of one box of a network's output; None for a network without masks.

    Args:
        output: "boxes" (N, 4) xyxy, and perhaps "masks", a (N, 1, S, S) array of float32.
        place: of the box among them.
        scale: (x, y) factors from the network's input to the picture.
        size: of the picture.
    """
    if "masks" not in output:
        return None
    x1, y1, x2, y2 = output["boxes"][place]
    corners = (x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1])
    return of_box(output["masks"][place, 0], corners, size)


def segmentation(rle: str, size: Size) -> dict[str, Any]:
    """``rle`` as COCO's JSON writes it."""
    return {"size": [size[1], size[0]], "counts": rle}


def keep_small(network: "nn.Module") -> None:
    """Make a Mask R-CNN of torchvision give its (N, 1, 28, 28) masks as they are.

    Its last step pastes each into a float bitmap of the whole picture; see :func:`of_box`. Other
    networks are left alone.
    """
    from torchvision.models.detection import MaskRCNN

    if not isinstance(network, MaskRCNN):
        return
    transform: Any = network.transform
    paste = transform.postprocess

    def postprocess(results: list[dict[str, Any]], *sizes: Any) -> list[dict[str, Any]]:
        masks = [result.pop("masks") for result in results]
        results = paste(results, *sizes)
        for result, small in zip(results, masks, strict=True):
            result["masks"] = small
        return results

    transform.postprocess = postprocess


def _object(rle: str, size: Size) -> dict[str, Any]:
    return {"size": [size[1], size[0]], "counts": rle.encode("ascii")}


def _grown(low: float, high: float, scale: float) -> tuple[int, int]:
    """First pixel and the one after the last of a side that grows by ``scale`` around its middle.

    In single precision and cut to whole pixels as torchvision does it.
    """
    ends = np.array([low, high], np.float32)
    half = (ends[1] - ends[0]) * np.float32(0.5) * np.float32(scale)
    middle = (ends[1] + ends[0]) * np.float32(0.5)
    first, last = int(middle - half), int(middle + half)
    return first, first + max(last - first + 1, 1)


def _between(pixels: int, cells: int) -> NDArray[np.float32]:
    """(pixels, cells) weights of bilinear interpolation between centres (not aligned corners)."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))
    return weights.astype(np.float32)


def _changes(columns: Bits, corner: tuple[int, int], height: int) -> Numbers:
    """Where runs of 1 begin and end, in turn, as places in a picture that is ``height`` high.

    Args:
        columns: (columns, rows) of a part of the picture.
        corner: (x, y) of its first pixel in the picture.
    """
    number, rows = columns.shape
    padded = np.zeros((number, rows + 1), np.bool_)  # a 0 after each column ends its run
    padded[:, :rows] = columns
    flat = padded.ravel()
    places = np.flatnonzero(np.diff(flat, prepend=False))
    column, row = np.divmod(places, rows + 1)
    return (corner[0] + column) * height + corner[1] + row


def _compressed(changes: list[Numbers], size: Size) -> str:
    """RLE of the runs that begin and end at ``changes``."""
    places = np.concatenate([np.empty(0, np.int64), *changes])
    # A run to the foot of one column and one from the head of the next are one run.
    joined = places[1:-1:2] == places[2::2]
    places = np.delete(places, np.concatenate([2 * np.flatnonzero(joined) + n for n in (1, 2)]))
    counts = np.diff(places, prepend=0, append=size[0] * size[1])
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    made: dict[str, Any] = coco.frPyObjects(
        {"size": [size[1], size[0]], "counts": counts.tolist()}, size[1], size[0]
    )
    text: str = made["counts"].decode("ascii")
    return text


def _counts(rle: str) -> Numbers:
    """The lengths of the runs, uncompressed; ``rleFrString`` of maskApi.c, all at once."""
    codes = np.frombuffer(rle.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 0x20)  # bit 5: the number goes on
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    counts: Numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    counts -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)  # bit 4 of the last: the sign
    counts[1::2] = np.cumsum(counts[1::2])  # from the fourth on: differences to the last but one
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


# -- outlines ----------------------------------------------------------------------------------


def outline(rle: str, size: Size) -> list[Polygon]:
    """Polygons around the pixels of ``rle``, holes included (fill them by the nonzero rule).

    The runs are looked up at the points of a grid over the mask, so the picture's size costs
    nothing. Between the cells that are in and out the line is made of steps; they are evened
    out, and then a line of fewer corners takes their place.
    """
    x, y, width, height = (int(number) for number in coco.toBbox(_object(rle, size)))
    if not width:
        return []
    across = np.append(np.arange(x, x + width, math.ceil(width / GRID)), x + width)
    down = np.append(np.arange(y, y + height, math.ceil(height / GRID)), y + height)
    middles = [(edges[:-1] + edges[1:]) // 2 for edges in (across, down)]
    places = middles[0] * size[1] + middles[1][:, None]
    inside = np.searchsorted(np.cumsum(_counts(rle)), places, side="right") % 2 == 1
    found = []
    for loop in _loops(inside):
        columns, rows = _simpler(_even(loop)).T
        xs = np.interp(columns, np.arange(len(across)), across).round(1)
        ys = np.interp(rows, np.arange(len(down)), down).round(1)
        found.append(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    return found


def svg_path(polygons: Iterable[Polygon]) -> str:
    """``polygons`` as the ``d`` of an SVG path."""
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in polygon) + "Z" for polygon in polygons)


def _loops(inside: Bits) -> list[NDArray[np.float64]]:
    """(N, 2) middles (column, row) of the steps of each closed line between cells in and out.

    Lines run clockwise around what is in, so at a corner where two cells touch, turning right
    stays with the same cell.
    """
    wide = inside.shape[1] + 1
    steps = (1, wide, -1, -wide)  # right, down, left, up
    ways: dict[int, list[int]] = {}
    for direction, starts in enumerate(_edges(inside, wide)):
        for start in starts.tolist():
            ways.setdefault(start, []).append(direction)
    loops = []
    while ways:
        start = place = next(iter(ways))
        heading, corners = -1, [start]
        while True:
            choice = ways[place]
            right = (heading + 1) % 4
            direction = right if right in choice else choice[0]
            choice.remove(direction)
            if not choice:
                del ways[place]
            heading = direction
            place += steps[direction]
            corners.append(place)
            if place == start:
                break
        line = np.stack(np.divmod(np.array(corners), wide)[::-1], axis=1)
        loops.append((line[:-1] + line[1:]) / 2)
    return loops


def _edges(inside: Bits, wide: int) -> list[Numbers]:
    """For each direction (right, down, left, up), the corners from which a line goes there."""
    padded = np.pad(inside, 1)
    middle = padded[1:-1, 1:-1]
    beside = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corner = ((0, 0), (0, 1), (1, 1), (1, 0))  # (row, column) of the cell's corner
    found = []
    for outside, (row, column) in zip(beside, corner, strict=True):
        rows, columns = np.nonzero(middle & ~outside)
        found.append((rows + row) * wide + columns + column)
    return found


def _even(loop: NDArray[np.float64]) -> NDArray[np.float64]:
    """``loop`` with each place the mean of those around it; short loops would shrink, and stay."""
    if len(loop) < 8 * SPREAD:
        return loop
    shifted = [np.roll(loop, shift, axis=0) for shift in range(-SPREAD, SPREAD + 1)]
    mean: NDArray[np.float64] = np.mean(shifted, axis=0)
    return mean


def _simpler(loop: NDArray[np.float64]) -> NDArray[np.float64]:
    """``loop`` with fewer corners, none of the dropped ones further than SMOOTH from the line.

    Ramer (1972), Douglas and Peucker (1973), between two corners that are far from each other.
    """
    far = int(np.argmax(((loop - loop[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([loop, loop[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, far]] = True
    parts = [(0, far), (far, len(loop))]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        x, y = (closed[last] - closed[first]).tolist()
        away = np.abs((closed[first:last] - closed[first]) @ (y, -x)) / math.hypot(x, y)
        worst = int(away.argmax())
        if away[worst] > SMOOTH:
            kept[first + worst] = True
            parts += [(first, first + worst), (first + worst, last)]
    return loop[kept[:-1]]
