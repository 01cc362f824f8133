"""Does the gap grow with the number of parameters? One verdict for each series, with its statistics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from samgap.figures.gap import null
from samgap.figures.gap.power import Phrases, Slope, answer_and_reason, found_text, power, power_text, seeds_wanted
from samgap.figures.gap.series import Question, Series
from samgap.figures.gap.slopes import Published, published_slope, slopes, spreads
from samgap.figures.output import Judgment
from samgap.figures.significance import critical_value, pages_l
from samgap.figures.table import cell_label

STUDIES = 4_000  # simulated to compute the power


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one series of cells.

    Page's L has seeds as blocks and cells in order of size; p values are one-sided, see `trend`. The slope is the mean
    over seeds of least-squares slopes of a seed's gaps over log10(parameters), weighted by 1 / variance of the cells.
    Slopes are in percentage points per decade of parameters.
    """

    protocol: str  # how rho was chosen
    seeds: int  # seeds with all cells
    cells: int
    trend_l: float = math.nan  # Page's L
    p_up: float = math.nan
    p_down: float = math.nan
    p_error: float = math.nan  # Monte Carlo standard error of the smaller p
    slope: float = math.nan
    slope_low: float = math.nan  # 95 %
    slope_high: float = math.nan
    published_slope: float = math.nan  # over the sizes in common, or else over all published sizes
    published_error: float = math.nan
    shared: int = 0  # number of sizes in common
    power: float = math.nan  # see `Power`, as for the next three
    detectable: float = math.nan
    seeds_wanted: float = math.nan
    excluded: float = math.nan

    @classmethod
    def of(cls, tested: "Tested") -> "Verdict":
        """Return the verdict that follows from a test and a slope."""
        effect, fit, published, seeds = tested.effect, tested.slope_fit, tested.published, tested.seeds
        p = tested.p_values
        known = tested.protocol, seeds, tested.cells, tested.statistic, p.up, p.down, p.error, fit.slope
        if not fit.error > 0:
            answer, reason = answer_and_reason(p, tested.phrases, "")
            reason += "; all seeds have the same slope, which leaves no interval"
            return cls(tested.series, answer, reason, *known)
        excluded = f"slopes like the published {published}" if tested.below else ""
        if effect:
            excluded = f"slopes of {effect:g}, the smallest of interest," if fit.excluded < effect else ""
        answer, reason = answer_and_reason(p, tested.phrases, excluded)
        study_power = power(tested.power_at, published.slope, seeds, fit)
        reason += f"; {power_text(study_power, published, seeds)}"
        if effect:
            wanted = seeds_wanted(seeds, study_power.detectable, effect)
            reason += f", the smallest of interest, {effect:g}, {found_text(tested.power_at(effect), wanted)}"
        return cls(
            tested.series, answer, reason, *known, fit.low, fit.high, published.slope, published.error,
            len(published.shared), **vars(study_power),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Tested:
    """The results of the test and of the slope fit for one series."""

    series: str
    protocol: str
    seeds: int
    cells: int
    statistic: float = math.nan  # of the test
    p_values: null.PValues
    slope_fit: Slope
    published: Published
    power_at: Callable[[float], float]  # see `power`
    phrases: Phrases
    below: bool = False  # whether our slope over the sizes in common excludes the published one
    effect: float | None = None  # smallest slope of interest; if set, it replaces the published slope in the answer


@dataclass(frozen=True, eq=False)
class Sample:
    """Values by seed and cell that are tested for a trend."""

    series: str
    values: np.ndarray  # (seeds, cells), cells in order of x
    positions: np.ndarray  # (cells,), see `position`
    x: str
    protocol: str  # how rho was chosen
    rhos: null.Rhos  # to choose from
    published: Published = field(default_factory=Published)
    sgd_runs: float = 1  # see `Gaps`
    effect: float | None = None  # see `Tested`
    quantity: str = "gap"  # name of the values


def verdicts(question: Question) -> list[Verdict]:
    """Return a verdict for each series, and then a second one for each at equal rho.

    The first uses the unbiased protocol, since the paper's choice of rho biases small gaps upward. The second uses one
    rho that was fixed beforehand, and is left out if only one rho was swept.
    """
    gaps, results = question.gaps, []
    protocols = {gaps.unbiased: ""}
    if "fixed_gap" in gaps.cells and gaps.rhos > 1:
        protocols["fixed"] = f"at equal rho ({gaps.fixed_rho:g})"
    for protocol, suffix in protocols.items():
        for series in question.series():
            by_seed, positions, cells = series.by_seed(protocol)
            values, label = by_seed.to_numpy(), ", ".join(filter(None, (series.label, suffix)))
            _note_left_out(series, protocol, by_seed, cells)
            published, rhos = published_slope(series, cells, spreads(values)), gaps.choices(protocol)
            sample = Sample(label, values, positions, question.x, protocol, rhos, published, gaps.sgd_runs, gaps.effect)
            results.append(judge(sample))
    return results


def _note_left_out(series: Series, protocol: str, by_seed: pd.DataFrame, cells: pd.DataFrame) -> None:
    """Add a note for the cells and seeds that have gaps but are in no trend by this protocol."""
    gaps = series.gaps
    if len(cells) < 2 or f"{protocol}_gap" not in series.cells:
        return
    trend_name = f"the trend by protocol={protocol}"
    for _, cell in series.cells.drop(index=cells.index).iterrows():
        gaps.notes.append(f"{cell_label({axis: cell[axis] for axis in gaps.axes})}: not in {trend_name}, no such gap")
    rows = gaps.by_seed[gaps.by_seed["protocol"] == protocol].merge(cells[gaps.axes], on=gaps.axes)
    if partial := {*rows["seed"]} - {*by_seed.index}:
        text = f"seed {', '.join(map(str, sorted(partial)))}: not in {trend_name}, which needs seeds with all cells"
        gaps.notes.append(": ".join(filter(None, (series.label, text))))


def judge(sample: Sample) -> Verdict:
    """Return the verdict on whether the values grow."""
    (seeds, cells), gaps, positions, x = sample.values.shape, sample.values, sample.positions, sample.x
    if reason := untestable(seeds, positions, x):
        return Verdict(sample.series, "inconclusive", reason, sample.protocol, seeds, cells)
    null_gaps = null.gaps(seeds, cells, sample.rhos, 0, sample.sgd_runs) * spreads(gaps).astype(np.float32)
    statistic, p_values = trend(gaps, sample.rhos, sample.sgd_runs)
    fit, shared = Slope.of(slopes(positions, gaps), slopes(positions, null_gaps)), [*sample.published.shared]
    tested = Tested(
        series=sample.series, protocol=sample.protocol, seeds=seeds, cells=cells, statistic=statistic,
        p_values=p_values, slope_fit=fit, published=sample.published, power_at=power_curve(null_gaps, positions),
        below=bool(shared) and fit.below(slopes(positions[shared], gaps[:, shared]), sample.published),
        phrases=Phrases.of(sample.quantity, x), effect=sample.effect,
    )  # fmt: skip
    return Verdict.of(tested)


def untestable(seeds: int, positions: np.ndarray, x: str) -> str:
    """Return why some seeds and cells at positions (cells,) on x allow no trend test, or "" if they do."""
    if seeds < 2 or len(positions) < 3:
        return f"a trend needs 2 seeds with all cells, and 3 cells, there are {seeds} and {len(positions)}"
    if len({*positions.tolist()}) < len(positions):
        return f"two cells have the same {x}: set draw.x to another axis, or draw.series to what else they differ in"
    return ""


def trend(gaps: np.ndarray, rhos: null.Rhos, sgd_runs: float = 1) -> tuple[float, null.PValues]:
    """Return Page's L of gaps (seeds, cells), and the one-sided p values of a rise and of a fall.

    Page's own null distribution assumes independent seeds and equally noisy cells. But leaving one seed out correlates
    the seeds, and small nets are noisier than large ones. So p comes from simulated studies with both properties.
    """
    spread, l_value = spreads(gaps).astype(np.float32), float(pages_l(gaps))
    return l_value, null.p_values(l_value, lambda part: pages_l(null.gaps(*gaps.shape, rhos, part, sgd_runs) * spread))


def power_curve(null_gaps: np.ndarray, positions: np.ndarray) -> Callable[[float], float]:
    """Return a function from a true slope to the share of studies in which the trend test finds a rise.

    Args:
        null_gaps: gaps (studies, seeds, cells) without effect.
        positions: (cells,), see `position`.
    """
    critical = critical_value(pages_l(null_gaps))
    sample, rise = null_gaps[:STUDIES], (positions - positions.mean()).astype(np.float32)
    return lambda slope: float((pages_l(sample + np.float32(slope) * rise) > critical).mean())
