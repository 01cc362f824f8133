"""SAM minus SGD in every cell, in percentage points, with its uncertainty, under three rules of choosing rho.

A gap pairs two runs of one cell and one seed. Which rho stands for SAM matters as much as the runs:

- paper: rho* is the best by the very test accuracy that is reported, averaged over seeds, as the paper chose it. The
  maximum of noisy numbers is too high, so this gap is biased upward, most where the true gap is small.
- holdout: rho* is the best by accuracy on held-out training images; the test set is looked at once.
- loso (leave one seed out): the gap of a seed uses the rho that was best on the other seeds.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from samgap.errors import SettingError
from samgap.results.table import RHO, SEED, Table, words

Protocol = Literal["paper", "holdout", "loso", "fixed"]
INTERPOLATES = 0.999  # final training accuracy from which a net counts as interpolating


@dataclass(frozen=True)
class Gaps:
    """The gaps of a sweep.

    `cells` has a row a cell: the cell's axes, params_total, params_live, then accuracies and gaps in percent and
    percentage points. `by_seed` has a row a cell, protocol and seed. `notes` says what was left out of them.
    """

    cells: pd.DataFrame
    by_seed: pd.DataFrame
    axes: list[str]  # of a cell
    unbiased: Protocol  # holdout where there is one, else loso
    rhos: int  # how many of them SAM could choose from
    fixed_rho: float
    notes: list[str]


def gaps(table: Table, fixed_rho: float | None = None) -> Gaps:
    """All gaps of a table.

    Args:
        table: runs of both arms.
        fixed_rho: radius of the "fixed" gap, the same in all cells; None takes the median of those swept.

    Raises:
        SettingError: an arm is missing, or `fixed_rho` was not swept.
    """
    rhos = sorted(table.runs[RHO][table.runs[RHO] > 0].unique())
    if not rhos or not (table.runs[RHO] == 0).any():
        raise SettingError("A gap wants both arms: sweep ascent.rho over 0 and at least one other value.")
    if fixed_rho is None:
        fixed_rho = rhos[len(rhos) // 2]
    if fixed_rho not in rhos:
        raise SettingError(f"draw.fixed_rho={fixed_rho:g} is not among the swept ascent.rho {rhos}.")
    # All runs, not only one cell, must have a holdout: the table has refused a holdout that varies.
    unbiased: Protocol = "holdout" if table.runs["holdout_acc_final"].notna().any() else "loso"
    rows: list[dict[str, Any]] = []
    by_seed: list[dict[str, Any]] = []
    notes: list[str] = []
    for cell, sam, sgd in _cells(table):
        chosen = _complete(cell, sam, sgd, _asked(table, cell, sam), notes)
        if chosen is None:
            continue
        sgd_acc, sam_acc, holdout = chosen
        row: dict[str, Any] = dict(cell) | {
            "params_total": int(sgd["params_total"].iloc[0]),
            "params_live": int(sgd["params_live"].iloc[0]),
            "n": len(sgd_acc),
            "sgd_acc": sgd_acc.mean(),
            "sgd_std": _std(sgd_acc.to_numpy()),
        }
        protocols: tuple[Protocol, ...] = ("paper", "holdout", "loso", "fixed")
        for protocol in protocols:
            pick = _rhos(protocol, sam_acc, holdout, fixed_rho)
            if pick is None:
                continue
            accuracies = np.array([sam_acc.loc[pick[seed], seed] for seed in sgd_acc.index])
            differences = accuracies - sgd_acc.to_numpy()
            row |= _summary(protocol, differences)
            row[f"{protocol}_rho"] = _common(list(pick.values()))
            if protocol == "paper":
                row |= {"sam_acc": accuracies.mean(), "sam_std": _std(accuracies)}
            for seed, difference in zip(sgd_acc.index, differences, strict=True):
                by_seed.append(dict(cell) | {"protocol": protocol, "seed": seed, "rho": pick[seed], "gap": difference})
        rows.append(row | _context(sam, sgd))
    if not rows:
        raise SettingError("No cell has both arms for one seed yet: let the sweep go on, or see samgap.status.")
    axes = table.cell_axes
    order = [*(axis for axis in axes if axis != "model.width"), "params_total", "params_live"]
    cells = pd.DataFrame(rows).sort_values(order).reset_index(drop=True)
    return Gaps(cells, pd.DataFrame(by_seed), axes, unbiased, len(rhos), float(fixed_rho), notes)


def _cells(table: Table) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    # A swept setting of the ascent belongs to SAM alone: each of its values is compared with the same SGD runs.
    shared = [axis for axis in table.cell_axes if not axis.startswith("ascent.")]
    sam, sgd = table.runs[table.runs[RHO] > 0], table.runs[table.runs[RHO] == 0]
    cells = []
    for values, part in _groups(sam, table.cell_axes):
        cell = dict(zip(table.cell_axes, values, strict=True))
        match = sgd
        for axis in shared:
            match = match[match[axis] == cell[axis]]
        if len(match):
            cells.append((cell, part, match))
    return cells


def _asked(table: Table, cell: dict[str, Any], sam: pd.DataFrame) -> set[float]:
    """The rhos that the sweep asked for in this cell; cells may differ in them."""
    if RHO not in table.sweep.axes:
        return set(sam[RHO])
    members = (member.axes for member in table.sweep.members)
    return {float(axes[RHO]) for axes in members if axes[RHO] and all(axes[a] == v for a, v in cell.items())}


def _groups(frame: pd.DataFrame, axes: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    if not axes:
        return [((), frame)]
    return [(values, part) for values, part in frame.groupby(axes, sort=False, dropna=False)]


def _complete(
    cell: dict[str, Any], sam: pd.DataFrame, sgd: pd.DataFrame, rhos: set[float], notes: list[str]
) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame | None] | None:
    """(SGD accuracy by seed, SAM accuracy and holdout accuracy by rho and seed), in percent, without holes.

    A seed that lacks a run would be compared under fewer rhos than the others, so it waits. A rho at which a run
    diverged has no mean and cannot be chosen; a diverged SGD run takes its seed out.
    """
    name = words(cell) or "the one cell"
    have = sam.groupby(SEED)[RHO].nunique()
    seeds = [seed for seed in sorted(sgd[SEED].unique()) if have.get(seed, 0) == len(rhos)]
    waiting = sorted((set(sam[SEED]) | set(sgd[SEED])) - set(seeds))
    if waiting:
        notes.append(f"{name}: seed {_list(waiting)} left out, runs are missing")
    dead = sorted(sgd[SEED][sgd["status"] == "diverged"])
    if dead:
        notes.append(f"{name}: seed {_list(dead)} left out, SGD diverged")
    seeds = [seed for seed in seeds if seed not in dead]
    sam = sam[sam[SEED].isin(seeds)]
    wild = sorted(sam[RHO][sam["status"] == "diverged"].unique())
    if wild:
        notes.append(f"{name}: rho {_list(wild)} cannot be chosen, SAM diverged")
    sam = sam[~sam[RHO].isin(wild)]
    if not seeds or sam.empty:
        return None
    sgd_acc = 100 * sgd.set_index(SEED)["test_acc_final"].astype(float).loc[seeds]
    sam_acc = 100 * sam.pivot(index=RHO, columns=SEED, values="test_acc_final").astype(float)
    if sam["holdout_acc_final"].notna().all():
        return sgd_acc, sam_acc, 100 * sam.pivot(index=RHO, columns=SEED, values="holdout_acc_final").astype(float)
    return sgd_acc, sam_acc, None


def _rhos(
    protocol: Protocol, sam_acc: pd.DataFrame, holdout: pd.DataFrame | None, fixed_rho: float
) -> dict[Any, float] | None:
    """The rho that stands for SAM in each seed; of equal ones the smallest. None where the rule cannot be applied."""
    seeds = list(sam_acc.columns)
    if protocol == "fixed":
        return dict.fromkeys(seeds, fixed_rho) if fixed_rho in sam_acc.index else None
    if protocol == "loso":
        if len(seeds) < 2:
            return None
        return {seed: _best(sam_acc.drop(columns=seed)) for seed in seeds}
    judge = holdout if protocol == "holdout" else sam_acc
    return dict.fromkeys(seeds, _best(judge)) if judge is not None else None


def _best(accuracies: pd.DataFrame) -> float:
    # Rounded, so that two means that differ in the last bit are equal and the smaller rho wins on every machine.
    means = accuracies.mean(axis=1).round(9)
    return float(means.index[int(means.argmax())])


def _summary(protocol: str, differences: np.ndarray) -> dict[str, float]:
    """Mean gap over seeds, its standard error, and the 95 % interval by Student's t; nan where one seed gives none."""
    n, mean = len(differences), float(differences.mean())
    error = _std(differences) / math.sqrt(n)
    reach = float(stats.t.ppf(0.975, n - 1)) * error if n > 1 else math.nan
    return {
        f"{protocol}_gap": mean,
        f"{protocol}_se": error,
        f"{protocol}_low": mean - reach,
        f"{protocol}_high": mean + reach,
    }


def _context(sam: pd.DataFrame, sgd: pd.DataFrame) -> dict[str, Any]:
    train = float(sgd["train_acc_final"].mean())
    return {
        "sgd_train_acc": 100 * train,
        "sam_train_acc": 100 * float(sam["train_acc_final"].mean()),
        "interpolates": bool(train >= INTERPOLATES),
        "sgd_seconds": float(sgd["seconds"].mean()),
        "sam_seconds": float(sam["seconds"].mean()),
        "diverged": int((sam["status"] == "diverged").sum() + (sgd["status"] == "diverged").sum()),
    }


def _common(values: list[float]) -> float:
    """The value chosen most often, of equals the smallest."""
    return min(set(values), key=lambda value: (-values.count(value), value))


def _std(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _list(values: list[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
