"""Two questions about the training loss: does its rate grow with size, and is it linear where the theory says so?

Seeds are independent and no best rho is picked.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.convergence.contrast import CLAIM, Contrast, contrast
from samgap.figures.convergence.curves import RULES, quarters
from samgap.figures.convergence.linear import COVERED, Linear, linear
from samgap.figures.table import Table
from samgap.runs.sweeps import RHO, SEED

Verdict = Contrast | Linear
STOPPED = 0.1  # a curve whose last quarter falls less than this many times as fast as its second has stopped


def diverged(table: Table) -> Counter[tuple[str, float]]:
    """Return the number of diverged runs for each rule and rho."""
    return Counter(
        (record.settings["ascent"]["name"] if record.rho else "sgd", record.rho)
        for record in table.records
        if record.status == "diverged"
    )


def judge(
    fits: pd.DataFrame,
    keys: list[str],
    middle: pd.DataFrame,
    theirs: pd.DataFrame | None,
    settings: Mapping[str, Any],
    linear_from: float,
    lost: Mapping[tuple[str, float], int],
) -> list[Verdict]:
    """Return two verdicts for each rule of the step and rho; one where all runs diverged.

    Args:
        fits, keys: see `study.Convergence`.
        middle: mean curves of the cells, see `curves.means`.
        theirs: published curves, see `curves.reference`.
        settings: of one of the runs.
        linear_from: see `linear`.
        lost: number of diverged runs by rule and rho.
    """
    found: list[Verdict] = []
    curves = {cell: curve for cell, curve in middle.groupby(keys, sort=False)}
    for rule, rho in dict.fromkeys(zip(fits["rule"], fits[RHO], strict=True)):
        mine = fits[(fits["rule"] == rule) & (fits[RHO] == rho)]
        cells = [(curves[cell], runs.set_index(SEED)) for cell, runs in mine.groupby(keys, sort=False)]
        cells.sort(key=lambda cell: cell[1]["params_total"].iloc[0])
        inside = [runs for _, runs in cells if runs["interpolates"].all()]
        seeds, gone = min(len(runs) for _, runs in cells), lost.get((rule, rho), 0)
        problem = "" if seeds > 1 else "a test needs 2 seeds in every cell, and one has 1"
        if gone:
            problem = f"{gone} run(s) diverged, and what is left would be a choice of the best"
        known = _known(rule, rho, seeds, gone, len(inside), len(cells) - len(inside))
        floor = [
            rule not in COVERED
            and bool(runs["interpolates"].all())
            and quarters(curve["epoch"], curve["loss"]) < STOPPED
            for curve, runs in cells
        ]
        found.append(contrast([runs for _, runs in cells], floor, theirs, known, problem))
        found.append(linear(inside, rule, settings, linear_from, known, problem))
    for (rule, rho), gone in lost.items():
        if not ((fits["rule"] == rule) & (fits[RHO] == rho)).any():
            known = _known(rule, rho, 0, gone, 0, 0)
            found.append(Contrast(answer="inconclusive", reason=f"all {gone} run(s) diverged", claim=CLAIM, **known))
    return found


def _known(rule: str, rho: float, seeds: int, diverged: int, interpolating: int, others: int) -> dict[str, Any]:
    series = RULES.get(rule, rule) + (f" at rho={rho:g}" if rho else "")
    return {
        "series": series, "seeds": seeds, "diverged": diverged, "interpolating": interpolating, "others": others,
    }  # fmt: skip
