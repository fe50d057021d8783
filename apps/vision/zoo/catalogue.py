"""What torchvision says about its detectors, kept as data so that no page needs torch.

``python -m apps.vision.zoo.catalogue`` writes ``torchvision.json`` from what the installed
torchvision says of its weights (``meta``); a test fails when the two differ. Nothing in that
file is typed by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("torchvision.json")

# Detectors whose answer is boxes with labels; key-point models know persons alone.
ARCHITECTURES = (
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
NO_CLASS = "N/A"  # category numbers that COCO does not use


def read() -> list[dict[str, Any]]:
    """The entries of ``torchvision.json``."""
    entries: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return entries


def make() -> list[dict[str, Any]]:
    """The same entries from the installed torchvision; imports torch."""
    from torchvision.models import get_model_weights

    return [_entry(name, weights) for name in ARCHITECTURES for weights in get_model_weights(name)]


def _entry(architecture: str, weights: Any) -> dict[str, Any]:
    meta = weights.meta
    background, *categories = meta["categories"]
    if background != "__background__":
        raise ValueError(f"{architecture}: label 0 is {background!r}, not the background")
    [digest] = re.findall(r"-([0-9a-f]{8})\.pth$", weights.url)
    return {
        "name": f"{architecture}.{weights.name.lower()}",
        "architecture": architecture,
        "weights": weights.name,
        "classes": [None if category == NO_CLASS else category for category in categories],
        "url": weights.url,
        "file": weights.url.rsplit("/", 1)[1],
        "sha256": digest,
        "size": round(meta["_file_size"] * 2**20),  # it is in MiB, with three decimals
        "parameters": meta["num_params"],
        "box_map": meta["_metrics"]["COCO-val2017"]["box_map"],
        "recipe": meta["recipe"],
    }


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(entry) for entry in make())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
