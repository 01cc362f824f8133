"""Does the gap grow more in one series than in another? The poster says so of SNIP and random pruning."""

import math

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps, Protocol
from samgap.figures.gap.series import by_seed, mixed, position, series
from samgap.figures.gap.trend import Verdict, published_slope, slopes
from samgap.figures.gap.trend import verdicts as of_each
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL
from samgap.figures.table import words


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series, as `verdict.verdicts` gives them, and one for the second against the first.

    First is what was typed first.

    The last one's slope is that of the second series minus that of the first, seed by seed; it has no Page's L. Where
    there are not two series, it says so.

    Args:
        found: gaps.
        x: column of `found.cells` that orders the cells.
        over: axes that make a series.
        published: a table of gaps, or None.
    """
    groups, each = series(found, x, over), of_each(found, x, over, published)
    if len(groups) != 2:
        reason = f"a contrast wants two series, such as pruner=random,snip, and not {len(groups)}"
        of = "one series against another"
        return [*each, Verdict(of, "inconclusive", reason, found.unbiased, 0, 0, *[math.nan] * 7)]
    axes = [*groups[0][0]]
    typed = [words(dict(zip(axes, row, strict=True))) for row in found.by_seed[axes].itertuples(index=False)]
    groups.sort(key=lambda group: typed.index(words(group[0])))
    named = [words(axes) for axes, _ in groups]
    targets = [published_slope(published, mixed(found, axes, x), x) for axes, _ in groups]
    (first, first_places), (second, second_places) = (by_seed(found, cells, x) for _, cells in groups)
    both = first.index.intersection(second.index)
    verdict = _judge(
        f"{named[1]} against {named[0]}",
        slopes(second_places, second.loc[both].to_numpy()) - slopes(first_places, first.loc[both].to_numpy()),
        _nothing(found, x, [cells.sort_values(x) for _, cells in groups], len(both)),
        found.unbiased,
        min(first.shape[1], second.shape[1]),
        targets[1] - targets[0],
    )
    return [*each, verdict]


def _nothing(found: Gaps, x: str, series: list[pd.DataFrame], seeds: int) -> np.ndarray:
    """Differences of slopes (studies, seeds) where there is no effect; the dense net is in both series."""
    first, second = series
    gaps = null.gaps(seeds, len(first) + len(second), found.rhos)
    one, other = gaps[..., : len(first)], gaps[..., len(first) :].copy()
    if "pruner.sparsity" in found.axes:
        same = [axis for axis in found.axes if axis in ("model.width", "pruner.sparsity")]
        for a, mine in enumerate(first[same].to_dict("records")):
            for b, theirs in enumerate(second[same].to_dict("records")):
                if mine == theirs and mine["pruner.sparsity"] == 0:
                    other[..., b] = one[..., a]
    found_slopes: np.ndarray = slopes(position(x, second[x]), other) - slopes(position(x, first[x]), one)
    return found_slopes


def _judge(
    named: str, differences: np.ndarray, nothing: np.ndarray, protocol: Protocol, cells: int, target: float
) -> Verdict:
    seeds = len(differences)
    up = down = middle = low = high = math.nan
    answer: Answer = "inconclusive"
    if seeds < 2 or cells < 2:
        reason = f"a difference of slopes wants 2 seeds and 2 cells in each series, there are {seeds} and {cells}"
    elif not (error := differences.std(ddof=1) / math.sqrt(seeds)) > 0:
        reason = "all seeds have the same difference of slopes, which leaves nothing to judge it by"
        middle = float(differences.mean())
    else:
        middle, reach = float(differences.mean()), null.reach(nothing) * error
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
    return Verdict(named, answer, reason, protocol, seeds, cells, math.nan, up, down, middle, low, high, target)
