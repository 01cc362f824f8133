"""Tests for figures 1 to 3: does the loss fall at a linear rate where nets interpolate, and faster than elsewhere?

Seeds are independent and no best rho is picked, so Student's t gives the p values.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from samgap.figures.convergence.curves import RULES
from samgap.figures.output import Answer, Judgment
from samgap.figures.significance import LEVEL, above
from samgap.figures.table import Table
from samgap.runs.sweeps import RHO, SEED


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one update rule at one rho. All p values are one-sided.

    `linear_p` is the largest p over the cells that interpolate, each tested for a straightness above 0. `slower_p` and
    `faster_p` are the largest over all pairs of a cell that interpolates and one that does not. A pair is tested, seed
    by seed, for a larger rate of the first (`slower_p`) or of the second (`faster_p`).
    """

    seeds: int  # in the cell with the fewest
    diverged: int  # number of runs
    interpolating: int  # number of cells
    others: int  # number of cells that do not interpolate
    linear_p: float
    sublinear_p: float  # the smallest for a straightness below 0, corrected for the number of tests
    slower_p: float
    faster_p: float


def diverged(table: Table) -> Counter[tuple[str, float]]:
    """Return the number of diverged runs for each rule and rho."""
    return Counter(
        (record.settings["ascent"]["name"] if record.rho else "sgd", record.rho)
        for record in table.records
        if record.status == "diverged"
    )


def judge(
    cells: pd.DataFrame,
    fits: pd.DataFrame,
    keys: list[str],
    lost: Mapping[tuple[str, float], int] = MappingProxyType({}),
) -> Verdict:
    """Return whether one rule has a linear rate where nets interpolate, and a larger rate there than elsewhere.

    Args:
        cells, fits, keys: see `study.Convergence`; the cells are those of one rule and rho, in the order of the fits.
        lost: number of diverged runs by rule and rho.
    """
    rule, rho = str(cells["rule"].iloc[0]), float(cells[RHO].iloc[0])
    gone = lost.get((rule, rho), 0)
    mine = fits[(fits["rule"] == rule) & (fits[RHO] == rho)]
    fits_of = [runs.set_index(SEED) for _, runs in mine.groupby(keys, sort=False)]
    inside, outside = (
        [runs for runs, fits_all in zip(fits_of, cells["interpolates"], strict=True) if fits_all == side]
        for side in (True, False)
    )
    pairs = [(one["rate"], other["rate"]) for one in inside for other in outside]
    linear_p = _largest(above(runs["straightness"]) for runs in inside)
    # The smallest of several p values may be small by chance, so Bonferroni's correction is applied.
    sublinear_p = min(1.0, len(inside) * _smallest(above(-runs["straightness"]) for runs in inside))
    slower_p = _largest(above((one - other).dropna()) for one, other in pairs)
    faster_p = _largest(above((other - one).dropna()) for one, other in pairs)
    seeds = min(len(runs) for runs in fits_of)
    answer, reason = _answer(gone, seeds, len(inside), len(outside), linear_p, sublinear_p, slower_p, faster_p)
    return Verdict(
        _named(rule, rho),
        answer,
        reason,
        seeds,
        gone,
        len(inside),
        len(outside),
        linear_p,
        sublinear_p,
        slower_p,
        faster_p,
    )


def all_diverged(rule: str, rho: float, runs: int) -> Verdict:
    """Return the answer for a rule whose runs all diverged."""
    nan = math.nan
    return Verdict(_named(rule, rho), "inconclusive", f"all {runs} run(s) diverged", 0, runs, 0, 0, nan, nan, nan, nan)


def _named(rule: str, rho: float) -> str:
    return RULES.get(rule, rule) + (f" at rho={rho:g}" if rho else "")


def _largest(values: Iterable[float]) -> float:
    """Return the largest p value. If one is nan or there is none, return nan, which passes no test."""
    return float(np.max([*values] or [math.nan]))


def _smallest(values: Iterable[float]) -> float:
    """Return the smallest p value that is not nan, or 1 if there is none."""
    return min((value for value in values if not math.isnan(value)), default=1.0)


def _answer(
    diverged: int,
    seeds: int,
    inside: int,
    outside: int,
    linear_p: float,
    sublinear_p: float,
    slower_p: float,
    faster_p: float,
) -> tuple[Answer, str]:
    if diverged:
        return "inconclusive", f"{diverged} run(s) diverged, and what is left would be a choice of the best"
    if not inside:
        return "inconclusive", "no net interpolates, and the claim is about those that do"
    if sublinear_p < LEVEL:
        return (
            "not reproduced",
            f"where nets interpolate a power law fits better than a linear rate (p = {sublinear_p:.3g})",
        )
    if faster_p < LEVEL:
        return "not reproduced", f"the loss falls faster where nets do not interpolate (p = {faster_p:.3g})"
    if seeds < 2:
        return "inconclusive", "a test needs 2 seeds in every cell, and one has 1"
    linear = f"a linear rate fits better than a power law where nets interpolate (p = {linear_p:.3g})"
    if not linear_p < LEVEL:
        return "inconclusive", f"neither a linear rate nor a power law fits better (p = {linear_p:.3g} for the first)"
    if not outside:
        return "inconclusive", f"{linear}, and all do, so that none is left to compare their rates with"
    if not slower_p < LEVEL:
        return "inconclusive", f"{linear}, but their rate is not proved larger than the others' (p = {slower_p:.3g})"
    return "reproduced", f"{linear}, and the loss falls more slowly where they do not (p = {slower_p:.3g})"
