"""Does the best rho grow with the number of parameters? The UAI version's figures 8 and 9 ask it."""

from dataclasses import replace

import numpy as np
from scipy import special

from samgap.errors import SettingError
from samgap.figures.gap import null
from samgap.figures.gap.power import Phrases, Slope
from samgap.figures.gap.series import Question, Series, matrix, position
from samgap.figures.gap.slopes import coefficients, published_slope
from samgap.figures.gap.trend import Tested, Verdict, untestable
from samgap.figures.significance import LEVEL, pages_l


def verdicts(question: Question) -> list[Verdict]:
    """Return a verdict for each series, as `trend.verdicts` does for gaps.

    Each seed has its own best rho, so seeds are independent. Slopes are in decades of rho per decade of parameters.

    Raises:
        SettingError: the published table has no best rho.
    """
    published = question.published
    if published is not None:
        if "best_rho" not in published:
            raise SettingError(
                "draw.published must be a table with a best rho (fig7, fig8, fig9) or null for this question."
            )
        question = replace(question, published=published.assign(decades=np.log10(published["best_rho"])))
    return [_judge(series) for series in question.series()]


def _judge(series: Series) -> Verdict:
    ordered = series.cells.sort_values(series.x)
    values = np.log10(matrix(series.gaps.best, "rho", series.gaps.axes, ordered).to_numpy())
    seeds, cells = values.shape
    positions = position(series.x, ordered[series.x])
    if reason := untestable(seeds, positions, series.x):
        return Verdict(series.label, "inconclusive", reason, "own runs", seeds, cells)
    # With few rhos, all seeds of a cell may agree. Its variance is then unknown, so all cells have equal weights.
    equal_spread = np.ones(cells)
    slopes = values @ coefficients(positions, equal_spread)
    fit = Slope.of(slopes, null.gaps(seeds, 1, 1)[..., 0])
    statistic, p_values = trend(values)
    critical = special.stdtrit(seeds - 1, 1 - LEVEL)  # of Student's t: an approximation that ignores ties

    def power_at(slope: float) -> float:
        return float(special.ndtr(slope / fit.error - critical) if fit.error else slope > 0)

    tested = Tested(
        series=series.label, protocol="own runs", seeds=seeds, cells=cells, statistic=statistic, p_values=p_values,
        slope_fit=fit, published=published_slope(series, ordered, equal_spread, "decades"), power_at=power_at,
        phrases=Phrases.of("best rho", series.x),
    )  # fmt: skip
    return Verdict.of(tested)


def trend(values: np.ndarray) -> tuple[float, null.PValues]:
    """Return Page's L of values (seeds, cells), and the one-sided p values of a rise and of a fall.

    Few rhos make many ties, which Page's null distribution ignores. So this is a permutation test: cells are shuffled
    within each seed.
    """
    l_value, repeated = float(pages_l(values)), np.broadcast_to(values, (null.STUDIES, *values.shape))
    return l_value, null.p_values(l_value, lambda part: pages_l(np.random.default_rng(part).permuted(repeated, axis=2)))
