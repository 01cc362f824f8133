"""Does the rate grow with size, if some nets interpolate and others do not?

p comes from simulated studies in which all cells have the same rate. The coefficient of variation of
a cell is that of its runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from samgap.figures.convergence.arm import Arm, ArmJudgment
from samgap.figures.convergence.curves import rate, warmed_up
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL, POWER, critical_value, detectable, pages_l
from samgap.style import compact

CLAIM = "the rate grows with size"
STUDIES = 20_000  # simulated
STEEPEST = 1e6  # largest growth for which power is computed


@dataclass(frozen=True)
class Growth(ArmJudgment):
    """Whether the rate grows. A growth is the rate of the largest net divided by that of the smallest."""

    p: float = math.nan  # one-sided, for a growth
    other_p: float = math.nan
    ratio: float = math.nan  # rate of nets that interpolate / rate of the others, over sizes in common if possible
    ratio_low: float = math.nan  # 95 %
    ratio_high: float = math.nan
    published_ratio: float = math.nan  # of the same sizes
    growth: float = math.nan  # published growth, extrapolated to our sizes
    power: float = math.nan  # share of such studies that find this growth
    seeds_wanted: float = math.nan  # approximate number of seeds with which 80 % find it
    detectable: float = math.nan  # growth that 80 % find
    excluded: float = math.nan  # upper end of the one-sided 95 % interval (TOST): larger growths are excluded


def contrast(arm: Arm, published_curves: pd.DataFrame | None) -> Growth:
    """Return the verdict; cells that have stopped at the floor of normalized SAM are left out.

    Args:
        arm: the runs.
        published_curves: published curves.
    """
    at_floor, problem, known = arm.at_floor, arm.problem, arm.known
    stopped = [compact(runs["params_total"].iloc[0]) for runs, stop in zip(arm.cells, at_floor, strict=True) if stop]
    cells = [runs for runs, stop in zip(arm.cells, at_floor, strict=True) if not stop]
    interpolates = np.array([runs["interpolates"].all() for runs in cells], dtype=bool)
    sizes = np.array([runs["params_total"].iloc[0] for runs in cells], dtype=float)
    if not problem and stopped and not interpolates.any():
        problem = f"what interpolates ({', '.join(stopped)} parameters) has stopped at SAM's floor"
    rates = pd.DataFrame({place: runs["rate"] for place, runs in enumerate(cells)}).dropna().to_numpy()
    if problem := problem or _problem(rates, interpolates, sizes):
        return Growth(answer="inconclusive", reason=f"whether {CLAIM}: {problem}", claim=CLAIM, **known)
    answer, p, other_p, null_rates = trend(rates)
    error = math.sqrt(min(p, other_p) * (1 - min(p, other_p)) / STUDIES)
    published = _published(published_curves, cells)
    numbers: dict[str, Any] = _ratios(rates, interpolates, published) | power(null_rates, sizes, published)
    numbers |= excluded(rates, sizes)
    texts = {"reproduced": CLAIM, "not reproduced": "the rate falls with size", "inconclusive": "no trend either way"}
    exclusion = f", without {', '.join(stopped)} parameters, which stopped at SAM's floor" if stopped else ""
    reason = f"{texts[answer]} (Page's test, one-sided p = {p:.2g} up, {other_p:.2g} down, ± {error:.1g}{exclusion})"
    reason += _numbers_text(numbers, len(rates))
    return Growth(answer=answer, reason=reason, claim=CLAIM, p=p, other_p=other_p, **known, **numbers)


def trend(rates: np.ndarray, studies: int = STUDIES) -> tuple[Answer, float, float, np.ndarray]:
    """Return the answer of Page's test, both one-sided p values, and rates (studies, seeds, cells) without growth.

    The test is significant if p is below the level by two of its Monte Carlo standard errors.

    Args:
        rates: (seeds, cells), in order of size.
        studies: number of studies to simulate.
    """
    spread = rates.std(axis=0, ddof=1) / np.abs(rates.mean(axis=0))
    null_rates = 1 + spread * np.random.default_rng(0).normal(size=(studies, *rates.shape))
    null_l, l_value = pages_l(null_rates), pages_l(rates)
    p, other_p = (float(1 + extreme.sum()) / (1 + studies) for extreme in (null_l >= l_value, null_l <= l_value))
    smaller = min(p, other_p)
    if smaller + 2 * math.sqrt(smaller * (1 - smaller) / studies) >= LEVEL:
        return "inconclusive", p, other_p, null_rates
    return "reproduced" if p < other_p else "not reproduced", p, other_p, null_rates


def _problem(rates: np.ndarray, interpolates: np.ndarray, sizes: np.ndarray) -> str:
    if interpolates.all():
        return "all nets interpolate, and none is left to compare with"
    if not interpolates.any():
        return "no net interpolates, and the claim is about those that do"
    if len({*sizes}) < len(sizes):
        return "two cells are of one size"
    return "" if len(rates) > 1 else "it needs 2 seeds that have every cell"


def _published(curves: pd.DataFrame | None, cells: list[pd.DataFrame]) -> np.ndarray:
    """Return the published rate (cells,) at each cell's width, nan if there is none."""
    rates = np.full(len(cells), math.nan)
    if curves is None:
        return rates
    for place, runs in enumerate(cells):
        curve = warmed_up(curves[curves["width"] == runs["width"].iloc[0]])
        if len(curve) > 2:
            rates[place] = rate(curve["epoch"], curve["loss"])
    return rates


