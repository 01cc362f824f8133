"""Does the rate grow with size, if some nets interpolate and others do not?

p comes from simulated studies in which all cells have the same rate. The noise of a cell, relative to the rate, is that
of its runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from samgap.figures.convergence.arm import Answered, Arm
from samgap.figures.convergence.curves import rate, settled
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL, POWER, critical, detectable, pages_l
from samgap.style import compact

CLAIM = "the rate grows with size"
STUDIES = 20_000  # simulated
STEEPEST = 1e6  # largest growth that is tried


@dataclass(frozen=True)
class Growth(Answered):
    """Whether the rate grows. A growth is the rate of the largest net divided by that of the smallest."""

    p: float = math.nan  # one-sided, for a growth
    other_p: float = math.nan
    ratio: float = math.nan  # rates of nets that interpolate over those of the others, of common sizes if possible
    ratio_low: float = math.nan  # 95 %
    ratio_high: float = math.nan
    published_ratio: float = math.nan  # of the same sizes
    growth: float = math.nan  # published, extrapolated to our sizes
    power: float = math.nan  # share of such studies that find this growth
    seeds_wanted: float = math.nan  # approximate number of seeds with which 80 % find it
    detectable: float = math.nan  # growth that 80 % find


def contrast(arm: Arm, theirs: pd.DataFrame | None) -> Growth:
    """Return the answer; cells that have stopped at the floor of normalized SAM are left out.

    Args:
        arm: the runs.
        theirs: published curves.
    """
    floor, problem, known = arm.at_floor, arm.problem, arm.known
    stopped = [compact(runs["params_total"].iloc[0]) for runs, stop in zip(arm.cells, floor, strict=True) if stop]
    cells = [runs for runs, stop in zip(arm.cells, floor, strict=True) if not stop]
    inside = np.array([runs["interpolates"].all() for runs in cells], dtype=bool)
    sizes = np.array([runs["params_total"].iloc[0] for runs in cells], dtype=float)
    if not problem and stopped and not inside.any():
        problem = f"what interpolates ({', '.join(stopped)} parameters) has stopped at SAM's floor"
    rates = pd.DataFrame({place: runs["rate"] for place, runs in enumerate(cells)}).dropna().to_numpy()
    if problem := problem or _problem(rates, inside, sizes):
        return Growth(answer="inconclusive", reason=f"whether {CLAIM}: {problem}", claim=CLAIM, **known)
    answer, p, other_p, alike = trend(rates)
    error = math.sqrt(min(p, other_p) * (1 - min(p, other_p)) / STUDIES)
    published = _published(theirs, cells)
    numbers: dict[str, Any] = _ratios(rates, inside, published) | power(alike, sizes, published)
    says = {"reproduced": CLAIM, "not reproduced": "the rate falls with size", "inconclusive": "no trend either way"}
    without = f", without {', '.join(stopped)} parameters, which stopped at SAM's floor" if stopped else ""
    reason = f"{says[answer]} (Page's test, one-sided p = {p:.2g} up, {other_p:.2g} down, ± {error:.1g}{without})"
    reason += _said(numbers, len(rates))
    return Growth(answer=answer, reason=reason, claim=CLAIM, p=p, other_p=other_p, **known, **numbers)


def trend(rates: np.ndarray, studies: int = STUDIES) -> tuple[Answer, float, float, np.ndarray]:
    """Page's trend test: the answer, both one-sided p values, and rates (studies, seeds, cells) without growth.

    p decides if it is below the level by two of its Monte Carlo errors.

    Args:
        rates: (seeds, cells), in order of size.
        studies: how many to simulate.
    """
    spread = rates.std(axis=0, ddof=1) / np.abs(rates.mean(axis=0))
    alike = 1 + spread * np.random.default_rng(0).normal(size=(studies, *rates.shape))
    nothing, found = pages_l(alike), pages_l(rates)
    p, other_p = (float(1 + reached.sum()) / (1 + studies) for reached in (nothing >= found, nothing <= found))
    least = min(p, other_p)
    if least + 2 * math.sqrt(least * (1 - least) / studies) >= LEVEL:
        return "inconclusive", p, other_p, alike
    return "reproduced" if p < other_p else "not reproduced", p, other_p, alike


def _problem(rates: np.ndarray, inside: np.ndarray, sizes: np.ndarray) -> str:
    if inside.all():
        return "all nets interpolate, and none is left to compare with"
    if not inside.any():
        return "no net interpolates, and the claim is about those that do"
    if len({*sizes}) < len(sizes):
        return "two cells are of one size"
    return "" if len(rates) > 1 else "it needs 2 seeds that have every cell"


def _published(theirs: pd.DataFrame | None, cells: list[pd.DataFrame]) -> np.ndarray:
    """The published rate at each cell's width, nan if there is none."""
    found = np.full(len(cells), math.nan)
    if theirs is None:
        return found
    for place, runs in enumerate(cells):
        curve = settled(theirs[theirs["width"] == runs["width"].iloc[0]])
        if len(curve) > 2:
            found[place] = rate(curve["epoch"], curve["loss"])
    return found


def _ratios(rates: np.ndarray, inside: np.ndarray, published: np.ndarray) -> dict[str, float]:
    common = np.isfinite(published)
    both = bool(inside[common].any() and not inside[common].all())
    over = common if both else np.full(len(inside), fill_value=True)
    ours, theirs = {}, math.nan
    if (rates[:, over] > 0).all():
        ratios = _contrasts(np.log(rates), over, inside)
        half_width = special.stdtrit(len(ratios) - 1, 1 - LEVEL / 2) * ratios.std(ddof=1) / math.sqrt(len(ratios))
        named = {"ratio": 0, "ratio_low": -half_width, "ratio_high": half_width}
        ours = {name: math.exp(ratios.mean() + step) for name, step in named.items()}
    if both:
        theirs = math.exp(_contrasts(np.log(published[None]), over, inside)[0])
    return ours | {"published_ratio": theirs}


def _contrasts(logs: np.ndarray, over: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The mean log rate (seeds,) of the cells that interpolate minus that of the others."""
    return logs[:, over & inside].mean(axis=1) - logs[:, over & ~inside].mean(axis=1)


def power(alike: np.ndarray, sizes: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """Return what such studies find if the rate is a power of the size, as fields of `Growth` by name.

    Args:
        alike: rates (studies, seeds, cells) without growth.
        sizes, published: parameters and published rate of each cell, nan where there is none.
    """
    place, common = np.log(sizes / sizes[0]) / math.log(sizes[-1] / sizes[0]), np.isfinite(published)
    limit, numbers = critical(pages_l(alike)), {}
    if common.sum() > 1:
        numbers["growth"] = math.exp(np.polyfit(place[common], np.log(published[common]), 1)[0])

    def finds(growth: float) -> float:
        return float((pages_l(alike * growth**place) > limit).mean())

    largest = math.log(STEEPEST)
    least = detectable(lambda log: finds(math.exp(log)), largest, largest, halvings=12)
    if math.isnan(least):
        return numbers
    numbers["detectable"] = math.exp(least)
    if (growth := numbers.get("growth", 0)) > 1:
        numbers["power"] = finds(growth)
        numbers["seeds_wanted"] = max(2, math.ceil(alike.shape[1] * (least / math.log(growth)) ** 2))
    return numbers


def _said(numbers: Mapping[str, float], seeds: int) -> str:
    text, known = "", {"share": 100 * numbers.get("power", 0), "seeds": seeds} | dict(numbers)
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
    return text.format(**known)
