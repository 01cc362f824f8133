"""Does the gap grow with the number of parameters? One answer a study, with the statistic behind it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps
from samgap.figures.gap.power import Line, answered, power, said
from samgap.figures.gap.series import by_seed, series
from samgap.figures.gap.slopes import Published, published_slope, slopes, spreads
from samgap.figures.output import Judgment
from samgap.figures.significance import LEVEL
from samgap.figures.table import cell_label

STUDIES = 4_000  # simulated for the power


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one series of cells.

    Page's L takes seeds as blocks and cells in order of size; p values are one-sided, see `trend`. The slope is that
    of a straight line through a seed's gaps over log10(parameters), weighted by the cells' variances: percentage points
    a decade, mean over seeds.
    """

    protocol: str  # how rho was chosen
    seeds: int  # with all cells
    cells: int
    trend_l: float = math.nan  # Page's L
    p_up: float = math.nan
    p_down: float = math.nan
    p_error: float = math.nan  # Monte Carlo standard error of the smaller
    slope: float = math.nan
    slope_low: float = math.nan  # 95 %
    slope_high: float = math.nan
    published_slope: float = math.nan  # over the sizes in common, else over the published ones
    published_error: float = math.nan
    shared: int = 0  # sizes in common
    power: float = math.nan  # these four: see `Power`
    detectable: float = math.nan
    seeds_wanted: float = math.nan
    excluded: float = math.nan

    @classmethod
    def of(
        cls, named: str, known: tuple[str, int, int], statistic: float, tail: null.Tail, line: Line, theirs: Published,
        finds: Callable[[float], float], phrases: tuple[str, str, str, str], *, below: bool = False,
        effect: float | None = None,
    ) -> "Verdict":  # fmt: skip
        """From all that was found.

        Args:
            named: the series.
            known: how rho was chosen, seeds and cells.
            statistic, tail: of the test.
            line, theirs: our slope and the published one.
            finds: see `power`.
            phrases: rise, fall, neither, and the test's name, see `answered`.
            below: our slope of the sizes in common excludes the published one.
            effect: the smallest slope of interest, which decides in place of the published one where it is known.
        """
        excluded = f"slopes like the published {theirs}" if below else ""
        if effect:
            excluded = f"slopes of {effect:g}, the smallest of interest," if line.excluded < effect else ""
        answer, reason = answered(tail, *phrases, excluded)
        could = power(finds, theirs.slope, known[1], line)
        of_interest = f", the smallest of interest, {effect:g}, in {100 * finds(effect):.0f} %" if effect else ""
        return cls(
            named, answer, f"{reason}; {said(could, theirs, known[1])}{of_interest}", *known, statistic,
            tail.up, tail.down, tail.error, line.slope, line.low, line.high, theirs.slope, theirs.error,
            len(theirs.shared), **vars(could),
        )  # fmt: skip


def verdicts(found: Gaps, x: str, over: list[str] | None, published: pd.DataFrame | None) -> list[Verdict]:
    """A verdict for each series, the cells that differ in size alone, and a second question: the same at equal rho.

    Args:
        found: gaps. Their unbiased protocol is used, since the paper's choice of rho lifts small gaps; and then, where
            there was a choice at all, the radius that was fixed beforehand.
        x: column of `found.cells` that orders the cells and makes the slope's axis.
        over: axes that make a series, see `series`.
        published: a table of gaps, or None.
    """
    result = []
    for protocol, rhos in ((found.unbiased, found.choice), ("fixed", 1)):
        if protocol == "fixed" and ("fixed_gap" not in found.cells or found.rhos == 1):
            break
        suffix = "" if protocol == found.unbiased else f"at equal rho ({found.fixed_rho:g})"
        for axes, cells in series(found, x, over):
            values, places, ordered = by_seed(found, cells, x, protocol)
            named = ", ".join(filter(None, (cell_label(axes), suffix)))
            theirs = published_slope(published, found, axes, x, ordered, spreads(values.to_numpy()))
            judged = judge(named, values, places, x, protocol, rhos, theirs, found.sgd_runs, found.effect)
            result.append(judged)
    return result