def _ratios(rates: np.ndarray, interpolates: np.ndarray, published: np.ndarray) -> dict[str, float]:
    common = np.isfinite(published)
    both = bool(interpolates[common].any() and not interpolates[common].all())
    compared = common if both else np.full(len(interpolates), fill_value=True)
    ours, published_ratio = {}, math.nan
    if (rates[:, compared] > 0).all():
        ratios = _contrasts(rates[:, compared], interpolates[compared])
        half_width = special.stdtrit(len(ratios) - 1, 1 - LEVEL / 2) * ratios.std(ddof=1) / math.sqrt(len(ratios))
        log_steps = {"ratio": 0, "ratio_low": -half_width, "ratio_high": half_width}
        ours = {name: math.exp(ratios.mean() + step) for name, step in log_steps.items()}
    if both:
        published_ratio = math.exp(_contrasts(published[None, compared], interpolates[compared])[0])
    return ours | {"published_ratio": published_ratio}


def _contrasts(rates: np.ndarray, interpolates: np.ndarray) -> np.ndarray:
    """Return the mean log rate (seeds,) of the cells that interpolate minus that of the others."""
    logs = np.log(rates)
    return np.asarray(logs[:, interpolates].mean(axis=1) - logs[:, ~interpolates].mean(axis=1))


def _position(sizes: np.ndarray) -> np.ndarray:
    """Return log sizes (cells,), from 0 for the smallest to 1 for the largest."""
    return np.asarray(np.log(sizes / sizes[0]) / math.log(sizes[-1] / sizes[0]))


def excluded(rates: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """Return the limit of growths of rates (seeds, cells), if all are positive: Student's t over the seeds' slopes."""
    if (rates <= 0).any():
        return {}
    slopes = np.polyfit(_position(sizes), np.log(rates).T, 1)[0]
    error = slopes.std(ddof=1) / math.sqrt(len(slopes))
    return {"excluded": math.exp(slopes.mean() + special.stdtrit(len(slopes) - 1, 1 - LEVEL) * error)}


def power(null_rates: np.ndarray, sizes: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """Return the power of such studies if the rate is a power of the size, as fields of `Growth` by name.

    Args:
        null_rates: rates (studies, seeds, cells) without growth.
        sizes: (cells,), numbers of parameters.
        published: (cells,), published rates, nan where there is none.
    """
    position, common = _position(sizes), np.isfinite(published)
    critical, numbers = critical_value(pages_l(null_rates)), {}
    if common.sum() > 1:
        numbers["growth"] = math.exp(np.polyfit(position[common], np.log(published[common]), 1)[0])

    def power_at(growth: float) -> float:
        return float((pages_l(null_rates * growth**position) > critical).mean())

    largest = math.log(STEEPEST)
    smallest = detectable(lambda log: power_at(math.exp(log)), largest, largest, halvings=12)
    if math.isnan(smallest):
        return numbers
    numbers["detectable"] = math.exp(smallest)
    if (growth := numbers.get("growth", 0)) > 1:
        numbers["power"] = power_at(growth)
        numbers["seeds_wanted"] = max(2, math.ceil(null_rates.shape[1] * (smallest / math.log(growth)) ** 2))
    return numbers


def _numbers_text(numbers: Mapping[str, float], seeds: int) -> str:
    text, values = "", {"share": 100 * numbers.get("power", 0), "seeds": seeds} | dict(numbers)
    if "ratio" not in numbers:
        text += "; the loss of a run does not fall, which leaves no ratio"
    else:
        text += "; where nets interpolate it is {ratio:.2g} [{ratio_low:.2g}, {ratio_high:.2g}] times the others'"
        text += "" if math.isnan(numbers["published_ratio"]) else ", published {published_ratio:.2g}"
    if "detectable" in numbers:
        text += "; {seeds} seeds find a growth by {detectable:.2g} in 80 % of such studies"
    if "power" in numbers:
        text += ", the published by {growth:.2g} in {share:.0f} %"
        text += ", and {seeds_wanted} seeds would in 80 %" if numbers["power"] < POWER else ""
    if "excluded" in numbers:
        text += ", growths by more than {excluded:.3g} are excluded"
    return text.format(**values)
