"""Tests two claims about the training loss: its rate grows with size, and is linear where the theory says so.

Seeds are independent, since no best rho is chosen.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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
    mean_curves: pd.DataFrame,
    published: pd.DataFrame | None,
    settings: Sequence[Mapping[str, Any]],
    linear_from: float,
    lost: Mapping[tuple[str, float], int],
) -> list[Verdict]:
    """Return two verdicts for each rule of the step and rho, or only one if all runs diverged.

    Args:
        fits, keys: see `study.study`.
        mean_curves: mean curves of the cells, see `curves.means`.
        published: published curves, see `curves.reference`.
        settings: the settings of the runs.
        linear_from: see `linear`.
        lost: number of diverged runs by rule and rho.
    """
    verdicts: list[Verdict] = []
    curves = {cell: curve for cell, curve in mean_curves.groupby(keys, sort=False)}
    known = dict.fromkeys(zip(fits["rule"], fits[RHO], strict=True))
    for rule, rho in known:
        arm_fits = fits[(fits["rule"] == rule) & (fits[RHO] == rho)]
        cells = [(runs.set_index(SEED), curves[cell]) for cell, runs in arm_fits.groupby(keys, sort=False)]
        cells.sort(key=lambda cell: cell[0]["params_total"].iloc[0])
        parts = [runs for runs, _ in cells], [curve for _, curve in cells]
        arm = Arm(rule, rho, *parts, lost.get((rule, rho), 0))
        verdicts += [contrast(arm, published), linear(arm, settings, linear_from)]
    for (rule, rho), count in lost.items():
        if (rule, rho) not in known:
            reason = f"all {count} run(s) diverged"
            verdicts.append(
                Growth(answer="inconclusive", reason=reason, claim=CLAIM, **Arm(rule, rho, [], [], count).known)
            )
    return verdicts
