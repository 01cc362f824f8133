"""Two questions about the training loss: does its rate grow with size, and is it linear where the theory says so?

Seeds are independent and no best rho is picked.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.convergence.arm import Arm
from samgap.figures.convergence.contrast import CLAIM, Growth, contrast
from samgap.figures.convergence.linear import Linear, linear
from samgap.figures.table import Table
from samgap.runs.sweeps import RHO, SEED

Verdict = Growth | Linear


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
        fits, keys: see `study.study`.
        middle: mean curves of the cells, see `curves.means`.
        theirs: published curves, see `curves.reference`.
        settings: of one of the runs.
        linear_from: see `linear`.
        lost: number of diverged runs by rule and rho.
    """
    found: list[Verdict] = []
    curves = {cell: curve for cell, curve in middle.groupby(keys, sort=False)}
    known = dict.fromkeys(zip(fits["rule"], fits[RHO], strict=True))
    for rule, rho in known:
        mine = fits[(fits["rule"] == rule) & (fits[RHO] == rho)]
        cells = [(runs.set_index(SEED), curves[cell]) for cell, runs in mine.groupby(keys, sort=False)]
        cells.sort(key=lambda cell: cell[0]["params_total"].iloc[0])
        parts = [runs for runs, _ in cells], [curve for _, curve in cells]
        arm = Arm(rule, rho, *parts, lost.get((rule, rho), 0))
        found += [contrast(arm, theirs), linear(arm, settings, linear_from)]
    for (rule, rho), gone in lost.items():
        if (rule, rho) not in known:
            reason = f"all {gone} run(s) diverged"
            found.append(
                Growth(answer="inconclusive", reason=reason, claim=CLAIM, **Arm(rule, rho, [], [], gone).known)
            )
    return found
