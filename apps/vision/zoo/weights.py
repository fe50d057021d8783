"""Weights from disk: safetensors alone, because a pickle can run code."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from apps.errors import N_, WeightsError


def load_weights(model: nn.Module, path: Path, sha256: str) -> None:
    """Fill ``model`` from the safetensors file at ``path``; half precision becomes float32.

    Raises:
        WeightsError: missing, changed, unreadable, or made for another network.
    """
    if not path.is_file():
        raise WeightsError(
            N_("The weights file %(file)s is missing. An administrator must put it back."),
            file=path.name,
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            N_("The weights file %(file)s is not the expected one (its checksum differs)."),
            file=path.name,
        )
    try:
        model.load_state_dict({k: _widen(v) for k, v in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            N_("The weights file %(file)s does not fit its network."), file=path.name
        ) from error


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
