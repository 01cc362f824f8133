"""Does the best rho grow with the number of parameters? The UAI version's figures 8 and 9 ask it."""

import math

import numpy as np
import pandas as pd
from scipy import special

from samgap.errors import SettingError
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.series import matrix, mixed, position, series
from samgap.figures.gap.trend import Verdict, published_slope, slope
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL
from samgap.figures.table import words

SHUFFLES = 20_000


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series, as `verdict.verdicts` gives them for gaps.

    Each seed's best rho is that of its own runs, so seeds are independent. Slopes are of log10(rho): decades of rho a
    decade of parameters.

    Args:
        found: gaps; `best` is used.
        x: column of `found.cells` that orders the cells.
        over: axes that make a series.
        published: columns params and best_rho, or None.

    Raises:
        SettingError: the published table has no best rho.
    """
    if published is not None and "best_rho" not in published:
        raise SettingError(
            "draw.published must be a table with a best rho (fig7, fig8, fig9) or null for this question."
        )
    result = []
    for axes, cells in series(found, x, over):
        ordered = cells.sort_values(x)
        values = np.log10(matrix(found.best, "rho", found.axes, ordered).to_numpy())
        theirs = None if published is None else published.assign(decades=np.log10(published["best_rho"]))
        target = published_slope(theirs, mixed(found, axes, x), x, "decades")
        result.append(_judge(words(axes), values, position(x, ordered[x]), x, target))
    return result


def _judge(named: str, values: np.ndarray, places: np.ndarray, x: str, target: float) -> Verdict:
    seeds, cells = values.shape
    statistic = up = down = middle = low = high = math.nan
    answer: Answer = "inconclusive"
    reason = f"a trend wants 2 seeds and 3 cells, there are {seeds} and {cells}"
    if seeds >= 2 and cells >= 2:
        slopes = np.array([slope(places, row) for row in values])
        reach = float(special.stdtrit(seeds - 1, 0.975)) * slopes.std(ddof=1) / math.sqrt(seeds)
        middle, low, high = float(slopes.mean()), float(slopes.mean() - reach), float(slopes.mean() + reach)
    if seeds >= 2 and cells >= 3:
        statistic, up, down = trend(values)
        along = "size" if x.startswith("params") else x
        reason = f"no trend either way (one-sided p = {up:.3g} up, {down:.3g} down)"
        if up < LEVEL:
            answer, reason = "reproduced", f"the best rho grows with {along} (trend test, one-sided p = {up:.3g})"
        elif down < LEVEL:
            answer, reason = (
                "not reproduced",
                f"the best rho shrinks with {along} (trend test, one-sided p = {down:.3g})",
            )
    return Verdict(named, answer, reason, "own runs", seeds, cells, statistic, up, down, middle, low, high, target)


def trend(values: np.ndarray) -> tuple[float, float, float]:
    """Page's L of values (seeds, cells), with the one-sided p value of a rise and that of a fall.

    Few rhos make many ties, which Page's own distribution does not know; so p is the share of shuffles of the cells
    within each seed that reach as far.
    """
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    weights = np.arange(1, values.shape[1] + 1)
    shuffled = np.random.default_rng(0).permuted(np.broadcast_to(ranks, (SHUFFLES, *ranks.shape)), axis=2)
    studies = shuffled.sum(axis=1) @ weights
    found = float(ranks.sum(axis=0) @ weights)
    up, down = ((1 + (side >= 0).sum()) / (1 + SHUFFLES) for side in (studies - found, found - studies))
    return found, float(up), float(down)
