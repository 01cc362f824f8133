"""Does the gap grow with the number of parameters? One answer for each series, with its statistics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from samgap.figures.gap import null
from samgap.figures.gap.power import Phrases, Slope, answered, power, power_text
from samgap.figures.gap.series import Question
from samgap.figures.gap.slopes import Published, published_slope, slopes, spreads
from samgap.figures.output import Judgment
from samgap.figures.significance import critical, pages_l

STUDIES = 4_000  # simulated for the power


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one series of cells.

    Page's L has seeds as blocks and cells in order of size; p values are one-sided, see `trend`. The slope is that
    of a straight line through the gaps of a seed over log10(parameters), weighted by the cells' variances. It is a mean
    over seeds, in percentage points a decade.
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
    published_slope: float = math.nan  # over the sizes in common, or else over all published sizes
    published_error: float = math.nan
    shared: int = 0  # sizes in common
    power: float = math.nan  # these four: see `Power`
    detectable: float = math.nan
    seeds_wanted: float = math.nan
    excluded: float = math.nan

    @classmethod
    def of(cls, tested: "Tested") -> "Verdict":
        """The answer that a test and a slope give."""
        effect, line, theirs, seeds = tested.effect, tested.line, tested.published, tested.seeds
        excluded = f"slopes like the published {theirs}" if tested.below else ""
        if effect:
            excluded = f"slopes of {effect:g}, the smallest of interest," if line.excluded < effect else ""
        answer, reason = answered(tested.tail, tested.phrases, excluded)
        could = power(tested.finds, theirs.slope, seeds, line)
        reason += f"; {power_text(could, theirs, seeds)}"
        if effect:
            reason += f", the smallest of interest, {effect:g}, in {100 * tested.finds(effect):.0f} %"
        return cls(
            tested.series, answer, reason, tested.protocol, seeds, tested.cells, tested.statistic,
            tested.tail.up, tested.tail.down, tested.tail.error, line.slope, line.low, line.high,
            theirs.slope, theirs.error, len(theirs.shared), **vars(could),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Tested:
    """What a test and a slope found in one series."""

    series: str
    protocol: str
    seeds: int
    cells: int
    statistic: float = math.nan  # of the test
    tail: null.Tail
    line: Slope
    published: Published
    finds: Callable[[float], float]  # see `power`
    phrases: Phrases
    below: bool = False  # our slope of the sizes in common excludes the published one
    effect: float | None = None  # the smallest slope of interest; if known, it decides instead of the published one


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers by seed and cell that are tested for a trend."""

    series: str
    values: np.ndarray  # (seeds, cells), cells in order of x
    places: np.ndarray  # (cells,), see `position`
    x: str
    protocol: str  # how rho was chosen
    rhos: null.Rhos  # to choose from
    published: Published = field(default_factory=Published)  # the published slope
    sgd_runs: float = 1  # see `Gaps`
    effect: float | None = None  # see `Tested`
    what: str = "gap"  # the values are


def verdicts(question: Question) -> list[Verdict]:
    """A verdict for each series, and a second one at equal rho.

    The first is of gaps by the unbiased protocol, since the paper's choice of rho raises small gaps. The second is of
    gaps at the rho that was fixed beforehand. There is none if only one rho was swept.
    """
    found, result = question.found, []
    protocols = {found.unbiased: ""}
    if "fixed_gap" in found.cells and found.rhos > 1:
        protocols["fixed"] = f"at equal rho ({found.fixed_rho:g})"
    for protocol, suffix in protocols.items():
        for series in question.series():
            values, places, cells = series.by_seed(protocol)
            named = ", ".join(filter(None, (series.label, suffix)))
            theirs = published_slope(series, cells, spreads(values.to_numpy()))
            choice = protocol, found.choices(protocol)
            sample = Sample(named, values.to_numpy(), places, question.x, *choice, theirs, found.sgd_runs, found.effect)
            result.append(judge(sample))
    return result


def judge(sample: Sample) -> Verdict:
    """The verdict on whether the values grow."""
    (seeds, cells), gaps, places, x = sample.values.shape, sample.values, sample.places, sample.x
    if seeds < 2 or cells < 3:
        reason = f"a trend needs 2 seeds and 3 cells, there are {seeds} and {cells}"
        return Verdict(sample.series, "inconclusive", reason, sample.protocol, seeds, cells)
    nothing = null.gaps(seeds, cells, sample.rhos, 0, sample.sgd_runs) * spreads(gaps).astype(np.float32)
    statistic, tail = trend(gaps, sample.rhos, sample.sgd_runs)
    line, shared = Slope.of(slopes(places, gaps), slopes(places, nothing)), [*sample.published.shared]
    tested = Tested(
        series=sample.series, protocol=sample.protocol, seeds=seeds, cells=cells, statistic=statistic, tail=tail,
        line=line, published=sample.published, finds=finds(nothing, places), phrases=Phrases.of(sample.what, x),
        below=bool(shared) and line.below(slopes(places[shared], gaps[:, shared]), sample.published),
        effect=sample.effect,
    )  # fmt: skip
    return Verdict.of(tested)


def trend(gaps: np.ndarray, rhos: null.Rhos, sgd_runs: float = 1) -> tuple[float, null.Tail]:
    """Page's L of gaps (seeds, cells), with the one-sided p values of a rise and of a fall.

    Page's own null distribution takes seeds as independent and cells as equally noisy. Leaving one seed out makes seeds
    agree by chance, and small nets are noisier than large ones. So p comes from simulated studies with both properties.
    """
    spread = spreads(gaps).astype(np.float32)
    found = float(pages_l(gaps))
    return found, null.tails(found, lambda part: pages_l(null.gaps(*gaps.shape, rhos, part, sgd_runs) * spread))


def finds(nothing: np.ndarray, places: np.ndarray) -> Callable[[float], float]:
    """Return a function from a true slope to the share of studies in which the trend test finds it.

    Args:
        nothing: gaps (studies, seeds, cells) without effect.
        places: (cells,).
    """
    largest = critical(pages_l(nothing))
    sample, rise = nothing[:STUDIES], (places - places.mean()).astype(np.float32)
    return lambda slope: float((pages_l(sample + np.float32(slope) * rise) > largest).mean())
