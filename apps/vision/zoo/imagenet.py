"""What torchvision says about its classifiers, kept as data so that no page needs torch.

``python -m apps.vision.zoo.imagenet`` writes ``imagenet.json`` from what the installed torchvision
says of its weights (``meta`` and ``transforms``); a test fails when the two differ. Nothing in
that file is typed by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("imagenet.json")

ARCHITECTURES = ("alexnet", "vgg16", "googlenet", "resnet18", "resnet50")
METRICS = "ImageNet-1K"


def read() -> dict[str, Any]:
    """``imagenet.json``: the labels of all, and an entry for each set of weights."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def make() -> dict[str, Any]:
    """The same from the installed torchvision; imports torch."""
    from torchvision.models import get_model_weights

    every = [(name, weights) for name in ARCHITECTURES for weights in get_model_weights(name)]
    # VGG16 has weights for feature extraction too, whose last layers are empty.
    whole = [(name, weights) for name, weights in every if _accuracy(weights) > 0]
    labels = [weights.meta["categories"] for _, weights in whole]
    if any(other != labels[0] for other in labels):
        raise ValueError("the weights do not all have the same classes")
    return {"labels": labels[0], "models": [_entry(name, weights) for name, weights in whole]}


def _accuracy(weights: Any) -> float:
    """Per cent of ImageNet's validation pictures; not a number where it was not measured."""
    return float(weights.meta["_metrics"][METRICS]["acc@1"])


def _entry(architecture: str, weights: Any) -> dict[str, Any]:
    meta, transform = weights.meta, weights.transforms()
    [digest] = re.findall(r"-([0-9a-f]{8})\.pth$", weights.url)
    [size], [resize] = transform.crop_size, transform.resize_size
    return {
        "name": f"{architecture}.{weights.name.lower()}",
        "architecture": architecture,
        "weights": weights.name,
        "url": weights.url,
        "file": weights.url.rsplit("/", 1)[1],
        "sha256": digest,
        "size": round(meta["_file_size"] * 2**20),  # it is in MiB, with three decimals
        "parameters": meta["num_params"],
        "accuracy": _accuracy(weights),
        "input": {
            "size": size,
            "resize": resize,
            "mean": list(transform.mean),
            "std": list(transform.std),
        },
        "recipe": meta["recipe"],
    }


def _text(made: dict[str, Any]) -> str:
    """JSON with a line for each set of weights."""
    models = ",\n".join(json.dumps(entry) for entry in made["models"])
    return f'{{"labels": {json.dumps(made["labels"])},\n"models": [\n{models}\n]}}\n'


if __name__ == "__main__":
    FILE.write_text(_text(make()), encoding="utf-8")
