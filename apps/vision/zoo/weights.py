"""Weights into networks: safetensors, or state dicts read without unpickling code."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model_weights

from apps.errors import N_, WeightsError
from apps.vision import masks
from apps.vision.devices import is_out_of_memory
from apps.vision.types import SCORE_FLOOR
from apps.vision.zoo.classifiers import ClassifierSpec
from apps.vision.zoo.networks import substituted
from apps.vision.zoo.registry import DetectorSpec
from apps.vision.zoo.store import WeightsFile, WeightsState, WeightsStore

State = dict[str, torch.Tensor]

NOT_TRAINED = N_(
    "The weights %(file)s, which come with Sightbox, are not here. Install it again, or train them "
    "as docs/training.md says."
)


def load_detector(spec: DetectorSpec, store: WeightsStore) -> nn.Module:
    """The network of ``spec`` with its weights, float32, on the CPU, in evaluation mode.

    Raises:
        WeightsError: missing, changed, unreadable, or made for another network.
    """
    store.verify(spec.weights)
    state = read_state(store.path(spec.weights))
    with _fitting(spec.weights):
        if spec.torchvision is not None:
            model = _torchvision(spec, state)
        else:
            model = spec.build()
            model.load_state_dict(state)
    masks.keep_small(model)
    return model.eval()


def load_classifier(spec: ClassifierSpec, store: WeightsStore) -> nn.Module:
    """The network of ``spec`` with its weights, float32, on the CPU, in evaluation mode; its
    parameters need no gradients.

    Raises:
        WeightsError: missing, changed, unreadable, or made for another network.
    """
    if spec.weights.embedded and store.state(spec.weights) is WeightsState.MISSING:
        raise WeightsError(NOT_TRAINED, file=spec.weights.name)
    store.verify(spec.weights)
    state = read_state(store.path(spec.weights))
    with _fitting(spec.weights):
        if spec.torchvision is not None:
            weights = get_model_weights(spec.architecture)[spec.torchvision]
            with substituted(weights, state):
                model: nn.Module = spec.function()(weights=weights)
        else:
            model = spec.build()
            model.load_state_dict(state)
    return model.requires_grad_(False).eval()


@contextmanager
def _fitting(file: WeightsFile) -> Iterator[None]:
    """A state dict that does not fit is told as such, unless main memory has no room for it."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise WeightsError(
            N_("The weights file %(file)s does not fit its network."), file=file.name
        ) from error


def read_state(path: Path) -> State:
    """Tensors of a safetensors file or of a plain state dict; half precision becomes float32.

    Raises:
        WeightsError: neither of the two. A file that needs full unpickling is never loaded.
        RuntimeError: main memory has no room for it; see devices.is_out_of_memory.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise WeightsError(
            N_("The weights file %(file)s holds more than tensors, or is damaged."), file=path.name
        ) from error
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            N_("The weights file %(file)s holds more than tensors, or is damaged."), file=path.name
        )
    return {name: _widen(value) for name, value in state.items()}


def _torchvision(spec: DetectorSpec, state: State) -> nn.Module:
    """torchvision's own construction around ``state``.

    Built "with weights" on purpose: only then does torchvision freeze the batch norms and set
    their epsilon as at training, so only then are the boxes the published ones. Its download is
    replaced by the file that the store has checked.
    """
    floor = "box_score_thresh" if "rcnn" in spec.builder else "score_thresh"
    architecture = spec.builder.partition(":")[2]
    weights = get_model_weights(architecture)[spec.torchvision]
    with substituted(weights, state):
        model: nn.Module = spec.function()(weights=weights, **{floor: SCORE_FLOOR})
    return model


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
