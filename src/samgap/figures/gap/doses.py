"""Does the gap grow the more with size, the larger a dose is, such as the share of wrong labels?"""

import pandas as pd

from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.series import by_seed, series
from samgap.figures.gap.slopes import Published, slopes
from samgap.figures.gap.trend import Verdict, judge
from samgap.figures.gap.trend import verdicts as of_each


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """The verdicts of `trend.verdicts`, and one for the slopes of the series over the dose that tells them apart.

    The last one's trend test is that of `trend.trend` on a slope a seed and dose, and its slope is one of slopes over
    the dose. Where no number tells the series apart, it says so.

    Args:
        found: gaps.
        x: column of `found.cells` that orders the cells.
        over: axes that make a series.
        published: a table of gaps, or None.
    """
    groups, each = series(found, x, over), of_each(found, x, over, published)
    axis, *others = [*groups[0][0]] or [""]
    if others or not axis or not pd.api.types.is_numeric_dtype(found.cells[axis]):
        reason = "doses need series that one number tells apart, such as data.label_noise=0,0.1,0.2"
        return [*each, Verdict("slope over dose", "inconclusive", reason, found.unbiased, 0, 0)]
    several = {}
    for named, cells in groups:
        values, places, _ = by_seed(found, cells, x, found.unbiased)
        several[named[axis]] = pd.Series(slopes(places, values.to_numpy()), values.index)
    table = pd.DataFrame(several).sort_index(axis=1).dropna()
    known = axis, found.unbiased, found.choice
    return [
        *each,
        judge(f"slope over {axis}", table, table.columns, *known, Published(), found.sgd_runs, what="slope over size"),
    ]
