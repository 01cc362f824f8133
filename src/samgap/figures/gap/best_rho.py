"""Does the best rho grow with the number of parameters? The UAI version's figures 8 and 9 ask it."""

import numpy as np
import pandas as pd
from scipy import special

from samgap.errors import SettingError
from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.power import Line
from samgap.figures.gap.series import matrix, position, series
from samgap.figures.gap.slopes import Published, coefficients, published_slope
from samgap.figures.gap.trend import Verdict
from samgap.figures.significance import LEVEL
from samgap.figures.table import cell_label


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series, as `verdict.verdicts` gives them for gaps.

    Each seed's best rho is that of its own runs, so seeds are independent. Slopes are of log10(rho): decades of rho a
    decade of parameters.

    Args:
        found: gaps; `best` is used.
        x: column of `found.cells` that orders the cells.
        over: axes that make a series.
        published: columns params and best_rho, or None.

    Raises:
        SettingError: the published table has no best rho.
    """
    if published is not None and "best_rho" not in published:
        raise SettingError(
            "draw.published must be a table with a best rho (fig7, fig8, fig9) or null for this question."
        )
    result = []
    for axes, cells in series(found, x, over):
        ordered = cells.sort_values(x)
        values = np.log10(matrix(found.best, "rho", found.axes, ordered).to_numpy())
        decades = None if published is None else published.assign(decades=np.log10(published["best_rho"]))
        theirs = published_slope(decades, found, axes, x, ordered, np.ones(len(ordered)), "decades")
        result.append(_judge(cell_label(axes), values, position(x, ordered[x]), x, theirs))
    return result


def _judge(named: str, values: np.ndarray, places: np.ndarray, x: str, theirs: Published) -> Verdict:
    seeds, cells = values.shape
    if seeds < 2 or cells < 3:
        reason = f"a trend wants 2 seeds and 3 cells, there are {seeds} and {cells}"
        return Verdict(named, "inconclusive", reason, "own runs", seeds, cells)
    # Few rhos make cells in which all seeds agree, so that no cell's variance is known and all weigh the same.
    slopes = values @ coefficients(places, np.ones(cells))
    line = Line.of(slopes, null.gaps(seeds, 1, 1)[..., 0])
    statistic, tail = trend(values)
    along = "size" if x.startswith("params") else x
    said = f"the best rho grows with {along}", f"the best rho shrinks with {along}", "no trend either way", "trend test"
    limit = special.stdtrit(seeds - 1, 1 - LEVEL)  # Student's t, which does not know of ties: about

    def finds(slope: float) -> float:
        return float(special.ndtr(slope / line.error - limit) if line.error else slope > 0)

    return Verdict.of(named, ("own runs", seeds, cells), statistic, tail, line, theirs, finds, said)


def trend(values: np.ndarray) -> tuple[float, null.Tail]:
    """Page's L of values (seeds, cells), with the one-sided p values of a rise and of a fall.

    Few rhos make many ties, which Page's own distribution does not know; so p is the share of shuffles of the cells
    within each seed that reach as far.
    """
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    weights = np.arange(1, values.shape[1] + 1)
    found = float(ranks.sum(axis=0) @ weights)

    def shuffles(part: int) -> np.ndarray:
        whole = np.broadcast_to(ranks, (null.STUDIES, *ranks.shape))
        return np.asarray(np.random.default_rng(part).permuted(whole, axis=2).sum(axis=1) @ weights)

    return found, null.tails(found, shuffles)
