"""The gaps of a sweep, by cell and by seed, for each protocol; see `cells`."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from samgap.errors import SettingError
from samgap.figures.gap import null, parabola
from samgap.figures.gap.cells import (
    PROTOCOLS,
    Cell,
    Protocol,
    arms,
    best_of,
    chosen,
    common,
    complete,
    context,
    radii,
    std,
    summary,
)  # fmt: skip
from samgap.figures.table import Table
from samgap.runs.sweeps import REPLICATE, RHO

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Gaps:
    """The gaps of a sweep.

    `cells` has a row for each cell: its axes, params_total, params_live, then, in percent and percentage points, the
    accuracy of SGD and for each protocol p the columns p_acc, p_std (of SAM), p_gap, p_se, p_low, p_high, p_rho. They
    are missing if no cell allows p. `by_seed` has a row for each cell, protocol and seed. `best` has a row for each
    cell and seed, with the rho that is best in the seed's own runs, on held-out images if there are any. `gains` has a
    row for each cell and rho: the gap and its standard error, whether the protocol "paper" chooses this rho, and the
    number of seeds for which it is the best. `notes` lists the runs that all four leave out.
    """

    cells: pd.DataFrame
    by_seed: pd.DataFrame
    best: pd.DataFrame
    gains: pd.DataFrame
    axes: list[str]  # of a cell
    unbiased: Protocol  # of the verdict; by default holdout if there is a holdout, else loso
    rhos: int  # the number of rhos to choose from
    fixed_rho: float
    notes: list[str]
    equal_parameters: bool  # every width has its own sparsity (pruner.live_params)
    sgd_runs: float = 1  # SGD runs of a seed for each run of SAM at one rho
    swept: tuple[float, ...] = ()  # the rhos
    effect: float | None = None  # the smallest slope of interest, where one was registered

    @property
    def choice(self) -> null.Rhos:
        """The rhos from which the unbiased protocol chooses."""
        return self.choices(self.unbiased)

    def choices(self, protocol: str) -> null.Rhos:
        """The rhos from which a protocol chooses."""
        return 1 if protocol == "fixed" else self.swept if protocol == "quadratic" else self.rhos


def gaps(table: Table, fixed_rho: float | None = None, rule: Protocol | None = None) -> Gaps:
    """Return all gaps of a table.

    Args:
        table: runs of both arms.
        fixed_rho: rho of the "fixed" gap, which is left out if this rho was not swept; None is the median rho.
        rule: the protocol of the verdict, one of `UNBIASED`; None is holdout if there is a holdout, else loso.

    Raises:
        SettingError: an arm is missing, or the runs have no accuracy.
    """
    rhos = _swept(table)
    fixed = rhos[len(rhos) // 2] if fixed_rho is None else float(fixed_rho)
    notes: list[str] = []
    cell_axes = [axis for axis in table.cell_axes if axis != REPLICATE]
    all_arms = arms(table.runs, cell_axes)
    cells = [cell for axes, sam, sgd in all_arms if (cell := complete(axes, sam, sgd, notes)) is not None]
    if not cells:
        raise SettingError(f"No cell can be compared ({'; '.join(notes)}): see python -m samgap.status.")
    sam, sgd = (table.runs[REPLICATE][arm].nunique() for arm in (table.runs[RHO] > 0, table.runs[RHO] == 0))
    results = [_of_cell(cell, fixed, sgd / sam) for cell in cells]
    by_seed, best, gains = (pd.DataFrame([row for result in results for row in result[index]]) for index in (1, 2, 3))
    unbiased = rule or ("holdout" if all(cell.holdout_acc is not None for cell in cells) else "loso")
    order = [*(axis for axis in cell_axes if axis != "model.width"), "params_total", "params_live"]
    frame = pd.DataFrame([result[0] for result in results]).sort_values(order, key=_sortable).reset_index(drop=True)
    if fixed not in rhos:
        notes.append(f"no gap at the fixed rho = {fixed:g} (draw.fixed_rho), which was not swept")
    if f"{unbiased}_gap" not in frame:
        need = {"quadratic": f" and {parabola.LEAST} radii", "holdout": " and data.holdout above 0"}.get(unbiased, "")
        notes.append(f"no unbiased gap, no interval and no verdict, which need two seeds{need if rule else ''}")
    # All requested runs count, so that the series of a figure do not change while the sweep runs.
    equal = have_equal_parameters(table.runs, cell_axes)
    return Gaps(
        frame, by_seed, best, gains, cell_axes, unbiased, len(rhos), fixed, notes, equal, sgd / sam, tuple(rhos)
    )


def _swept(table: Table) -> list[float]:
    """Return the rhos of SAM in ascending order.

    Raises:
        SettingError: an arm is missing, or the runs have no accuracy.
    """
    done = table.runs[table.runs["status"] == "done"]
    if len(done) and done["test_acc_final"].isna().all():
        raise SettingError(
            "A gap is one of accuracies, and a regression has none: set draw=convergence, and draw.interpolates_from "
            "to a width."
        )
    rhos = sorted(map(float, table.runs[RHO][table.runs[RHO] > 0].unique()))
    if not rhos or not (table.runs[RHO] == 0).any():
        raise SettingError("A gap needs both arms: sweep ascent.rho over 0 and at least one other value.")
    return rhos


def _of_cell(cell: Cell, fixed_rho: float, sgd_runs: float) -> tuple[dict[str, Any], Rows, Rows, Rows]:
    """Return the row of a cell, and its rows of `by_seed`, `best` and `gains`, see `Gaps`."""
    row, by_seed = context(cell), []
    for protocol in PROTOCOLS:
        choice = chosen(protocol, cell, fixed_rho)
        if choice is None:
            continue
        rhos, accuracies = choice
        differences = accuracies - cell.sgd_acc.to_numpy()
        row |= summary(protocol, accuracies, differences, radii(protocol, cell), sgd_runs)
        row[f"{protocol}_rho"] = float(np.median(rhos)) if protocol == "quadratic" else common(rhos)
        for seed, rho, difference in zip(cell.sam_acc, rhos, differences, strict=True):
            by_seed.append(cell.axes | {"protocol": protocol, "seed": seed, "rho": rho, "gap": difference})
    criterion = cell.sam_acc if cell.holdout_acc is None else cell.holdout_acc
    best_by_seed = {seed: best_of(criterion[[seed]]) for seed in criterion}
    best = [cell.axes | {"seed": seed, "rho": rho} for seed, rho in best_by_seed.items()]
    sizes = {size: row[size] for size in ("params_total", "params_live")}
    gains = []
    for radius, diffs in zip(cell.sam_acc.index, cell.sam_acc.to_numpy() - cell.sgd_acc.to_numpy(), strict=True):
        gain = {"rho": float(radius), "n": len(diffs), "gain": diffs.mean(), "se": std(diffs) / math.sqrt(len(diffs))}
        gain |= {"best": radius == row["paper_rho"], "best_of": [*best_by_seed.values()].count(radius)}
        gains.append(cell.axes | sizes | gain)
    return row, by_seed, best, gains


def have_equal_parameters(rows: pd.DataFrame, axes: list[str]) -> bool:
    """Return whether every width has its own sparsity."""
    if not {"model.width", "pruner.sparsity"} <= {*axes} or rows["pruner.sparsity"].nunique() == 1:
        return False
    others = [axis for axis in axes if axis != "pruner.sparsity"]
    return bool(rows.groupby(others)["pruner.sparsity"].nunique().max() == 1)


def _sortable(column: pd.Series) -> pd.Series:
    return column if pd.api.types.is_numeric_dtype(column) else column.astype(str)
