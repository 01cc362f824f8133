"""Does the best rho grow with the number of parameters? The UAI version's figures 8 and 9 ask it."""

from dataclasses import replace

import numpy as np
from scipy import special

from samgap.errors import SettingError
from samgap.figures.gap import null
from samgap.figures.gap.power import Phrases, Slope
from samgap.figures.gap.series import Question, Series, matrix, position
from samgap.figures.gap.slopes import coefficients, published_slope
from samgap.figures.gap.trend import Tested, Verdict
from samgap.figures.significance import LEVEL, pages_l


def verdicts(question: Question) -> list[Verdict]:
    """A verdict for each series, as `trend.verdicts` gives them for gaps.

    Each seed's best rho is that of its own runs, so seeds are independent. Slopes are of log10(rho): decades of rho a
    decade of parameters.

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
    values = np.log10(matrix(series.found.best, "rho", series.found.axes, ordered).to_numpy())
    seeds, cells = values.shape
    if seeds < 2 or cells < 3:
        reason = f"a trend needs 2 seeds and 3 cells, there are {seeds} and {cells}"
        return Verdict(series.label, "inconclusive", reason, "own runs", seeds, cells)
    # Few rhos make cells in which all seeds agree, so that no cell's variance is known and all weigh the same.
    alike = np.ones(cells)
    slopes = values @ coefficients(position(series.x, ordered[series.x]), alike)
    line = Slope.of(slopes, null.gaps(seeds, 1, 1)[..., 0])
    statistic, tail = trend(values)
    limit = special.stdtrit(seeds - 1, 1 - LEVEL)  # Student's t, which does not know of ties: about
    tested = Tested(
        series=series.label, protocol="own runs", seeds=seeds, cells=cells, statistic=statistic, tail=tail, line=line,
        published=published_slope(series, ordered, alike, "decades"), phrases=Phrases.of("best rho", series.x),
        finds=lambda slope: float(special.ndtr(slope / line.error - limit) if line.error else slope > 0),
    )  # fmt: skip
    return Verdict.of(tested)


def trend(values: np.ndarray) -> tuple[float, null.Tail]:
    """Page's L of values (seeds, cells), with the one-sided p values of a rise and of a fall.

    Few rhos make many ties, which Page's own distribution does not know; so p is the share of shuffles of the cells
    within each seed that give as large an L.
    """
    found, whole = float(pages_l(values)), np.broadcast_to(values, (null.STUDIES, *values.shape))
    return found, null.tails(found, lambda part: pages_l(np.random.default_rng(part).permuted(whole, axis=2)))
