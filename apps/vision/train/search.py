"""Search for a good recipe: on a grid, at random (Bergstra and Bengio 2012), or Bayesian with
Optuna's tree of Parzen estimators (Bergstra et al. 2011)."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import optuna
import torch

from apps.errors import N_, InvalidInput
from apps.vision.train.classifier import ClassifierModule, ClassifierRecipe, Pictures, build
from apps.vision.train.data import Source
from apps.vision.train.fit import fit
from apps.vision.train.recipes import Mode

BEST, TRIALS = "best.json", "trials.csv"


class Method(StrEnum):
    GRID = "grid"
    RANDOM = "random"
    BAYESIAN = "bayesian"


@dataclass(frozen=True, slots=True)
class Found:
    """The best recipe that was tried, and how it scored."""

    values: dict[str, Any]  # of the fields that were searched
    score: float  # its best ``monitor``
    recipe: ClassifierRecipe


@dataclass(frozen=True, slots=True)
class Space:
    """Values of one field: a list of them, or a range."""

    field: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @classmethod
    def read(cls, field: str, text: str) -> "Space":
        """``a,b,c`` is a list; ``low..high`` is a range, even in the logarithm if it is positive.

        Raises:
            InvalidInput: neither.
        """
        low, dots, high = text.partition("..")
        if not dots:
            return cls(field, tuple(text.split(",")))
        try:
            whole = low.isdecimal() and high.isdecimal()
            space = cls(field, (), float(low), float(high), whole)
        except ValueError:
            space = cls(field)
        if not space.low < space.high:
            raise InvalidInput(
                N_("%(text)s is no range for %(field)s; write it as 0.001..0.1"),
                text=text,
                field=field,
            )
        return space

    def suggest(self, trial: optuna.Trial) -> Any:
        if self.values:
            return trial.suggest_categorical(self.field, self.values)
        if self.whole:
            return trial.suggest_int(self.field, int(self.low), int(self.high))
        return trial.suggest_float(self.field, self.low, self.high, log=self.low > 0)


def search_recipes(
    recipe: ClassifierRecipe,
    source: Source,
    out: Path,
    spaces: Mapping[str, str],
    method: Method,
    *,
    trials: int = 10,
    report: Callable[[str], object] = lambda _: None,
) -> Found:
    """Train with several recipes and keep the one with the best ``monitor`` on the validation part.

    Args:
        out: gets a run's folder for each trial (trial-0, …), trials.csv and best.json.
        spaces: field of the recipe -> its values, as :meth:`Space.read` takes them.
        trials: of random and Bayesian search; a grid is walked through whole.

    Raises:
        InvalidInput: a space or a value that is none, or a grid over a range.
    """
    chosen = [Space.read(field, text) for field, text in spaces.items()]
    for space in chosen:  # a wrong field or value is told before the first training
        for value in space.values or (int(space.low) if space.whole else space.low,):
            recipe.changed({space.field: value})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if recipe.mode is Mode.MAX else "minimize",
        sampler=_sampler(method, chosen, recipe.seed),
    )

    def objective(trial: optuna.Trial) -> float:
        values = {space.field: space.suggest(trial) for space in chosen}
        tried = recipe.changed(values)
        torch.manual_seed(tried.seed)
        classes = len(source.classes)
        module = ClassifierModule(build(tried, classes), tried, classes)
        try:
            run = fit(module, Pictures(source, tried), tried, out / f"trial-{trial.number}")
        except InvalidInput as error:  # a loss that is not finite, for the most part
            report(f"trial {trial.number}: {json.dumps(values)} failed: {error}")
            raise optuna.TrialPruned from error
        report(f"trial {trial.number}: {json.dumps(values)} {tried.monitor} {run.score:.4f}")
        return run.score

    study.optimize(objective, n_trials=None if method is Method.GRID else trials)
    return _written(study, recipe, out, chosen)


def _sampler(method: Method, spaces: list[Space], seed: int) -> optuna.samplers.BaseSampler:
    if method is Method.RANDOM:
        return optuna.samplers.RandomSampler(seed=seed)
    if method is Method.BAYESIAN:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    ranges = [space.field for space in spaces if not space.values]
    if ranges:
        raise InvalidInput(
            N_("A grid needs a list of values for %(field)s, for example %(field)s=0.1,0.01"),
            field=ranges[0],
        )
    return optuna.samplers.GridSampler({s.field: s.values for s in spaces}, seed=seed)


def _written(
    study: optuna.Study, recipe: ClassifierRecipe, out: Path, spaces: list[Space]
) -> Found:
    if not any(trial.value is not None for trial in study.trials):
        raise InvalidInput(N_("Not one of the trials could be trained."))
    with (out / TRIALS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", *(space.field for space in spaces), recipe.monitor])
        for trial in study.trials:
            tried = [trial.params[space.field] for space in spaces]
            writer.writerow([trial.number, *tried, trial.value])
    best = recipe.changed(study.best_params)
    (out / BEST).write_text(best.to_json(), encoding="utf-8")
    return Found(study.best_params, float(study.best_value), best)