def judge(
    named: str, values: pd.DataFrame, places: Any, x: str, protocol: str, rhos: null.Rhos, theirs: Published,
    sgd_runs: float = 1, effect: float | None = None, what: str = "gap",
) -> Verdict:  # fmt: skip
    """The verdict for gaps by seed and cell.

    Args:
        named: what they are of.
        values: (seeds, cells), cells in order.
        places: position of each cell, see `position`.
        x: what the cells are in order of.
        protocol: how rho was chosen.
        rhos: those to choose from, leaving one seed out.
        theirs: the published slope.
        sgd_runs: see `Gaps`.
        effect: the smallest slope of interest, where one was registered.
        what: the values are.
    """
    (seeds, cells), gaps, places = values.shape, values.to_numpy(), np.asarray(places)
    if seeds < 2 or cells < 3:
        reason = f"a trend wants 2 seeds and 3 cells, there are {seeds} and {cells}"
        return Verdict(named, "inconclusive", reason, protocol, seeds, cells)
    nothing = null.gaps(seeds, cells, rhos, 0, sgd_runs) * spreads(gaps).astype(np.float32)
    statistic, tail = trend(gaps, rhos, sgd_runs)
    line, shared = Line.of(slopes(places, gaps), slopes(places, nothing)), [*theirs.shared]
    below = bool(shared) and line.below(slopes(places[shared], gaps[:, shared]), theirs)
    along = "size" if x.startswith("params") else x
    said = f"the {what} grows with {along}", f"the {what} shrinks with {along}", "no trend either way", "trend test"
    known = protocol, seeds, cells
    return Verdict.of(
        named, known, statistic, tail, line, theirs, finds(nothing, places), said, below=below, effect=effect
    )  # fmt: skip


def trend(gaps: np.ndarray, rhos: null.Rhos, sgd_runs: float = 1) -> tuple[float, null.Tail]:
    """Page's L of gaps (seeds, cells), with the one-sided p values of a rise and of a fall.

    Page's own null distribution takes seeds as independent and cells as equally noisy. Leaving one seed out makes seeds
    agree by chance, and small nets are noisier than large ones; so p is read off studies of which both are true.
    """
    spread = spreads(gaps).astype(np.float32)
    found = float(page(gaps))
    return found, null.tails(found, lambda part: page(null.gaps(*gaps.shape, rhos, part, sgd_runs) * spread))


def finds(nothing: np.ndarray, places: np.ndarray) -> Callable[[float], float]:
    """The share of studies in which the trend test finds a true slope.

    Args:
        nothing: gaps (studies, seeds, cells) without effect.
        places: (cells,).
    """
    without = np.sort(page(nothing))
    common = without[-math.ceil(LEVEL * len(without))]  # the largest L that 5 % still reach
    sample, rise = nothing[:STUDIES], (places - places.mean()).astype(np.float32)
    return lambda slope: float((page(sample + np.float32(slope) * rise) > common).mean())


def page(values: np.ndarray) -> np.ndarray:
    """Page's L (...) of values (..., seeds, cells): the cells' sums of ranks, weighted 1, 2, ...; ties share the mean
    rank.

    Of each two cells the later one's weight counts once more where its value is the larger.
    """
    cells = values.shape[-1]
    columns = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    total = np.full(columns.shape[1:], cells * (cells + 1) / 2, dtype=np.float32)
    for later in range(1, cells):
        for sooner in range(later):
            larger = np.sign(columns[later] - columns[sooner]) + np.float32(1)
            total += (sooner + 1) + (later - sooner) / 2 * larger.astype(np.float32)
    return np.asarray(total.sum(axis=-1))
