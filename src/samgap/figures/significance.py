"""Statistical tests and constants that all verdicts share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

LEVEL = 0.05  # significance level
POWER = 0.8  # share of studies that should find an effect
INTERPOLATES = 0.999  # final training accuracy from which a net counts as interpolating


def p_above_0(values: Any) -> float:
    """Return the one-sided p value of Student's t test that the mean of values (n,) is above 0; nan if n < 2."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return math.nan if values[0] == 0 else float(values[0] < 0)
    return float(special.stdtr(len(values) - 1, -values.mean() / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values with Holm's correction: without any effect, the chance that one is below 5 % is at most 5 %."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = adjusted[index] = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
    return adjusted


def critical_value(statistics: np.ndarray) -> float:
    """Return the critical value: a share `LEVEL` of statistics (studies,) without effect is at least as large."""
    return float(np.sort(statistics)[-math.ceil(LEVEL * len(statistics))])


def detectable(power_at: Callable[[float], float], start: float, largest: float, halvings: int = 10) -> float:
    """Return the smallest effect that a share `POWER` of studies finds, by bisection; nan if above `largest`.

    Args:
        power_at: maps an effect to the share of studies that find it.
        start: first trial; it is doubled until enough studies find it.
        largest: largest trial.
        halvings: bisection steps between the last two trials.
    """
    low, high = 0.0, start
    while power_at(high) < POWER:
        low, high = high, 2 * high
        if not high <= largest:  # also if either is nan
            return math.nan
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= POWER else (middle, high)
    return high


def pages_l(values: np.ndarray) -> np.ndarray:
    """Return Page's L (...) of values (..., seeds, cells): the sum over cells k = 1, 2, ... of k times its rank sum.

    Ties share ranks. Ranks are computed without sorting: in each pair of cells, the larger value adds 1 to its rank.
    """
    cells = values.shape[-1]
    columns = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    total = np.full(columns.shape[1:], cells * (cells + 1) / 2, dtype=np.float32)
    for later in range(1, cells):
        for earlier in range(later):
            larger = np.sign(columns[later] - columns[earlier]) + np.float32(1)
            total += (earlier + 1) + (later - earlier) / 2 * larger.astype(np.float32)
    return np.asarray(total.sum(axis=-1))
