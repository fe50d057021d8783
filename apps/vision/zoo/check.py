"""A stranger's file of weights, looked at in a process of its own.

``python -m apps.vision.zoo.check`` reads a question (JSON, see intake.Question) from its standard
input and prints the answer. It bounds its own memory and time first, so neither a hostile nor a
huge file can harm the process that asks. No code of the file ever runs: safetensors holds none,
and ``weights_only`` refuses it.
"""

import contextlib
import json
import pickle
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from apps.errors import N_, AppError, InvalidInput, InvalidWeights
from apps.vision.zoo.architectures import BUILDERS, SIGMOID, Origin
from apps.vision.zoo.containers import (
    DAMAGED,
    HOW_TO_SAVE,
    MAX_TENSORS,
    PICKLE,
    Kind,
    check_archive,
    kind_of,
    safetensors_entries,
    wrong_type,
)
from apps.vision.zoo.intake import Accepted, Question
from apps.vision.zoo.networks import COUNTER, build, origin_of, require_fit
from apps.vision.zoo.store import sha256_of

State = dict[str, torch.Tensor]

MEMORY = 4 * 2**30  # bytes beside the file itself; PyTorch and the largest network need a third
CPU_SECONDS = 900
WRAPPERS = ("model", "state_dict", "model_state_dict")  # names under which people save the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, compile, Lightning
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What reading a damaged pickle ends in.
_DAMAGE = (
    *(EOFError, OSError, RuntimeError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError),
)
NO_NUMBER = N_("The tensor %(name)s holds values that are not numbers (NaN or infinite).")


