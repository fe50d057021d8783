"""A whole data set in the memory of one device."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from apps.errors import N_, InvalidInput
from apps.vision.decode import decode
from apps.vision.formats.dataset import Archives, DetectionData, LabelledPicture

FILL = 124  # grey around pictures, about the mean of photographs
READERS = 4  # threads that decode


@dataclass(frozen=True, slots=True)
class Truth:
    """What is marked on one picture, in its kept pixels."""

    boxes: Tensor  # (n, 4) float32, xyxy
    labels: Tensor  # (n,) int64, from 1
    difficult: Tensor  # (n,) bool


class PictureStore:
    """Decoded pictures, their sizes and what is marked on them.

    Attributes:
        pixels: (N, 3, H, W) uint8 on the device; a picture is in the upper left corner.
        sizes: (N, 2) float32 on the CPU, (width, height) of each.
        truths: N of them, on the CPU.
        scales: (N, 2), kept pixels for each pixel of the file, by x and y.
    """

    def __init__(
        self,
        pixels: Tensor,
        sizes: Tensor,
        truths: Sequence[Truth],
        classes: Sequence[str],
        scales: Tensor | None = None,
    ) -> None:
        self.pixels = pixels
        self.sizes = sizes
        self.truths = list(truths)
        self.classes = tuple(classes)
        self.scales = torch.ones(len(sizes), 2) if scales is None else scales

    def __len__(self) -> int:
        return len(self.truths)

    @classmethod
    def of(
        cls, data: DetectionData, side: int, device: torch.device | str = "cpu"
    ) -> "PictureStore":
        """Decode every picture of ``data``, scaled down to ``side`` pixels on its longest side.

        Raises:
            InvalidInput: no pictures, or one that is missing or damaged.
        """
        if not data.pictures:
            raise InvalidInput(N_("There is no picture to train on or to measure with."))
        numbers = {label: number for number, label in enumerate(data.classes, 1)}
        with Archives() as archives, ThreadPoolExecutor(READERS) as pool:
            read = partial(_decode, archives=archives, side=side)
            arrays = list(pool.map(read, data.pictures))
        height = max(array.shape[0] for array, _ in arrays)
        width = max(array.shape[1] for array, _ in arrays)
        pixels = torch.full((len(arrays), 3, height, width), FILL, dtype=torch.uint8, device=device)
        for place, (array, _) in enumerate(arrays):
            rows, columns = array.shape[:2]
            pixels[place, :, :rows, :columns] = torch.from_numpy(array).permute(2, 0, 1).to(device)
        sizes = torch.tensor([[a.shape[1], a.shape[0]] for a, _ in arrays], dtype=torch.float32)
        scales = sizes / torch.tensor([size for _, size in arrays], dtype=torch.float32)
        truths = [
            _truth(picture, numbers, scale)
            for picture, scale in zip(data.pictures, scales, strict=True)
        ]
        return cls(pixels, sizes, truths, data.classes, scales)

    def picture(self, place: int) -> Tensor:
        """(3, h, w) float32, 0..1, without the grey around it."""
        width, height = (int(side) for side in self.sizes[place])
        return self.pixels[place, :, :height, :width].float() / 255


def _decode(
    picture: LabelledPicture, archives: Archives, side: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """(h, w, 3) uint8, and the (width, height) of the file."""
    try:
        if picture.file is None:
            raise FileNotFoundError("no such file")
        image = decode(archives.read(picture.file)).picture
    except (OSError, InvalidInput) as error:
        raise InvalidInput(
            N_("The picture %(name)s cannot be read: %(reason)s"), name=picture.name, reason=error
        ) from error
    size = image.size
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return np.array(image), size


def _truth(picture: LabelledPicture, numbers: dict[str, int], scale: Tensor) -> Truth:
    corners = torch.tensor([box.corners for box in picture.boxes], dtype=torch.float32)
    return Truth(
        boxes=corners.reshape(-1, 4) * scale.repeat(2),
        labels=torch.tensor([numbers[box.label] for box in picture.boxes], dtype=torch.int64),
        difficult=torch.tensor([box.difficult for box in picture.boxes], dtype=torch.bool),
    )
