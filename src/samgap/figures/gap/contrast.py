"""Does the gap grow more in one series than in another? The poster says so of SNIP and random pruning."""

import functools
import math

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.power import Line
from samgap.figures.gap.series import by_seed, position, series
from samgap.figures.gap.slopes import Published, published_slope, slopes, spreads
from samgap.figures.gap.trend import STUDIES, Verdict
from samgap.figures.gap.trend import verdicts as of_each
from samgap.figures.significance import LEVEL
from samgap.figures.table import cell_label


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """The verdicts of `trend.verdicts`, and one for the second series against the first, as they were typed.

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
        return [*each, Verdict(of, "inconclusive", reason, found.unbiased, 0, 0)]
    axes = [*groups[0][0]]
    typed = [cell_label(dict(zip(axes, row, strict=True))) for row in found.by_seed[axes].itertuples(index=False)]
    groups.sort(key=lambda group: typed.index(cell_label(group[0])))
    named = [cell_label(axes) for axes, _ in groups]
    values, places, cells = zip(*[by_seed(found, cells, x, found.unbiased) for _, cells in groups], strict=True)
    theirs = [
        published_slope(published, found, axes, x, ordered, spreads(gaps.to_numpy()))
        for (axes, _), ordered, gaps in zip(groups, cells, values, strict=True)
    ]
    both = values[0].index.intersection(values[1].index)
    mine = [gaps.loc[both].to_numpy() for gaps in values]
    return [*each, _judge(f"{named[1]} against {named[0]}", found, x, mine, places, cells, theirs)]


def _judge(
    named: str,
    found: Gaps,
    x: str,
    gaps: list[np.ndarray],
    places: tuple[np.ndarray, ...],
    cells: tuple[pd.DataFrame, ...],
    published: list[Published],
) -> Verdict:
    """The verdict for the gaps (seeds, cells) of two series."""
    seeds, least = len(gaps[0]), min(len(each) for each in cells)
    known = found.unbiased, seeds, least
    if seeds < 2 or least < 2:
        reason = f"a difference of slopes wants 2 seeds and 2 cells in each series, there are {seeds} and {least}"
        return Verdict(named, "inconclusive", reason, *known)
    first, second = (slopes(place, each) for place, each in zip(places, gaps, strict=True))
    differences = second - first
    if not differences.std(ddof=1) > 0:
        reason = "all seeds have the same difference of slopes, which leaves nothing to judge it by"
        return Verdict(named, "inconclusive", reason, *known, slope=float(differences.mean()))
    theirs = Published(
        published[1].slope - published[0].slope,
        math.hypot(*(each.error for each in published)),
        min((each.shared for each in published), key=len),
    )
    nothing = functools.cache(lambda part: _nothing(found, x, gaps, cells, part))
    without = nothing(0)
    line = Line.of(differences, without)
    tail = null.tails(line.slope / line.error, lambda part: null.standardized(nothing(part)))
    below = False
    if theirs.shared:
        parts = zip(places, gaps, ([*each.shared] for each in published), strict=True)
        first, second = (slopes(place[shared], each[:, shared]) for place, each, shared in parts)
        below = line.below(second - first, theirs)
    limit, sample = np.quantile(null.standardized(without), 1 - LEVEL), without[:STUDIES]
    said = "the gap grows more", "the gap grows less", "no difference either way", "difference of slopes"
    return Verdict.of(
        named, known, math.nan, tail, line, theirs,
        lambda slope: float((null.standardized(sample + slope) > limit).mean()), said, below=below,
    )  # fmt: skip


def _nothing(found: Gaps, x: str, gaps: list[np.ndarray], cells: tuple[pd.DataFrame, ...], part: int) -> np.ndarray:
    """Differences of slopes (studies, seeds) where there is no effect; the dense net is in both series."""
    first, second = cells
    drawn = null.gaps(len(gaps[0]), len(first) + len(second), found.choice, part, found.sgd_runs)
    one, other = drawn[..., : len(first)], drawn[..., len(first) :].copy()
    if "pruner.sparsity" in found.axes:
        same = [axis for axis in found.axes if axis in ("model.width", "pruner.sparsity")]
        for a, mine in enumerate(first[same].to_dict("records")):
            for b, theirs in enumerate(second[same].to_dict("records")):
                if mine == theirs and mine["pruner.sparsity"] == 0:
                    other[..., b] = one[..., a]
    nothing: np.ndarray = slopes(position(x, second[x]), other * spreads(gaps[1])) - slopes(
        position(x, first[x]), one * spreads(gaps[0])
    )
    return nothing
