"""Does the gap grow more in one series than in another? The poster says so of SNIP and random pruning."""

import math

import numpy as np
import pandas as pd

from samgap.errors import SettingError
from samgap.results import null
from samgap.results.gaps import Gaps
from samgap.results.table import words
from samgap.results.verdict import LEVEL, Answer, Verdict, by_seed, published_slope, series, slopes
from samgap.results.verdict import verdicts as of_each


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series, as `verdict.verdicts` gives them, and one for the second against the first.

    The last one's slope is that of the second series minus that of the first, seed by seed; it has no Page's L.

    Args:
        found: gaps of two series.
        x: column of `found.cells` that orders the cells.
        over: axes that make a series.
        published: a table of gaps, or None.

    Raises:
        SettingError: there are not two series.
    """
    groups = series(found, x, over)
    if len(groups) != 2:
        raise SettingError(
            f"draw.verdict=samgap.results.contrast.verdicts compares two series (draw.series), and there are "
            f"{len(groups)}: sweep two values, such as pruner=random,snip, or set draw.verdict="
            "samgap.results.verdict.verdicts."
        )
    named = [words(axes) for axes, _ in groups]
    (first, first_places), (second, second_places) = (by_seed(found, cells, x) for _, cells in groups)
    target = published_slope(published, groups[1][0], x) - published_slope(published, groups[0][0], x)
    both = first.index.intersection(second.index)
    verdict = _judge(
        f"{named[1]} against {named[0]}",
        first.loc[both].to_numpy(),
        second.loc[both].to_numpy(),
        (first_places, second_places),
        found,
        target,
    )
    return [*of_each(found, x, over, published), verdict]


def _judge(
    named: str,
    first: np.ndarray,
    second: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    found: Gaps,
    target: float,
) -> Verdict:
    (seeds, cells), others = first.shape, second.shape[1]
    up = down = middle = low = high = math.nan
    answer: Answer = "inconclusive"
    if seeds < 2 or min(cells, others) < 2:
        reason = f"a difference of slopes wants 2 seeds and 2 cells in each, there are {seeds}, {cells} and {others}"
    else:
        differences = slopes(places[1], second) - slopes(places[0], first)
        studies = null.gaps(seeds, cells + others, found.rhos)
        one, other = studies[..., :cells], studies[..., cells:].copy()
        for a in range(cells):
            for b in range(others):
                if np.array_equal(first[:, a], second[:, b]):  # the dense net is in both series
                    other[..., b] = one[..., a]
        nothing = slopes(places[1], other) - slopes(places[0], one)
        error = differences.std(ddof=1) / math.sqrt(seeds)
        reach = null.reach(nothing) * error
        middle = float(differences.mean())
        low, high = middle - reach, middle + reach
        up, down = null.tails(nothing, middle / error)
        reason = f"no difference either way (one-sided p = {up:.3g} more, {down:.3g} less)"
        if up < LEVEL:
            answer, reason = "reproduced", f"the gap grows more (difference of slopes, one-sided p = {up:.3g})"
        elif down < LEVEL:
            answer, reason = "not reproduced", f"the gap grows less (difference of slopes, one-sided p = {down:.3g})"
        elif not math.isnan(target) and not low <= target <= high:
            answer, reason = (
                "not reproduced",
                f"no difference (p = {up:.3g}), and its 95 % interval [{low:.3g}, {high:.3g}] excludes the published "
                f"{target:.3g}",
            )
    return Verdict(named, answer, reason, found.unbiased, seeds, cells, math.nan, up, down, middle, low, high, target)
