"""Slopes over the sizes of nets, ours and the published, weighted by how noisy the cells are."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap.series import Series, position, published_for


def spreads(gaps: np.ndarray) -> np.ndarray:
    """Standard deviation over seeds of each cell, (..., cells) of gaps (..., seeds, cells).

    Few seeds estimate a variance badly. So its logarithm moves to the mean over cells by a share of 1/(seeds - 1): with
    two seeds, all cells are equal. If every cell has equal gaps, or there is one seed, it is 1.
    """
    if gaps.shape[-2] < 2:
        return np.ones(gaps.shape[-1])
    variance = gaps.var(axis=-2, ddof=1)
    largest = variance.max(axis=-1, keepdims=True)
    logs = np.log(np.where(largest > 0, np.maximum(variance, 1e-6 * largest), 1))
    middle = logs.mean(axis=-1, keepdims=True)
    return np.exp((logs + (middle - logs) / (gaps.shape[-2] - 1)) / 2)


def coefficients(places: Any, spread: np.ndarray) -> np.ndarray:
    """Coefficients (..., cells) of a weighted least-squares slope: it is the sum of their products with the gaps.

    Args:
        places: (cells,), see `position`.
        spread: (..., cells); weights are one over its square.
    """
    weights, places = spread**-2.0, np.asarray(places, dtype=float)
    centers = (weights * places).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    found = weights * (places - centers)
    scale = (found * places).sum(axis=-1, keepdims=True)
    return found / np.where(scale > 0, scale, math.nan)  # all places are one


def slopes(places: Any, gaps: np.ndarray) -> np.ndarray:
    """The slope of each seed, (..., seeds), of gaps (..., seeds, cells): percentage points a decade of parameters."""
    return np.einsum("...sc,...c->...s", gaps, coefficients(places, spreads(gaps)))


@dataclass(frozen=True)
class Published:
    """The published slope: over the sizes in common with ours, by our weights; else over all published sizes."""

    slope: float = math.nan
    error: float = 0.0  # standard error by the published bands; 0 if there are none
    shared: tuple[int, ...] = ()  # positions of our cells with a published size; () if fewer than two have one

    def minus(self, other: "Published") -> "Published":
        """Return the difference of two slopes."""
        fewer = min(other.shared, self.shared, key=len)
        return Published(self.slope - other.slope, math.hypot(self.error, other.error), fewer)

    def __str__(self) -> str:
        error = f" ± {self.error:.2g}" if self.error else ""
        return f"{self.slope:.3g}{error}{'' if self.shared else ' (of other sizes)'}"


def published_slope(series: Series, cells: pd.DataFrame, spread: np.ndarray, value: str = "gap") -> Published:
    """The published slope of a series, nan if fewer than two sizes were published.

    Args:
        series: ours.
        cells: its cells, in order.
        spread: of these cells, (cells,).
        value: the column of the published table; the error of "gap" is its gap_band, taken as a standard error.
    """
    found, x = series.found, series.x
    hidden = {*found.axes} - {*series.axes, x, "model.width"}
    axes = series.axes | {axis: "several" for axis in hidden if found.cells[axis].nunique() > 1}
    if series.published is None or len(theirs := published_for(series.published, axes, x)) < 2:
        return Published()
    # As in the table.
    keys = {"model.width": "width"} | ({x: "x"} if x in found.axes and not found.equal_parameters else {})
    rows = {}
    for place, (_, cell) in enumerate(cells.iterrows() if "model.width" in cells else ()):
        same = np.all([(theirs[column] - cell[key]).round(2) == 0 for key, column in keys.items()], axis=0)
        if same.any():
            rows[place] = theirs[same].iloc[0]
    shared = [*rows] if len(rows) >= 2 else []
    across = coefficients(position(x, theirs["x"]), np.ones(len(theirs)))
    if shared:
        theirs = pd.DataFrame(rows.values())
        across = coefficients(position(x, cells[x].iloc[shared]), spread[shared])
    bands = theirs["gap_band"] if value == "gap" and "gap_band" in theirs else 0 * theirs[value]
    error = np.linalg.norm(across * bands.fillna(0))  # tables of a pruning lie together, with bands and without
    return Published(float(across @ theirs[value]), float(error), tuple(shared))
