"""k-fold cross validation: every example validates once."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from apps.errors import N_, InvalidInput
from apps.vision.train.classifier import (
    ClassifierModule,
    ClassifierRecipe,
    Pictures,
    build,
    hold_out_test,
)
from apps.vision.train.data import Source
from apps.vision.train.fit import fit

RESULT = "folds.json"


@dataclass(frozen=True, slots=True)
class Folds:
    """The best ``monitor`` of each fold."""

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Of a single fold: sample standard deviation."""
        return statistics.stdev(self.scores)


def folds_of(labels: Sequence[int], count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """(training, validation) indices of ``count`` folds, by seed, each class spread evenly.

    Raises:
        InvalidInput: fewer than two folds, or more than a class has examples.
    """
    fewest = min(list(labels).count(label) for label in set(labels))
    if not 2 <= count <= fewest:
        raise InvalidInput(
            N_("There can be 2 to %(most)s folds (the smallest class has so many), not %(count)s."),
            most=fewest,
            count=count,
        )
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), int)
    for label in sorted(set(labels)):
        members = rng.permutation(np.flatnonzero(np.asarray(labels) == label))
        fold[members] = np.arange(len(members)) % count
    return [
        (np.flatnonzero(fold != k).tolist(), np.flatnonzero(fold == k).tolist())
        for k in range(count)
    ]


def cross_validate(
    recipe: ClassifierRecipe,
    source: Source,
    out: Path,
    *,
    folds: int = 5,
    report: Callable[[str], object] = lambda _: None,
) -> Folds:
    """Train ``folds`` times, each time validating on another part of train.

    Neither the test part is touched, which is held out of train where ``source`` has none, nor val.

    Args:
        out: gets a run's folder for each fold (fold-0, …) and folds.json.
        report: told the score of each fold.

    Raises:
        InvalidInput: as :func:`folds_of`, or as a training.
    """
    scores = []
    kept, _test = hold_out_test(source, recipe)
    labels = [source.train.labels[index] for index in kept]
    for number, places in enumerate(folds_of(labels, folds, recipe.seed)):
        train, val = ([kept[place] for place in part] for part in places)
        torch.manual_seed(recipe.seed)
        classes = len(source.classes)
        module = ClassifierModule(build(recipe, classes), recipe, classes)
        run = fit(module, Pictures(source, recipe, (train, val)), recipe, out / f"fold-{number}")
        scores.append(run.score)
        report(f"fold {number}: {recipe.monitor} {run.score:.4f}")
    found = Folds(tuple(scores))
    text = {"scores": scores, "mean": found.mean, "deviation": found.deviation}
    (out / RESULT).write_text(json.dumps(text, indent=1), encoding="utf-8")
    return found
