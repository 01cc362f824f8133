"""Does the gap grow the more with size, the larger a dose is, such as the share of wrong labels?"""

import pandas as pd

from samgap.figures.gap.series import Question
from samgap.figures.gap.slopes import slopes
from samgap.figures.gap.trend import Sample, Verdict, judge
from samgap.figures.gap.trend import verdicts as of_each


def verdicts(question: Question) -> list[Verdict]:
    """The verdicts of `trend.verdicts`, and one for the slopes of the series over the dose.

    The dose is the number in which the series differ. The last verdict tests a slope for each seed and dose like a gap
    for each seed and cell. If the series differ in anything else, it says so.
    """
    several, each, found = question.series(), of_each(question), question.found
    axis, *others = [*several[0].axes] or [""]
    if others or not axis or not pd.api.types.is_numeric_dtype(found.cells[axis]):
        reason = "doses need series that differ in one number alone, such as data.label_noise=0,0.1,0.2"
        return [*each, Verdict("slope over dose", "inconclusive", reason, found.unbiased, 0, 0)]
    by_dose = {}
    for series in several:
        values, places, _ = series.by_seed(found.unbiased)
        by_dose[series.axes[axis]] = pd.Series(slopes(places, values.to_numpy()), values.index)
    table = pd.DataFrame(by_dose).sort_index(axis=1).dropna()
    sample = Sample(
        f"slope over {axis}", table.to_numpy(), table.columns.to_numpy(), axis, found.unbiased, found.choice,
        sgd_runs=found.sgd_runs, what="slope over size",
    )  # fmt: skip
    return [*each, judge(sample)]
