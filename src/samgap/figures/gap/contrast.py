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
from samgap.figures.gap.trend import verdicts as trend_verdicts
from samgap.figures.significance import LEVEL
from samgap.figures.table import cell_label


def verdicts(question: Question) -> list[Verdict]:
    """Return the verdicts of `trend.verdicts`, and one that compares the second series with the first, as typed.

    Its slope is the slope of the second series minus that of the first, in each seed. It has no Page's L.
    """
    all_series, by_size, gaps = question.series(), trend_verdicts(question), question.gaps
    if len(all_series) != 2:
        reason = f"a contrast needs two series, such as pruner=random,snip, and not {len(all_series)}"
        label = "one series against another"
        return [*by_size, Verdict(label, "inconclusive", reason, gaps.unbiased, 0, 0)]
    axes = [*all_series[0].axes]
    typed_labels = [cell_label(dict(zip(axes, row, strict=True))) for row in gaps.by_seed[axes].itertuples(index=False)]
    return [*by_size, _judge(*sorted(all_series, key=lambda series: typed_labels.index(series.label)))]


def _judge(first: Series, second: Series) -> Verdict:
    """Return the verdict on whether the gap grows more in the second series."""
    all_gaps, label = first.gaps, f"{second.label} against {first.label}"
    values, positions, cells = zip(*[series.by_seed(all_gaps.unbiased) for series in (first, second)], strict=True)
    published = [
        published_slope(series, ordered, spreads(gaps.to_numpy()))
        for series, ordered, gaps in zip((first, second), cells, values, strict=True)
    ]
    both = values[0].index.intersection(values[1].index)
    gaps = [table.loc[both].to_numpy() for table in values]
    seeds, fewest = len(both), min(len(rows) for rows in cells)
    known = all_gaps.unbiased, seeds, fewest
    if seeds < 2 or fewest < 2:
        reason = f"a difference of slopes needs 2 seeds and 2 cells in each series, there are {seeds} and {fewest}"
        return Verdict(label, "inconclusive", reason, *known)
    differences = _difference(positions, gaps)
    if not differences.std(ddof=1) > 0:
        reason = "all seeds have the same difference of slopes, which leaves nothing to judge it by"
        return Verdict(label, "inconclusive", reason, *known, slope=float(differences.mean()))
    published_slopes, shared = published[1].minus(published[0]), [[*slope.shared] for slope in published]
    null_differences = functools.cache(lambda part: _null_differences(all_gaps, first.x, gaps, cells, part))
    null_part = null_differences(0)
    fit = Slope.of(differences, null_part)
    p_values = null.p_values(fit.slope / fit.error, lambda part: null.standardized(null_differences(part)))
    below = False
    if published_slopes.shared:
        common = [(x[own], y[:, own]) for x, y, own in zip(positions, gaps, shared, strict=True)]
        below = fit.below(_difference(*zip(*common, strict=True)), published_slopes)
    critical, sample = np.quantile(null.standardized(null_part), 1 - LEVEL), null_part[:STUDIES]
    tested = Tested(
        series=label, protocol=all_gaps.unbiased, seeds=seeds, cells=fewest, p_values=p_values, slope_fit=fit,
        published=published_slopes, below=below,
        power_at=lambda slope: float((null.standardized(sample + slope) > critical).mean()),
        phrases=Phrases("the gap grows more", "the gap grows less", "no difference either way", "difference of slopes"),
    )  # fmt: skip
    return Verdict.of(tested)


def _difference(positions: Sequence[np.ndarray], gaps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the slopes (..., seeds) of the second series minus those of the first."""
    first, second = (slopes(cell_positions, values) for cell_positions, values in zip(positions, gaps, strict=True))
    return np.asarray(second - first)


def _null_differences(
    all_gaps: Gaps, x: str, gaps: list[np.ndarray], cells: tuple[pd.DataFrame, ...], part: int
) -> np.ndarray:
    """Simulate differences of slopes (studies, seeds) without effect. Both series share the runs of a dense net."""
    first, second = cells
    simulated = null.gaps(len(gaps[0]), len(first) + len(second), all_gaps.choice, part, all_gaps.sgd_runs)
    gaps_first, gaps_second = simulated[..., : len(first)], simulated[..., len(first) :].copy()
    if "pruner.sparsity" in all_gaps.axes:
        identifying = [axis for axis in all_gaps.axes if axis in ("model.width", "pruner.sparsity")]
        for i, cell_first in enumerate(first[identifying].to_dict("records")):
            for j, cell_second in enumerate(second[identifying].to_dict("records")):
                if cell_first == cell_second and cell_first["pruner.sparsity"] == 0:
                    gaps_second[..., j] = gaps_first[..., i]
    slopes_first = slopes(position(x, first[x]), gaps_first * spreads(gaps[0]))
    return np.asarray(slopes(position(x, second[x]), gaps_second * spreads(gaps[1])) - slopes_first)
