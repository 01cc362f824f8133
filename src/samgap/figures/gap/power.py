"""The answer of a study and its statistical power, without which "inconclusive" says nothing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samgap.figures.gap import null
from samgap.figures.gap.slopes import Published
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL, detectable


@dataclass(frozen=True)
class Slope:
    """The mean slope over seeds, with its standard error and confidence limits."""

    slope: float
    error: float
    low: float  # 95 %
    high: float
    excluded: float  # upper end of the one-sided 95 % interval (TOST): larger slopes are excluded
    half_width: float  # of the one-sided interval, in standard errors

    @classmethod
    def of(cls, slopes: np.ndarray, null_slopes: np.ndarray) -> "Slope":
        """Return the mean of slopes (seeds,); slopes of studies without effect (studies, seeds) give its interval."""
        mean, error = float(slopes.mean()), float(slopes.std(ddof=1) / math.sqrt(len(slopes)))
        two_sided, one_sided = (null.half_width(null_slopes, share) for share in (1 - LEVEL, 1 - 2 * LEVEL))
        return cls(mean, error, mean - two_sided * error, mean + two_sided * error, mean + one_sided * error, one_sided)

    def below(self, slopes: np.ndarray, published: Published) -> bool:
        """Whether our slopes (seeds,) are below the published slope of the same sizes, one-sided p < .05."""
        error = math.hypot(slopes.std(ddof=1) / math.sqrt(len(slopes)), published.error)
        return bool(slopes.mean() + self.half_width * error < published.slope)


@dataclass(frozen=True)
class Power:
    """The power of studies with the same cells, seeds and noise as ours."""

    power: float = math.nan  # share of such studies that find the published slope; nan if no rise was published
    detectable: float = math.nan  # the slope that 80 % find; nan if there is none
    seeds_wanted: float = math.nan  # approximate number of seeds with which 80 % find the published slope
    excluded: float = math.nan  # see `Slope`


def power(power_at: Callable[[float], float], published: float, seeds: int, fit: Slope) -> Power:
    """Return the power of a study.

    Args:
        power_at: maps a true slope to the share of studies that find it.
        published: slope.
        seeds: number of seeds of the study.
        fit: slope of the study.
    """
    first_trial = fit.error or 1.0
    smallest = detectable(power_at, first_trial, 1e6 * first_trial)
    if math.isnan(smallest) or not published > 0:
        return Power(detectable=smallest, excluded=fit.excluded)
    return Power(power_at(published), smallest, seeds_wanted(seeds, smallest, published), fit.excluded)


def seeds_wanted(seeds: int, detectable_slope: float, slope: float) -> float:
    """Return about how many seeds find a slope in 80 % of studies, if as many as `seeds` find `detectable_slope`.

    Returns nan if these find none.
    """
    if math.isnan(detectable_slope):
        return math.nan
    return max(2, math.ceil(seeds * (detectable_slope / slope) ** 2))  # a trend test needs two


def found_text(share: float, seeds: float) -> str:
    """Return the share of studies that find a slope, and the seeds of studies of which 80 % do, as text."""
    text = f"in {100 * share:.0f} %"
    return text if math.isnan(seeds) else f"{text}, and {float(f'{seeds:.2g}'):,.0f} seeds would in 80 %"


def power_text(study: Power, published: Published, seeds: int) -> str:
    """Return a study's power as text.

    Args:
        study: the power.
        published: the published slope.
        seeds: number of seeds of the study.
    """
    if math.isnan(study.detectable):
        parts = ["these seeds and cells are too few to find any slope"]
    else:
        parts = [f"{seeds} seeds find a slope of {study.detectable:.3g} in 80 % of such studies"]
    if not math.isnan(study.power):
        parts.append(f"the published {published} {found_text(study.power, study.seeds_wanted)}")
    elif published.slope <= 0:
        parts.append(f"the published {published} is no rise")
    return ", ".join([*parts, f"slopes above {study.excluded:.3g} are excluded"])


class Phrases(NamedTuple):
    """The name of a test, and the texts of its results."""

    rise: str
    fall: str
    neither: str = "no trend either way"
    test: str = "trend test"

    @classmethod
    def of(cls, quantity: str, x: str) -> "Phrases":
        """Return the texts for a trend of a quantity over x."""
        x_text = "size" if x.startswith("params") else x
        return cls(f"the {quantity} grows with {x_text}", f"the {quantity} shrinks with {x_text}")


def answer_and_reason(p: null.PValues, phrases: Phrases, excluded: str) -> tuple[Answer, str]:
    """Return the answer of a test, and the reason as text.

    Args:
        p: of the test.
        phrases: texts of the test.
        excluded: slopes that the interval excludes, or "".
    """
    rise, fall, neither, test = phrases
    smaller = f"{min(p.up, p.down):.3g} ± {p.error:.1g}"
    if p.borderline:
        up = "up" if p.up < p.down else "down"
        return (
            "inconclusive",
            f"borderline, p is too close to {LEVEL:g} for the simulation to decide ({test}, p = {smaller} {up})",
        )
    if p.up < LEVEL:
        return "reproduced", f"{rise} ({test}, one-sided p = {smaller})"
    if p.down < LEVEL:
        return "not reproduced", f"{fall} ({test}, one-sided p = {smaller})"
    neither = f"{neither} (one-sided p = {p.up:.3g} up, {p.down:.3g} down, ± {p.error:.1g})"
    return ("not reproduced", f"{neither}, and {excluded} are excluded") if excluded else ("inconclusive", neither)
