"""Our slopes over the sizes of nets and the published ones; noisier cells have smaller weights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap.series import Series, position, published_for


def spreads(gaps: np.ndarray) -> np.ndarray:
    """Return the standard deviation over seeds (..., cells) of gaps (..., seeds, cells), shrunk to their mean.

    A variance from few seeds is inexact. So the logarithm of each cell's variance moves to the mean over cells by a
    share of 1/(seeds - 1): two seeds make all cells equal. Without any variation, or with one seed, the result is 1.
    """
    if gaps.shape[-2] < 2:
        return np.ones(gaps.shape[-1])
    variance = gaps.var(axis=-2, ddof=1)
    largest = variance.max(axis=-1, keepdims=True)
    logs = np.log(np.where(largest > 0, np.maximum(variance, 1e-6 * largest), 1))
    middle = logs.mean(axis=-1, keepdims=True)
    return np.asarray(np.exp((logs + (middle - logs) / (gaps.shape[-2] - 1)) / 2))


def coefficients(positions: Any, spread: np.ndarray) -> np.ndarray:
    """Return the coefficients (..., cells) of a weighted least-squares slope, which is their dot product with gaps.

    Args:
        positions: (cells,), see `position`.
        spread: standard deviations (..., cells); weights are 1 / spread^2.
    """
    weights, positions = spread**-2.0, np.asarray(positions, dtype=float)
    centers = (weights * positions).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    weighted = weights * (positions - centers)
    scale = (weighted * positions).sum(axis=-1, keepdims=True)
    return np.asarray(weighted / np.where(scale > 0, scale, math.nan))  # scale is 0 if all positions are equal


def slopes(positions: Any, gaps: np.ndarray) -> np.ndarray:
    """Return slopes (..., seeds) of gaps (..., seeds, cells): percentage points per decade of parameters."""
    return np.asarray(np.einsum("...sc,...c->...s", gaps, coefficients(positions, spreads(gaps))))


@dataclass(frozen=True)
class Published:
    """The published slope over the sizes that we have too, with our weights, or else over all published sizes."""

    slope: float = math.nan
    error: float = 0.0  # standard error from the published bands; 0 without bands
    shared: tuple[int, ...] = ()  # positions of our cells with a published size; () if fewer than two have one

    def minus(self, other: "Published") -> "Published":
        """Return the difference of two slopes."""
        fewer = min(other.shared, self.shared, key=len)
        return Published(self.slope - other.slope, math.hypot(self.error, other.error), fewer)

    def __str__(self) -> str:
        error = f" ± {self.error:.2g}" if self.error else ""
        return f"{self.slope:.3g}{error}{'' if self.shared else ' (of other sizes)'}"


def published_slope(series: Series, cells: pd.DataFrame, spread: np.ndarray, value: str = "gap") -> Published:
    """Return the published slope of a series, nan if fewer than two sizes were published.

    Args:
        series: ours.
        cells: its cells, in the order of x.
        spread: standard deviations (cells,) of our gaps.
        value: the column of the published table; the error of "gap" is its gap_band, taken as a standard error.
    """
    gaps, x = series.gaps, series.x
    hidden = {*gaps.axes} - {*series.axes, x, "model.width"}
    axes = series.axes | {axis: "several" for axis in hidden if gaps.cells[axis].nunique() > 1}
    if series.published is None or len(rows := published_for(series.published, axes, x)) < 2:
        return Published()
    # Match sizes as `beside.side_by_side` does.
    keys = {"model.width": "width"} | ({x: "x"} if x in gaps.axes and not gaps.equal_parameters else {})
    by_cell = {}
    for place, (_, cell) in enumerate(cells.iterrows() if "model.width" in cells else ()):
        matches = np.all([(rows[column] - cell[key]).round(2) == 0 for key, column in keys.items()], axis=0)
        if matches.any():
            by_cell[place] = rows[matches].iloc[0]
    shared = [*by_cell] if len(by_cell) >= 2 else []
    weights = coefficients(position(x, rows["x"]), np.ones(len(rows)))
    if shared:
        rows = pd.DataFrame(by_cell.values())
        weights = coefficients(position(x, cells[x].iloc[shared]), spread[shared])
    bands = rows["gap_band"] if value == "gap" and "gap_band" in rows else 0 * rows[value]
    error = np.linalg.norm(weights * bands.fillna(0))  # of two joined tables, one may lack bands
    return Published(float(weights @ rows[value]), float(error), tuple(shared))