def main() -> None:
    """Answer one question."""
    question = Question(**json.load(sys.stdin))
    size = Path(question.file).stat().st_size
    for limit, most in (
        (resource.RLIMIT_DATA, MEMORY + 2 * size),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    warnings.simplefilter("ignore")
    print(json.dumps(answer(question)))  # noqa: T201 (this is the answer)


def answer(question: Question) -> dict[str, Any]:
    """What ``main`` prints: {"accepted": …} or {"refused": …}, and no exception."""
    try:
        return {"accepted": asdict(examine(question))}
    except AppError as error:
        kind = type(error).__name__
        return {"refused": {"kind": kind, "message": error.message, "params": error.params}}
    except MemoryError:
        text = N_("Reading this file takes more memory than a detector needs.")
        return {"refused": {"kind": "InvalidWeights", "message": text, "params": {}}}


def examine(question: Question) -> Accepted:
    """Check a file against a network, and write its weights as plain safetensors.

    Raises:
        InvalidWeights: nothing could make this file acceptable.
        InvalidInput: it is a file of weights, but not for this network or these classes.
    """
    path, architecture = Path(question.file), question.architecture
    if architecture not in BUILDERS:
        raise InvalidInput(N_("There is no network “%(name)s”."), name=architecture[:80])
    if not question.background and architecture not in SIGMOID:
        raise InvalidInput(
            N_("Only RetinaNet and FCOS can be trained without an output for the background.")
        )
    safe = kind_of(path) is Kind.SAFETENSORS
    promised: Mapping[str, Any] = safetensors_entries(path) if safe else _torch_state(path)
    names = _plain_names(promised)
    shapes = {name: tuple(promised[key].shape) for name, key in names.items()}
    origin = origin_of(architecture, Origin(question.origin), shapes)
    require_fit(architecture, question.classes, origin, shapes, background=question.background)
    tensors = _load_safetensors(path) if safe else promised  # not before its shapes are right
    plain = {name: _checked(name, tensors[key]) for name, key in names.items()}
    if not question.background:
        plain = _with_background(plain, question.classes)
    model = build(architecture, question.classes + 1, origin)
    plain = _fitted(model, plain)
    _load(model, plain)
    _try(model.eval())
    target = Path(question.target)
    save_file(plain, target, metadata={"format": "pt"})
    return Accepted(
        origin=origin.value,
        sha256=sha256_of(target),
        size=target.stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


# -- reading -------------------------------------------------------------------------------


def _torch_state(path: Path) -> State:
    """The tensors of a file that torch.save made; they stay on the disk until they are used."""
    check_archive(path)
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if foreign:
            raise _more_than_tensors(foreign)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InvalidWeights(PICKLE, how=HOW_TO_SAVE) from error
    except _DAMAGE as error:
        raise InvalidWeights(DAMAGED) from error
    state = _unwrapped(found)
    for value in state.values():
        whole = type(value) in (torch.Tensor, nn.Parameter) and value.layout is torch.strided
        if not whole or value.device.type != "cpu":
            raise _more_than_tensors([type(value).__name__])
    if not 0 < len(state) <= MAX_TENSORS:
        raise InvalidWeights(
            N_("The file holds %(number)s tensors; a detector has 1 to %(limit)s."),
            number=len(state),
            limit=MAX_TENSORS,
        )
    return state


def _unwrapped(found: Any) -> dict[str, Any]:
    """The state dict itself, or the one inside a checkpoint."""
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise _more_than_tensors([type(found).__name__])
    if not all(isinstance(name, str) for name in found):
        raise InvalidWeights(DAMAGED)
    foreign = [type(v).__name__ for v in found.values() if not isinstance(v, torch.Tensor)]
    if foreign:
        raise _more_than_tensors(foreign)
    return found


def _more_than_tensors(names: list[str]) -> InvalidWeights:
    shown = sorted({"".join(c for c in name[:60] if c.isprintable()) for name in names})[:3]
    return InvalidWeights(
        N_(
            "The file holds more than tensors (%(names)s). Such objects can run code when they are "
            "read, so it is refused. Where you trained, save the weights alone: %(how)s"
        ),
        names=", ".join(shown),
        how=HOW_TO_SAVE,
    )


def _load_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise InvalidWeights(DAMAGED) from error


def _plain_names(state: Mapping[str, object]) -> dict[str, str]:
    """The network's name of each tensor -> its name in the file, wrappers' prefixes taken off."""
    cut = 0
    names = list(state)
    while prefix := next((p for p in PREFIXES if all(n[cut:].startswith(p) for n in names)), ""):
        cut += len(prefix)
    return {name[cut:]: name for name in names}


# -- what it must be -----------------------------------------------------------------------


def _checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A copy of its own, of finite numbers; half precision stays, double becomes single."""
    if name.endswith(COUNTER):
        return torch.zeros((), dtype=torch.int64)
    if tensor.dtype not in FLOATS:
        raise wrong_type(str(tensor.dtype).removeprefix("torch."))
    whole = tensor.float() if tensor.dtype is torch.float64 else tensor
    if not whole.isfinite().all():
        raise InvalidWeights(NO_NUMBER, name=name)
    return whole.detach().clone(memory_format=torch.contiguous_format)


def _with_background(state: State, classes: int) -> State:
    """Room for a background that never wins: zeros, and a bias whose sigmoid is 0.

    Rows of the last layer are (anchors, classes); see RetinaNetClassificationHead.forward.
    """
    wider = dict(state)
    for kind, value in (("weight", 0.0), ("bias", -100.0)):
        name = f"head.classification_head.cls_logits.{kind}"
        rows = state[name].reshape(-1, classes, *state[name].shape[1:])
        background = torch.full_like(rows[:, :1], value)
        wider[name] = torch.cat([background, rows], dim=1).flatten(0, 1)
    return wider


def _fitted(model: nn.Module, state: State) -> State:
    """``state`` with exactly the network's names: counters added or left out."""
    zero = torch.zeros((), dtype=torch.int64)
    return {
        name: state.get(name, zero.clone()) if name.endswith(COUNTER) else state[name]
        for name in model.state_dict()
    }


def _load(model: nn.Module, state: State) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:  # cannot be after require_fit(), but then it must be said
        raise InvalidInput(N_("These weights do not fit this network.")) from error


def _try(model: nn.Module) -> None:
    """Look at one small synthetic picture: every layer must answer with numbers."""
    ramp = torch.linspace(0, 1, 240 * 320).reshape(240, 320)
    picture = torch.stack([ramp, ramp.flip(0), (ramp * 37) % 1])  # (3, H, W) in 0..1
    resize: Any = model.get_submodule("transform")
    resize.min_size = (240,)  # a tenth of the usual work
    with torch.inference_mode(), _watched(model):
        model([picture])


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[None]:
    def look(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor) and not output.isfinite().all():
            raise InvalidWeights(
                N_("These weights give no result: the layer %(name)s answers with no numbers."),
                name=name,
            )

    hooks = [
        layer.register_forward_hook(lambda *args, name=name: look(name, args[-1]))
        for name, layer in model.named_modules()
        if next(layer.children(), None) is None
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    main()
