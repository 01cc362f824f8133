"""Tests and constants that the verdicts of all questions share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

LEVEL = 0.05  # a p value below it decides
POWER = 0.8  # share of studies that should find an effect
INTERPOLATES = 0.999  # final training accuracy from which a net counts as interpolating


def above(values: Any) -> float:
    """One-sided p value of a mean above 0, by Student's t; nan for fewer than two values."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return math.nan if values[0] == 0 else float(values[0] < 0)
    return float(special.stdtr(len(values) - 1, -values.mean() / error))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of several p values: the chance that any of them is below 5 % without an effect is 5 %."""
    found, largest = [0.0] * len(p), 0.0
    for done, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = found[place] = max(largest, min(1.0, (len(p) - done) * p[place]))
    return found


def critical(statistics: np.ndarray) -> float:
    """The largest value that a share `LEVEL` of statistics (studies,) without effect reaches."""
    return float(np.sort(statistics)[-math.ceil(LEVEL * len(statistics))])


def detectable(finds: Callable[[float], float], start: float, largest: float, halvings: int = 10) -> float:
    """The smallest effect that a share `POWER` of studies finds; nan if it would be above `largest`.

    Args:
        finds: the share of studies that finds an effect.
        start: first trial; it is doubled until enough studies find it.
        largest: last trial.
        halvings: of the interval between the last two trials.
    """
    low, high = 0.0, start
    while finds(high) < POWER:
        low, high = high, 2 * high
        if high > largest:
            return math.nan
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if finds(middle) >= POWER else (middle, high)
    return high


def pages_l(values: np.ndarray) -> np.ndarray:
    """Page's L (...) of values (..., seeds, cells): the cells' sums of ranks with weights 1, 2, ...; ties share ranks.

    It is computed without sorting: for each pair of cells, a larger value adds 1 to the rank of its cell.
    """
    cells = values.shape[-1]
    columns = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    total = np.full(columns.shape[1:], cells * (cells + 1) / 2, dtype=np.float32)
    for later in range(1, cells):
        for sooner in range(later):
            larger = np.sign(columns[later] - columns[sooner]) + np.float32(1)
            total += (sooner + 1) + (later - sooner) / 2 * larger.astype(np.float32)
    return np.asarray(total.sum(axis=-1))
