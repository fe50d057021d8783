"""Recipes: everything that a training run depends on besides its data, as one frozen value."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from apps.errors import N_, InvalidInput

FULL = "full"  # batch: the whole training part at every step
MOST_SEED = 2**32 - 1  # of numpy's older generators


class Optimizer(StrEnum):
    SGD = "sgd"
    MOMENTUM = "momentum"  # Polyak 1964
    NESTEROV = "nesterov"  # Nesterov 1983
    ADAM = "adam"  # Kingma and Ba 2015
    ADAMW = "adamw"  # Loshchilov and Hutter 2019


class Schedule(StrEnum):
    """How the learning rate goes from the start (t = 0) to the end (t = 1) of the training."""

    CONSTANT = "constant"
    STEP = "step"  # times ``drop``, ``drops`` times, after equal parts
    EXPONENTIAL = "exponential"  # lr_end ** t
    COSINE = "cosine"  # half a cosine down to lr_end (Loshchilov and Hutter 2017)
    PLATEAU = "plateau"  # times ``drop`` after ``plateau`` epochs without a better ``monitor``
    ONE_CYCLE = "one_cycle"  # up for ``rise`` of the time, then down to lr_end (Smith 2018)


class Mode(StrEnum):
    MIN = "min"
    MAX = "max"


class Precision(StrEnum):
    FULL = "32-true"
    FLOAT16 = "16-mixed"
    BFLOAT16 = "bf16-mixed"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run does, apart from its data and its network.

    The same recipe on the same data and device gives the same weights, unless ``minutes`` ends it
    or ``deterministic`` is off.

    Raises:
        InvalidInput: a value that no training can have; the text names the field.
    """

    name: str = ""  # of the model that is made: "lenet5.mnist"
    seed: int = 0
    epochs: int | None = 10  # None: until ``minutes`` are over
    minutes: float | None = None  # of the whole training; the schedule then follows the clock
    batch: int | str = 64  # examples a step and device: 1 is stochastic descent, "full" is batch
    accumulate: int = 1  # batches a step
    optimizer: Optimizer = Optimizer.ADAMW
    lr: float = 1e-3  # highest learning rate
    momentum: float = 0.9  # of momentum and nesterov
    weight_decay: float = 0.0  # of tensors with two or more dimensions: not of biases and norms
    clip: float | None = None  # longest gradient (L2 norm)
    schedule: Schedule = Schedule.CONSTANT
    warmup: int = 0  # steps over which the learning rate rises from nothing
    lr_end: float = 0.01  # of lr, at the end of exponential, cosine and one_cycle
    rise: float = 0.3  # part of one_cycle before its top
    drop: float = 0.1  # factor of step and plateau
    drops: int = 2  # of step
    plateau: int = 3  # epochs
    patience: int | None = None  # epochs without a better ``monitor`` before it stops early
    monitor: str = "val_loss"  # what the best checkpoint is best in
    mode: Mode = Mode.MIN
    ema: float | None = None  # decay a step of the moving average of the weights
    precision: Precision = Precision.FULL
    accelerator: str = "auto"  # of Lightning: cpu, gpu, mps
    devices: int = 1  # on each machine
    nodes: int = 1  # machines
    validate_every: int = 1  # epochs
    workers: int = 0  # processes that read data, for each device
    deterministic: bool = True  # only operations that give the same result every time

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = _convert(field.name, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self._check()

    def _check(self) -> None:
        whole(self, "epochs", "drops", "plateau", "patience", "accumulate", "devices", "nodes")
        whole(self, "validate_every")
        whole(self, "seed", "warmup", "workers", least=0)
        if self.seed > MOST_SEED:
            raise wrong("seed", self.seed, f"a whole number from 0 to {MOST_SEED}")
        if self.batch != FULL and not (type(self.batch) is int and self.batch >= 1):
            raise wrong("batch", self.batch, 'a whole number from 1, or "full"')
        between(self, 0, math.inf, "lr", "minutes", "clip")
        between(self, 0, 1, "lr_end", "rise", "drop", "ema")
        if self.rise == 1:
            raise wrong("rise", self.rise, "a number above 0 and below 1")
        between(self, 0, math.inf, "weight_decay", closed=True)
        between(self, 0, 1, "momentum", closed=True)
        if self.epochs is None and self.minutes is None:
            raise wrong("epochs", None, "a number, because minutes has none either")
        if self.schedule is Schedule.PLATEAU and self.warmup:
            raise wrong("warmup", self.warmup, "0 with the schedule plateau")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe with ``values``, given as JSON has them, or as texts.

        Raises:
            InvalidInput: an unknown field, or a value that does not belong into it.
        """
        return cls(**cls._converted(values))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The recipe in the JSON file ``path``.

        Raises:
            InvalidInput: no such file, no JSON object, or as :meth:`from_dict`.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                N_("%(file)s is not a recipe: %(reason)s"), file=str(path), reason=error
            ) from error
        if not isinstance(values, dict):
            raise InvalidInput(
                N_("%(file)s is not a recipe: %(reason)s"), file=str(path), reason="no JSON object"
            )
        return cls.from_dict(values)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """This recipe with other ``values``; raises as :meth:`from_dict`."""
        return replace(self, **self._converted(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON can hold them."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    @classmethod
    def _converted(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        hints = get_type_hints(cls)
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise InvalidInput(
                    N_("A recipe has no field “%(field)s”. Its fields: %(known)s."),
                    field=name,
                    known=", ".join(known),
                )
        return {name: _convert(name, hints[name], value) for name, value in values.items()}


def wrong(field: str, value: object, expected: str) -> InvalidInput:
    """The error that says what belongs into ``field`` of a recipe."""
    return InvalidInput(
        N_("%(field)s is %(value)s in the recipe, but must be %(expected)s."),
        field=field,
        value=value,
        expected=expected,
    )


def whole(recipe: Recipe, *names: str, least: int = 1) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not (type(value) is int and value >= least):
            raise wrong(name, value, f"a whole number from {least}")


def between(recipe: Recipe, low: float, high: float, *names: str, closed: bool = False) -> None:
    """``closed``: ``low`` itself is allowed."""
    for name in names:
        value = getattr(recipe, name)
        if value is None:
            continue
        inside = math.isfinite(value) and value <= high
        if not (inside and (value > low or (closed and value == low))):
            bound = f"a number from {low}" if closed else f"a number above {low}"
            raise wrong(name, value, bound if high == math.inf else f"{bound} to {high}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _convert(field: str, hint: Any, value: Any) -> Any:
    """``value`` (of JSON, or a text of the command line) as ``hint`` says."""
    if get_origin(hint) is UnionType:
        choices = get_args(hint)
        if type(None) in choices and value in (None, "", "none"):
            return None
        for choice in sorted(choices, key=lambda kind: kind is str):  # anything is a str
            try:
                return _convert(field, choice, value)
            except InvalidInput as error:
                failure = error
        raise failure
    if get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise wrong(field, value, "a list")
        kind = get_args(hint)[0]
        return tuple(_convert(field, kind, part) for part in parts if part != "")
    return _simple(field, hint, value)


def _simple(field: str, kind: Any, value: Any) -> Any:
    if kind is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise wrong(field, value, "true or false")
    if isinstance(value, bool) or value is None or kind is type(None):
        raise wrong(field, value, _words(kind))
    try:
        if kind is int and isinstance(value, float):
            raise ValueError
        return kind(value)
    except (ValueError, TypeError) as error:
        raise wrong(field, value, _words(kind)) from error


def _words(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {int: "a whole number", float: "a number"}.get(kind, "a text")
