"""Before and after a network: pictures that it can take, and its answer in the picture's pixels."""

from typing import TYPE_CHECKING, Any

from apps.vision import masks
from apps.vision.types import SCORE_FLOOR, Box
from apps.vision.zoo.registry import DetectorSpec

if TYPE_CHECKING:
    import torch

# Detectors see 320 to 1,333 pixels on the longest side. A JPEG that is unpacked at a half of its
# size with this much left is four times as fast; its boxes move by what docs/performance.md says.
DETAIL_SIDE = 4000  # pixels

# A side shorter than this part of the longer one would be shrunk to no pixel at all.
THINNEST = 100


def framed(height: int, width: int) -> tuple[int, int]:
    """Size (height, width) of a picture with white to its right or below if a side is very short.

    Its pixels stay where they are, so boxes need no change but to end where it ends.
    """
    least = -(-max(height, width) // THINNEST)
    return max(height, least), max(width, least)


def boxes_of(
    spec: DetectorSpec, output: dict[str, Any], scale: tuple[float, float], size: tuple[int, int]
) -> tuple[Box, ...]:
    """{"boxes": (N, 4) xyxy, "labels": (N,) from 1, "scores": (N,)} to boxes, best first.

    Of a Mask R-CNN also {"masks": (N, 1, 28, 28)}; see masks.keep_small().
    """
    boxes = []
    for place, (corners, number, score) in enumerate(
        zip(output["boxes"], output["labels"], output["scores"], strict=True)
    ):
        label = spec.classes[number - 1] if number > 0 else None  # 0: background
        x1, x2 = (min(max(x * scale[0], 0.0), size[0]) for x in corners[::2])
        y1, y2 = (min(max(y * scale[1], 0.0), size[1]) for y in corners[1::2])
        if label is not None and score >= SCORE_FLOOR and x1 < x2 and y1 < y2:
            mask = masks.of_output(output, place, scale, size)
            boxes.append(Box(label, min(score, 1.0), x1, y1, x2, y2, mask))
    return tuple(sorted(boxes, key=lambda box: -box.score))


def on_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """From pinned memory the copy to a GPU need not wait for the CPU."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def off_device(output: dict[str, Any]) -> dict[str, Any]:
    """What a network says about one picture, off the device: lists, and masks as an array."""
    found = {name: output[name].cpu().tolist() for name in ("boxes", "labels", "scores")}
    if "masks" in output:
        found["masks"] = output["masks"].float().cpu().numpy()
    return found
