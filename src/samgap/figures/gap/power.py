"""The answer of a study, and the effects that it could have found: without them, "inconclusive" says nothing."""

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
    """The mean over seeds of slopes, with its confidence limits."""

    slope: float
    error: float
    low: float  # 95 %
    high: float
    excluded: float  # upper end of the one-sided 95 % interval (TOST): larger slopes are excluded
    half_width: float  # of this interval, in standard errors

    @classmethod
    def of(cls, slopes: np.ndarray, nothing: np.ndarray) -> "Slope":
        """From slopes (seeds,) and those of studies without effect (studies, seeds)."""
        middle, error = float(slopes.mean()), float(slopes.std(ddof=1) / math.sqrt(len(slopes)))
        both, one = (null.half_width(nothing, share) for share in (1 - LEVEL, 1 - 2 * LEVEL))
        return cls(middle, error, middle - both * error, middle + both * error, middle + one * error, one)

    def below(self, slopes: np.ndarray, theirs: Published) -> bool:
        """Whether our slopes (seeds,) are below the published slope of the same sizes, one-sided p < .05."""
        error = math.hypot(slopes.std(ddof=1) / math.sqrt(len(slopes)), theirs.error)
        return bool(slopes.mean() + self.half_width * error < theirs.slope)


@dataclass(frozen=True)
class Power:
    """What studies with the same cells, seeds and noise find; shares are of such studies."""

    power: float = math.nan  # share that finds the published slope; nan if no rise was published
    detectable: float = math.nan  # the slope that 80 % find; nan if there is none
    seeds_wanted: float = math.nan  # approximate number of seeds with which 80 % find the published slope
    excluded: float = math.nan  # see `Slope`


def power(finds: Callable[[float], float], published: float, seeds: int, line: Slope) -> Power:
    """Return what a study could have found.

    Args:
        finds: from a true slope to the share of studies that find it.
        published: slope.
        seeds: of the study.
        line: its slope.
    """
    start = line.error or 1.0
    least = detectable(finds, start, 1e6 * start)
    if math.isnan(least) or not published > 0:
        return Power(detectable=least, excluded=line.excluded)
    return Power(finds(published), least, math.ceil(seeds * (least / published) ** 2), line.excluded)


def power_text(could: Power, theirs: Published, seeds: int) -> str:
    """Return a study's power as text.

    Args:
        could: the power.
        theirs: the published slope.
        seeds: of the study.
    """
    if math.isnan(could.detectable):
        parts = ["these seeds and cells are too few to find any slope"]
    else:
        parts = [f"{seeds} seeds find a slope of {could.detectable:.3g} in 80 % of such studies"]
    if not math.isnan(could.power):
        seeds_needed = float(f"{could.seeds_wanted:.2g}")
        parts.append(
            f"the published {theirs} in {100 * could.power:.0f} %, and {seeds_needed:,.0f} seeds would in 80 %"
        )
    elif theirs.slope <= 0:
        parts.append(f"the published {theirs} is no rise")
    return ", ".join([*parts, f"slopes above {could.excluded:.3g} are excluded"])


class Phrases(NamedTuple):
    """What a test says, and its name."""

    rise: str
    fall: str
    neither: str = "no trend either way"
    test: str = "trend test"

    @classmethod
    def of(cls, what: str, x: str) -> "Phrases":
        """Of a trend of `what` over x."""
        along = "size" if x.startswith("params") else x
        return cls(f"the {what} grows with {along}", f"the {what} shrinks with {along}")


def answered(tail: null.Tail, phrases: Phrases, excluded: str) -> tuple[Answer, str]:
    """The answer of a test, and the reason as text.

    Args:
        tail: p values of the test.
        phrases: its texts.
        excluded: slopes that the interval excludes, or "".
    """
    rise, fall, neither, test = phrases
    least = f"{min(tail.up, tail.down):.3g} ± {tail.error:.1g}"
    if tail.borderline:
        up = "up" if tail.up < tail.down else "down"
        return "inconclusive", f"borderline, the error of the simulation holds the level ({test}, p = {least} {up})"
    if tail.up < LEVEL:
        return "reproduced", f"{rise} ({test}, one-sided p = {least})"
    if tail.down < LEVEL:
        return "not reproduced", f"{fall} ({test}, one-sided p = {least})"
    neither = f"{neither} (one-sided p = {tail.up:.3g} up, {tail.down:.3g} down, ± {tail.error:.1g})"
    return ("not reproduced", f"{neither}, and {excluded} are excluded") if excluded else ("inconclusive", neither)
