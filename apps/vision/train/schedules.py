"""Learning rates over the course of a training, as factors of the highest one."""

import math

from apps.vision.train.recipes import Recipe, Schedule


def factor(recipe: Recipe, progress: float, step: int) -> float:
    """What the learning rate is multiplied with.

    Args:
        progress: part of the training that is done, 0..1; of its steps, or of its minutes.
        step: optimizer steps that are done, for the warm-up.
    """
    t = min(max(progress, 0.0), 1.0)
    warm = min(1.0, (step + 1) / (recipe.warmup + 1))
    return warm * _decay(recipe, t)


def _decay(recipe: Recipe, t: float) -> float:
    match recipe.schedule:
        case Schedule.STEP:
            return float(recipe.drop ** min(int(t * (recipe.drops + 1)), recipe.drops))
        case Schedule.EXPONENTIAL:
            return float(recipe.lr_end**t)
        case Schedule.COSINE:
            return _between(1.0, recipe.lr_end, t)
        case Schedule.ONE_CYCLE if t < recipe.rise:
            return _between(0.04, 1.0, t / recipe.rise)  # from 1/25, as Smith does
        case Schedule.ONE_CYCLE:
            return _between(1.0, recipe.lr_end, (t - recipe.rise) / (1 - recipe.rise))
        case _:
            return 1.0


def _between(start: float, end: float, t: float) -> float:
    """Half a cosine from ``start`` at t = 0 to ``end`` at t = 1."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2
