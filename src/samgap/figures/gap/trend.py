"""Does the gap grow with the number of parameters? One answer a study, with the statistic behind it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.series import by_seed, mixed, position, published_for, series
from samgap.figures.output import Answer, Judgment
from samgap.figures.significance import LEVEL
from samgap.figures.table import words


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one series of cells.

    Page's L takes seeds as blocks and cells in order of size; p values are one-sided, see `trend`. The slope is that
    of a straight line through a seed's gaps over log10(parameters): percentage points a decade, mean over seeds.
    """

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


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series: the cells that differ in size alone.

    Args:
        found: gaps; their unbiased protocol is used, since the paper's choice of rho lifts small gaps.
        x: column of `found.cells` that orders the cells and makes the slope's axis.
        over: axes that make a series, see `series`.
        published: a table of gaps, or None. Its slope is compared with that of the same cells, see `published_for`.
    """
    result = []
    for axes, cells in series(found, x, over):
        values, places = by_seed(found, cells, x)
        target = published_slope(published, mixed(found, axes, x), x)
        result.append(judge(words(axes), values, places, x, found.unbiased, found.rhos, target))
    return result


def published_slope(published: pd.DataFrame | None, axes: Mapping[str, Any], x: str, value: str = "gap") -> float:
    """Slope of the published values of a series, nan where there are fewer than two."""
    if published is None or len(theirs := published_for(published, axes, x)) < 2:
        return math.nan
    return slope(position(x, theirs["x"]), theirs[value])


def judge(series: str, values: pd.DataFrame, places: Any, x: str, protocol: str, rhos: int, target: float) -> Verdict:
    """The verdict for gaps by seed and cell.

    Args:
        series: its name.
        values: (seeds, cells), cells in order.
        places: position of each cell, see `position`.
        x: what the cells are in order of.
        protocol: how rho was chosen, leaving one seed out.
        rhos: how many there were to choose from.
        target: the published slope, nan where there is none.
    """
    seeds, cells = values.shape
    statistic = up = down = middle = low = high = math.nan
    if seeds >= 2 and cells >= 2:
        found = slopes(places, values.to_numpy())
        reach = null.reach(slopes(places, null.gaps(seeds, cells, rhos))) * found.std(ddof=1) / math.sqrt(seeds)
        middle, low, high = float(found.mean()), float(found.mean() - reach), float(found.mean() + reach)
    if seeds >= 2 and cells >= 3:
        statistic, up, down = trend(values.to_numpy(), rhos)
    answer, reason = _answer(seeds, cells, "size" if x.startswith("params") else x, up, down, low, high, target)
    return Verdict(series, answer, reason, protocol, seeds, cells, statistic, up, down, middle, low, high, target)


def trend(values: np.ndarray, rhos: int) -> tuple[float, float, float]:
    """Page's L of gaps (seeds, cells), with the one-sided p value of a rise and that of a fall.

    Page's own null distribution takes seeds as independent; leaving one seed out makes them agree by chance, and his
    p < .05 would come in 7 to 8 % of studies without any effect. So p is read off such studies, see `null`.
    """
    studies = null.page(*values.shape, rhos)
    forward, backward = (page(side) for side in (values, values[:, ::-1]))
    up, down = ((1 + len(studies) - np.searchsorted(studies, l_)) / (1 + len(studies)) for l_ in (forward, backward))
    return forward, float(up), float(down)


def page(values: np.ndarray) -> float:
    """Page's L of values (seeds, cells): the cells' sums of ranks, weighted 1, 2, ...; ties share the mean rank."""
    sums = pd.DataFrame(values).rank(axis=1).sum()
    return float(sums @ np.arange(1, len(sums) + 1))


def slope(places: Any, gaps: Any) -> float:
    """Least-squares slope of gaps over positions: percentage points a decade of parameters."""
    return float(slopes(places, np.asarray(gaps, dtype=float)))


def slopes(places: Any, gaps: np.ndarray) -> np.ndarray:
    """Slopes along the last axis of `gaps`; nan where all places are one."""
    centered = np.asarray(places, dtype=float) - np.mean(places)
    spread = centered @ centered
    found: np.ndarray = gaps @ centered / (spread or math.nan)
    return found


def _answer(
    seeds: int, cells: int, along: str, up: float, down: float, low: float, high: float, target: float
) -> tuple[Answer, str]:
    if seeds < 2 or cells < 3:
        return "inconclusive", f"a trend wants 2 seeds and 3 cells, there are {seeds} and {cells}"
    if up < LEVEL:
        return "reproduced", f"the gap grows with {along} (trend test, one-sided p = {up:.3g})"
    if down < LEVEL:
        return "not reproduced", f"the gap shrinks with {along} (trend test, one-sided p = {down:.3g})"
    if not math.isnan(target) and not low <= target <= high:
        return (
            "not reproduced",
            f"no trend (p = {up:.3g}), and the slope's 95 % interval [{low:.3g}, {high:.3g}] excludes "
            f"the published {target:.3g}",
        )
    return "inconclusive", f"no trend either way (one-sided p = {up:.3g} up, {down:.3g} down)"
