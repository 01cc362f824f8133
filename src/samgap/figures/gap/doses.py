"""Does the gap grow faster with size if a dose, such as the share of wrong labels, is larger?"""

import pandas as pd

from samgap.figures.gap.series import Question
from samgap.figures.gap.slopes import slopes
from samgap.figures.gap.trend import Sample, Verdict, judge
from samgap.figures.gap.trend import verdicts as trend_verdicts


def verdicts(question: Question) -> list[Verdict]:
    """Return the verdicts of `trend.verdicts`, and one on whether the slope over size grows with the dose.

    The dose is the numeric axis in which the series differ. Each seed has one slope per dose, and the last verdict
    tests these slopes as others test the gaps of a seed per cell. It is inconclusive if the series differ otherwise.
    """
    all_series, by_size, gaps = question.series(), trend_verdicts(question), question.gaps
    axis, *other_axes = [*all_series[0].axes] or [""]
    if other_axes or not axis or not pd.api.types.is_numeric_dtype(gaps.cells[axis]):
        reason = "doses need series that differ in one number alone, such as data.label_noise=0,0.1,0.2"
        return [*by_size, Verdict("slope over dose", "inconclusive", reason, gaps.unbiased, 0, 0)]
    by_dose = {}
    for series in all_series:
        values, positions, _ = series.by_seed(gaps.unbiased)
        by_dose[series.axes[axis]] = pd.Series(slopes(positions, values.to_numpy()), values.index)
    table = pd.DataFrame(by_dose).sort_index(axis=1).dropna()
    sample = Sample(
        f"slope over {axis}", table.to_numpy(), table.columns.to_numpy(), axis, gaps.unbiased, gaps.choice,
        sgd_runs=gaps.sgd_runs, quantity="slope over size",
    )  # fmt: skip
    return [*by_size, judge(sample)]
