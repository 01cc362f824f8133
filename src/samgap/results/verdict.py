"""Does the gap grow with the number of parameters? One answer a study, with the statistic behind it."""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from samgap.results.gaps import Gaps
from samgap.results.table import words

LEVEL = 0.05
NULL_STUDIES = 20_000


@dataclass(frozen=True)
class Verdict:
    """The answer for one series of cells.

    Page's L takes seeds as blocks and cells in order of size; p values are one-sided, see `trend`. The slope is that
    of a straight line through a seed's gaps over log10(parameters): percentage points a decade, mean over seeds.
    """

    series: str  # the cell's other axes, "" where there are none
    answer: Literal["reproduced", "not reproduced", "inconclusive"]
    reason: str
    protocol: str  # how rho was chosen
    seeds: int  # with all cells
    cells: int
    trend_l: float  # Page's L
    p_up: float
    p_down: float
    slope: float
    slope_low: float  # 95 %
    slope_high: float
    published_slope: float


def verdicts(found: Gaps, x: str, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series: the cells that differ in size alone.

    Args:
        found: gaps; their unbiased protocol is used, since the paper's choice of rho lifts small gaps.
        x: column of `found.cells` that orders the cells and makes the slope's axis.
        published: columns params and gap, or None.
    """
    target = slope(position("params", published["params"]), published["gap"]) if published is not None else math.nan
    result = []
    for name, cells in series(found, x):
        ordered = cells.sort_values(x)
        values, places = matrix(found, ordered), position(x, ordered[x])
        result.append(judge(name, values, places, found.unbiased, found.rhos, target))
    return result


def series(found: Gaps, x: str) -> list[tuple[str, pd.DataFrame]]:
    """(name, cells) of each series, named by the axes that neither `x` nor the width stands for."""
    others = [axis for axis in found.axes if axis not in (x, "model.width")]
    if not others:
        return [("", found.cells)]
    groups = found.cells.groupby(others, sort=False, dropna=False)
    return [(words(dict(zip(others, values, strict=True))), cells) for values, cells in groups]


def position(x: str, values: Any) -> np.ndarray:
    """Where cells stand on the slope's axis: log10 of parameter counts, other axes as they are."""
    numbers = np.asarray(values, dtype=float)
    return np.log10(numbers) if x.startswith("params") else numbers


def matrix(found: Gaps, cells: pd.DataFrame) -> pd.DataFrame:
    """Unbiased gaps by seed (rows) and cell (columns, in the order of `cells`); seeds that lack a cell are left out."""
    rows = found.by_seed[found.by_seed["protocol"] == found.unbiased]
    columns = {}
    for label, cell in cells.iterrows():
        mine = rows
        for axis in found.axes:
            mine = mine[mine[axis] == cell[axis]]
        columns[label] = mine.set_index("seed")["gap"]
    return pd.DataFrame(columns).dropna()


def judge(series: str, values: pd.DataFrame, x: Any, protocol: str, rhos: int, target: float) -> Verdict:
    """The verdict for gaps by seed and cell.

    Args:
        series: its name.
        values: (seeds, cells), cells in order of size.
        x: position of each cell, see `position`.
        protocol: how rho was chosen.
        rhos: how many there were to choose from.
        target: the published slope, nan where there is none.
    """
    seeds, cells = values.shape
    statistic = up = down = middle = low = high = math.nan
    if seeds >= 2 and cells >= 3:
        statistic, up, down = trend(values.to_numpy(), protocol, rhos)
    if seeds >= 2 and cells >= 2:
        slopes = np.array([slope(x, row) for row in values.to_numpy()])
        middle = float(slopes.mean())
        reach = float(stats.t.ppf(0.975, seeds - 1) * slopes.std(ddof=1) / math.sqrt(seeds))
        low, high = middle - reach, middle + reach
    answer, reason = _answer(seeds, cells, up, down, low, high, target)
    return Verdict(series, answer, reason, protocol, seeds, cells, statistic, up, down, middle, low, high, target)


def trend(values: np.ndarray, protocol: str, rhos: int) -> tuple[float, float, float]:
    """Page's L of gaps (seeds, cells), with the one-sided p value of a rise and that of a fall.

    Page's own null distribution takes blocks as independent. Gaps whose rho was chosen on a holdout are. Leaving one
    seed out, two seeds share most of the runs that choose for them, so they agree by chance, and Page's p < .05 comes
    in 7 to 8 % of studies without any effect. Their p values are read off `null_distribution` instead.
    """
    forward, backward = stats.page_trend_test(values), stats.page_trend_test(values[:, ::-1])
    if protocol != "loso":
        return float(forward.statistic), float(forward.pvalue), float(backward.pvalue)
    null = null_distribution(*values.shape, rhos)
    up, down = (
        (1 + len(null) - np.searchsorted(null, result.statistic)) / (1 + len(null)) for result in (forward, backward)
    )
    return float(forward.statistic), float(up), float(down)


@functools.lru_cache(maxsize=32)
def null_distribution(seeds: int, cells: int, rhos: int) -> np.ndarray:
    """Page's L, sorted, in 20,000 simulated studies in which every run is the same noise and each seed's rho is the
    best of the other seeds. L is made of ranks, so the noise's size does not matter.
    """
    random = np.random.default_rng(0)
    statistics = []
    for _ in range(20):  # in parts, to bound memory
        studies = NULL_STUDIES // 20
        sam = random.standard_normal((studies, seeds, cells, rhos))
        sgd = random.standard_normal((studies, seeds, cells))
        chosen = (sam.sum(axis=1, keepdims=True) - sam).argmax(axis=-1)
        gaps = np.take_along_axis(sam, chosen[..., None], axis=-1)[..., 0] - sgd
        ranks = gaps.argsort(axis=-1).argsort(axis=-1) + 1
        statistics.append((ranks.sum(axis=1) * np.arange(1, cells + 1)).sum(axis=-1))
    return np.sort(np.concatenate(statistics))


def slope(x: Any, gaps: Any) -> float:
    """Least-squares slope of gaps over positions: percentage points a decade of parameters."""
    return float(np.polyfit(np.asarray(x, dtype=float), np.asarray(gaps, dtype=float), 1)[0])


def _answer(
    seeds: int, cells: int, up: float, down: float, low: float, high: float, target: float
) -> tuple[Literal["reproduced", "not reproduced", "inconclusive"], str]:
    if seeds < 2 or cells < 3:
        return "inconclusive", f"a trend wants 2 seeds and 3 cells, there are {seeds} and {cells}"
    if up < LEVEL:
        return "reproduced", f"the gap grows with size (trend test, one-sided p = {up:.3g})"
    if down < LEVEL:
        return "not reproduced", f"the gap shrinks with size (trend test, one-sided p = {down:.3g})"
    if not math.isnan(target) and not low <= target <= high:
        return (
            "not reproduced",
            f"no trend (p = {up:.3g}), and the slope's 95 % interval [{low:.3g}, {high:.3g}] excludes "
            f"the published {target:.3g}",
        )
    return "inconclusive", f"no trend either way (one-sided p = {up:.3g} up, {down:.3g} down)"
