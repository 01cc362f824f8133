"""What the verdicts of all questions share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

LEVEL = 0.05  # a p value below it decides
INTERPOLATES = 0.999  # final training accuracy from which a net counts as interpolating


def above(values: Any) -> float:
    """One-sided p value of a mean above 0, by Student's t; nan of fewer than two values."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return math.nan if values[0] == 0 else float(values[0] < 0)
    return float(special.stdtr(len(values) - 1, -values.mean() / error))


def holm(p: Sequence[float]) -> list[float]:
    """The p values of several questions, corrected so that any is below the level by chance in 5 % of cases alone."""
    found, largest = [0.0] * len(p), 0.0
    for done, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = found[place] = max(largest, min(1.0, (len(p) - done) * p[place]))
    return found
