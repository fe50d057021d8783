"""The folder of a run: recipe, metrics, curves, confusion matrix, weights and card."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.vision.train import charts
from apps.vision.zoo.store import sha256_of

if TYPE_CHECKING:
    import torch
    from torch import nn

RECIPE = "recipe.json"
METRICS = "metrics.csv"
CURVES = "curves.svg"
CARD = "card.json"

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """A safetensors file and how to know that it is the right one."""

    path: Path
    sha256: str
    size: int  # bytes
    parameters: int


def save_weights(network: "nn.Module", path: Path) -> SavedWeights:
    """Write the parameters and buffers of ``network``, floating point ones in half precision."""
    import torch
    from safetensors.torch import save_file

    state = {}
    for name, tensor in network.state_dict().items():
        value = tensor.detach().cpu()
        half = value.half() if value.is_floating_point() else value
        state[name] = half.contiguous().clone()  # safetensors refuses memory that is shared
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        save_file(state, path)
    return SavedWeights(
        path=path,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def load_weights(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors that :func:`save_weights` wrote, in single precision."""
    from apps.vision.zoo.weights import read_state

    return read_state(path)


def write_card(path: Path, weights: SavedWeights, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known of trained weights beside them, and give it back.

    Args:
        facts: name, architecture, labels, accuracy or AP, data, split, recipe, trained …
    """
    card = dict(facts) | {
        "file": weights.path.name,
        "sha256": weights.sha256,
        "size": weights.size,
        "parameters": weights.parameters,
    }
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def read_metrics(out: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv, oldest first; nothing where there is no such file."""
    path = out / METRICS
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(text) for name, text in row.items() if text} for row in rows]


def write_metrics(out: Path, rows: Sequence[Row]) -> None:
    """Write metrics.csv and the curves of them. What was not measured in an epoch is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (out / METRICS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.6g}" if math.isfinite(value) else "nan" for name, value in row.items()}
            for row in rows
        )
    (out / CURVES).write_text(charts.curves(panels(rows)), encoding="utf-8")


def panels(rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Curves by what they show: ``train_loss`` and ``val_loss`` are two curves of ``loss``."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    names = dict.fromkeys(name for row in rows for name in row if name not in ("epoch", "step"))
    for name in names:
        part, _, what = name.partition("_")
        if part not in ("train", "val"):
            part, what = name, name
        points = [(row["epoch"] + 1, row[name]) for row in rows if name in row]
        found.setdefault(what, {})[part] = [p for p in points if math.isfinite(p[1])]
    return found
