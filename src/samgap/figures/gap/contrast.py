"""Does the gap grow more in one series than in another? The poster claims it for SNIP and random pruning."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.power import Phrases, Slope
from samgap.figures.gap.series import Question, Series, position
from samgap.figures.gap.slopes import published_slope, slopes, spreads
from samgap.figures.gap.trend import STUDIES, Tested, Verdict
from samgap.figures.gap.trend import verdicts as of_each
from samgap.figures.significance import LEVEL
from samgap.figures.table import cell_label


def verdicts(question: Question) -> list[Verdict]:
    """The verdicts of `trend.verdicts`, and one for the second series against the first, in the order as typed.

    The slope of the last one is that of the second series minus that of the first, seed by seed. It has no Page's L.
    """
    several, each, found = question.series(), of_each(question), question.found
    if len(several) != 2:
        reason = f"a contrast needs two series, such as pruner=random,snip, and not {len(several)}"
        of = "one series against another"
        return [*each, Verdict(of, "inconclusive", reason, found.unbiased, 0, 0)]
    axes = [*several[0].axes]
    typed = [cell_label(dict(zip(axes, row, strict=True))) for row in found.by_seed[axes].itertuples(index=False)]
    return [*each, _judge(*sorted(several, key=lambda series: typed.index(series.label)))]


def _judge(one: Series, other: Series) -> Verdict:
    """The verdict on whether the gap grows more in the second series."""
    found, named = one.found, f"{other.label} against {one.label}"
    values, places, cells = zip(*[series.by_seed(found.unbiased) for series in (one, other)], strict=True)
    published = [
        published_slope(series, ordered, spreads(gaps.to_numpy()))
        for series, ordered, gaps in zip((one, other), cells, values, strict=True)
    ]
    both = values[0].index.intersection(values[1].index)
    gaps = [each.loc[both].to_numpy() for each in values]
    seeds, least = len(both), min(len(each) for each in cells)
    known = found.unbiased, seeds, least
    if seeds < 2 or least < 2:
        reason = f"a difference of slopes needs 2 seeds and 2 cells in each series, there are {seeds} and {least}"
        return Verdict(named, "inconclusive", reason, *known)
    differences = _difference(places, gaps)
    if not differences.std(ddof=1) > 0:
        reason = "all seeds have the same difference of slopes, which leaves nothing to judge it by"
        return Verdict(named, "inconclusive", reason, *known, slope=float(differences.mean()))
    theirs, shared = published[1].minus(published[0]), [[*each.shared] for each in published]
    nothing = functools.cache(lambda part: _nothing(found, one.x, gaps, cells, part))
    without = nothing(0)
    line = Slope.of(differences, without)
    tail = null.tails(line.slope / line.error, lambda part: null.standardized(nothing(part)))
    below = False
    if theirs.shared:
        common = [(place[own], each[:, own]) for place, each, own in zip(places, gaps, shared, strict=True)]
        below = line.below(_difference(*zip(*common, strict=True)), theirs)
    limit, sample = np.quantile(null.standardized(without), 1 - LEVEL), without[:STUDIES]
    tested = Tested(
        series=named, protocol=found.unbiased, seeds=seeds, cells=least, tail=tail, line=line, published=theirs,
        finds=lambda slope: float((null.standardized(sample + slope) > limit).mean()),
        below=below,
        phrases=Phrases("the gap grows more", "the gap grows less", "no difference either way", "difference of slopes"),
    )  # fmt: skip
    return Verdict.of(tested)


def _difference(places: Sequence[np.ndarray], gaps: Sequence[np.ndarray]) -> np.ndarray:
    """Slopes (..., seeds) of the second series minus those of the first."""
    first, second = (slopes(place, each) for place, each in zip(places, gaps, strict=True))
    return second - first


def _nothing(found: Gaps, x: str, gaps: list[np.ndarray], cells: tuple[pd.DataFrame, ...], part: int) -> np.ndarray:
    """Differences of slopes (studies, seeds) of studies without effect. Both series share the runs of a dense net."""
    first, second = cells
    drawn = null.gaps(len(gaps[0]), len(first) + len(second), found.choice, part, found.sgd_runs)
    one, other = drawn[..., : len(first)], drawn[..., len(first) :].copy()
    if "pruner.sparsity" in found.axes:
        same = [axis for axis in found.axes if axis in ("model.width", "pruner.sparsity")]
        for a, mine in enumerate(first[same].to_dict("records")):
            for b, theirs in enumerate(second[same].to_dict("records")):
                if mine == theirs and mine["pruner.sparsity"] == 0:
                    other[..., b] = one[..., a]
    return slopes(position(x, second[x]), other * spreads(gaps[1])) - slopes(
        position(x, first[x]), one * spreads(gaps[0])
    )
