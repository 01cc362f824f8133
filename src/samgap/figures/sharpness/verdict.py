"""Answers three questions about the curvature at the end of training, for each series of runs.

Is lambda_max smaller with SAM? Does s_2 fall as rho grows? Does linear stability allow lambda_max? Seeds are
independent, since no best rho is chosen, so p values come from Student's t and Page's trend test.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from samgap.figures.output import Answer, Judgment
from samgap.figures.sharpness.probed import TOP
from samgap.figures.significance import LEVEL, p_above_0
from samgap.runs.sweeps import RHO, SEED

EXACT = 9  # rhos


@dataclass(frozen=True)
class Flatness(Judgment):
    """The answer to one question for one series. p values are one-sided, and nan if nothing was tested."""

    claim: str
    seeds: int  # number of complete seeds
    diverged: int  # number of runs
    p: float  # for the claim
    other_p: float  # for its opposite
    within: int = 0  # third question: number of runs with an allowed lambda_max
    runs: int = 0  # third question: number of runs in all


def flatter(runs: pd.DataFrame, rhos: Sequence[float]) -> Flatness:
    """Test whether SAM's lambda_max is smaller: SGD's minus SAM's mean over the rhos above 0, paired by seed.

    Args:
        runs: of one series, see `probed.load`.
        rhos: all rhos of the series.
    """
    claim = "SAM's lambda_max is smaller"
    complete, left_out = complete_seeds(runs, TOP, rhos)
    sam = [rho for rho in rhos if rho > 0]
    if problem := _problem(runs, len(complete), TOP):
        return _inconclusive(runs, claim, problem, len(complete))
    if 0 not in rhos or not sam:
        return _inconclusive(runs, claim, "it needs runs with rho 0 and with rho above 0", len(complete))
    gains = complete[0] - complete[sam].mean(axis=1)
    p, other_p = p_above_0(gains), p_above_0(-gains)
    mean, context = gains.mean(), f"in the mean over rho and {len(complete)} seeds{left_out}"
    reasons = {
        "reproduced": f"SAM's lambda_max is smaller, by {mean:.3g} {context} (p = {p:.2g})",
        "not reproduced": f"SAM's lambda_max is larger, by {-mean:.3g} {context} (p = {other_p:.2g})",
        "inconclusive": f"SGD's lambda_max minus SAM's is {mean:+.3g} {context}, which may be chance (p = {p:.2g})",
    }
    return _tested(runs, claim, reasons, p, other_p, len(complete))


def falling(runs: pd.DataFrame, rhos: Sequence[float]) -> Flatness:
    """Test whether s_2 falls as rho grows, by Page's trend test with seeds as blocks.

    The test is exact up to `EXACT` rhos, and takes L as normal for more, where SciPy would need minutes and gigabytes.

    Args:
        runs: of one series, see `probed.load`.
        rhos: all rhos of the series, in ascending order.
    """
    claim = "s_2 falls as rho grows"
    complete, left_out = complete_seeds(runs, "s_2", rhos)
    if problem := _problem(runs, len(complete), "s_2"):
        return _inconclusive(runs, claim, problem, len(complete))
    if len(rhos) < 3:
        return _inconclusive(runs, claim, f"a trend needs 3 values of rho, and there are {len(rhos)}", len(complete))
    values = complete[list(rhos)].to_numpy()
    method = "exact" if len(rhos) <= EXACT else "asymptotic"
    p, other_p = (float(stats.page_trend_test(ordered, method=method).pvalue) for ordered in (values[:, ::-1], values))
    first, last = values[:, 0].mean(), values[:, -1].mean()
    context = f"from {first:.3g} at rho={rhos[0]:g} to {last:.3g} at rho={rhos[-1]:g}, {len(complete)} seeds{left_out}"
    reasons = {
        "reproduced": f"s_2 falls as rho grows, {context} (p = {p:.2g})",
        "not reproduced": f"s_2 rises as rho grows, {context} (p = {other_p:.2g})",
        "inconclusive": f"no trend of s_2 over rho is proved, {context} (p = {p:.2g} for a fall)",
    }
    return _tested(runs, claim, reasons, p, other_p, len(complete))


def allowed(runs: pd.DataFrame, settings: Mapping[str, Any]) -> Flatness:
    """Count the runs that end with lambda_max (1 + rho lambda_max) at most 2/eta, and judge by their share.

    Args:
        runs: of one series, see `probed.load`.
        settings: settings of one of the runs.
    """
    claim = "lambda_max (1 + rho lambda_max) <= 2/eta"
    known = runs["within"].dropna().astype(bool)
    within, seeds = int(known.sum()), int(runs[SEED].nunique())
    if problem := _problem(runs, 2, TOP) or _outside_theory(settings):
        return _inconclusive(runs, claim, problem, seeds)
    if len(known) < len(runs):
        return _inconclusive(runs, claim, f"{len(runs) - len(known)} run(s) have no {TOP}", seeds)
    answer: Answer = "inconclusive"
    if within == len(known):
        answer = "reproduced"
    elif 2 * within < len(known):
        answer = "not reproduced"
    reason = f"{within} of {len(known)} runs end where {claim}, as linear stability allows"
    return Flatness(
        str(runs["series"].iloc[0]), answer, reason, claim, seeds, 0, math.nan, math.nan, within, len(known)
    )


def complete_seeds(runs: pd.DataFrame, name: str, rhos: Sequence[float]) -> tuple[pd.DataFrame, str]:
    """Return a row for each complete seed, with a column for each rho, and a text that names the other seeds."""
    by_rho = runs.pivot(index=SEED, columns=RHO, values=name).reindex(columns=list(rhos))
    complete = by_rho.dropna()
    incomplete = [f"{seed:g}" for seed in by_rho.index.difference(complete.index)]
    return complete, f" (without seed {', '.join(incomplete)}, which lacks a run or its {name})" if incomplete else ""


def _outside_theory(settings: Mapping[str, Any]) -> str:
    # Both change the limit: momentum raises it, and with a schedule the final learning rate is not eta.
    if settings["optimizer"].get("momentum"):
        return f"the limit is that of no momentum, and here it is {settings['optimizer']['momentum']:g}"
    if settings["schedule"]["name"] != "constant":
        return f"the limit is that of a constant learning rate, and here the schedule is {settings['schedule']['name']}"
    return ""


def _problem(runs: pd.DataFrame, seeds: int, name: str) -> str:
    diverged = runs["folder"][runs["status"] == "diverged"]
    if len(diverged):
        folders = ", ".join(diverged)
        return f"{len(diverged)} run(s) diverged ({folders}), and what is left would be a choice of the best"
    return f"a test needs 2 seeds that lack no run and no {name}, and there is {seeds}" if seeds < 2 else ""


def _tested(
    runs: pd.DataFrame, claim: str, reasons: Mapping[str, str], p: float, other_p: float, seeds: int
) -> Flatness:
    answer: Answer = "reproduced" if p < LEVEL else "not reproduced" if other_p < LEVEL else "inconclusive"
    missed = int(runs["missed"].sum())
    unequal = f", though {missed} of {len(runs)} runs did not come down to that loss" if missed else ""
    return Flatness(str(runs["series"].iloc[0]), answer, reasons[answer] + unequal, claim, seeds, 0, p, other_p)


def _inconclusive(runs: pd.DataFrame, claim: str, problem: str, seeds: int) -> Flatness:
    diverged = int((runs["status"] == "diverged").sum())
    reason = f"whether {claim}: {problem}"
    return Flatness(
        str(runs["series"].iloc[0]), "inconclusive", reason, claim, seeds, diverged, math.nan, math.nan,
    )  # fmt: skip
