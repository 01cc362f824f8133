"""SAM minus SGD in every cell, in percentage points, with its uncertainty, by several rules for the choice of rho.

A gap compares the two arms of one cell and one seed. Replicates, which are several runs of an arm with one seed, are
averaged. The rules, called protocols, decide which rho represents SAM:

- paper: rho* has the best mean test accuracy over seeds, as in the paper. The same accuracy is reported. The maximum of
  noisy numbers is too high, so this gap is biased upward, most if the true gap is small.
- loso (leave one seed out): the gap of a seed uses the rho that is best on the other seeds.
- holdout: the same with the accuracy on held-out training images, so that the test set does not choose. Leaving the
  seed out is still necessary, since a run's accuracies on the holdout and on the test set are correlated.
- quadratic: a parabola in log rho goes through the accuracies of each seed. The gap of a seed is the value of its own
  parabola at the rho where the mean parabola of the other seeds is largest.
- fixed: one rho for all cells.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from samgap.figures.gap import null, parabola
from samgap.figures.significance import INTERPOLATES
from samgap.figures.table import cell_label, groups
from samgap.runs.sweeps import FINISHED, REPLICATE, RHO, SEED

Protocol = Literal["paper", "holdout", "loso", "quadratic", "fixed"]
LOST = ("diverged", "collapsed")
PROTOCOLS: tuple[Protocol, ...] = ("paper", "holdout", "loso", "quadratic", "fixed")
UNBIASED: tuple[Protocol, ...] = ("holdout", "loso", "quadratic")


@dataclass(frozen=True)
class Cell:
    """The complete seeds of one cell. Accuracies are in percent, those of SAM by rho (rows) and seed (columns)."""

    axes: dict[str, Any]
    sgd: pd.DataFrame  # one row per seed and replicate
    sam: pd.DataFrame  # one row per seed, rho and replicate
    sgd_acc: pd.Series
    sam_acc: pd.DataFrame
    holdout_acc: pd.DataFrame | None
    lost: int  # number of SAM runs that diverged or collapsed, at all rhos
    tried: int  # number of all SAM runs


def arms(runs: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Return (cell, SAM runs, SGD runs) of each requested cell, finished or not.

    A swept setting of the ascent belongs to SAM alone: each of its values is compared with the same SGD runs.
    """
    shared = [axis for axis in axes if not axis.startswith("ascent.")]
    sam, sgd = runs[runs[RHO] > 0], runs[runs[RHO] == 0]
    rows = []
    for cell, sam_runs in groups(sam, axes):
        match = sgd
        for axis in shared:
            match = match[match[axis] == cell[axis]]
        rows.append((cell, sam_runs.drop_duplicates([RHO, SEED, REPLICATE]), match.drop_duplicates([SEED, REPLICATE])))
    return rows


def complete(axes: dict[str, Any], sam: pd.DataFrame, sgd: pd.DataFrame, notes: list[str]) -> Cell | None:
    """Return the complete seeds and rhos of a cell, or None if there are none. Add a note for each exclusion.

    A seed that lacks a requested run is excluded until the run is done, since it would have fewer rhos than the others,
    and so is a rho that was requested for some seeds only. A rho is excluded if a run of SAM diverged or collapsed
    there, and a seed if its run of SGD diverged.
    """
    name = cell_label(axes) or "the one cell"
    runs = pd.concat([sam, sgd])
    unfinished = set(runs[SEED][~runs["status"].isin(FINISHED)]) | (set(sam[SEED]) ^ set(sgd[SEED]))
    if unfinished:
        notes.append(f"{name}: seed {_list(unfinished)} left out, runs are missing")
    if diverged := set(sgd[SEED][sgd["status"] == "diverged"]) - unfinished:
        notes.append(f"{name}: seed {_list(diverged)} left out, SGD diverged")
    sam, sgd = (arm[~arm[SEED].isin(unfinished | diverged)] for arm in (_mark_collapsed(sam, sgd), sgd))
    if partial := {rho for rho, runs in sam.groupby(RHO) if {*runs[SEED]} != {*sgd[SEED]}}:
        notes.append(f"{name}: rho {_list(partial)} left out, since not all seeds have it")
        sam = sam[~sam[RHO].isin(partial)]
    sgd, tried, lost = sgd.sort_values(SEED), len(sam), int(sam["status"].isin(LOST).sum())
    for state in LOST:
        if excluded := set(sam[RHO][sam["status"] == state]):
            notes.append(f"{name}: rho {_list(excluded)} cannot be chosen, SAM {state}")
            sam = sam[~sam[RHO].isin(excluded)]
    if sam.empty:
        notes.append(f"{name}: left out, no run of SAM can be compared")
        return None

    def by_rho(column: str) -> pd.DataFrame:
        return 100 * _means(sam, column, RHO, SEED).unstack()

    holdout = by_rho("holdout_acc_final") if sam["holdout_acc_final"].notna().all() else None
    sgd_acc = 100 * _means(sgd, "scored_acc_final", SEED)
    return Cell(axes, sgd, sam, sgd_acc, by_rho("scored_acc_final"), holdout, lost, tried)


def _means(runs: pd.DataFrame, column: str, *keys: str) -> pd.Series:
    """Return the mean over replicates of a column for each combination of keys."""
    return runs[column].astype(float).groupby([runs[key] for key in keys]).mean()


def _mark_collapsed(sam: pd.DataFrame, sgd: pd.DataFrame) -> pd.DataFrame:
    """Set the status of SAM's collapsed runs: their training accuracy is below half of SGD's with the same seed.

    Half refers to correctly labeled images, since SAM may not fit wrong labels. If SGD fits less than half of these,
    it has learned little itself, and no run counts as collapsed.
    """
    fitted = sam[SEED].map(_means(sgd, "train_acc_final", SEED))
    low = (sam["train_acc_final"].astype(float) < sam["rightly"] * fitted / 2) & (fitted >= sam["rightly"] / 2)
    return sam.assign(status=sam["status"].mask(low, "collapsed"))


def chosen(protocol: Protocol, cell: Cell, fixed_rho: float) -> tuple[list[float], np.ndarray] | None:
    """Return the rho of each seed by a protocol and the accuracies (seeds,) there; ties go to the smallest rho.

    Returns None if the protocol cannot be applied.
    """
    sam, seeds = cell.sam_acc, [*cell.sam_acc]
    if protocol == "fixed":
        rhos = [fixed_rho] * len(seeds)
    elif protocol == "paper":
        rhos = [best_of(sam)] * len(seeds)
    elif len(seeds) < 2 or (protocol == "holdout" and cell.holdout_acc is None):
        return None
    elif protocol == "quadratic":
        if len(sam) < parabola.LEAST:
            return None
        log_rhos, accuracies = parabola.left_out([*sam.index], sam.to_numpy().T)
        return np.exp(log_rhos).tolist(), accuracies
    else:
        criterion = sam if cell.holdout_acc is None or protocol == "loso" else cell.holdout_acc
        rhos = [best_of(criterion.drop(columns=seed)) for seed in seeds]
    if not {*rhos} <= {*sam.index}:
        return None
    return rhos, np.array([sam.loc[rho, seed] for rho, seed in zip(rhos, seeds, strict=True)])


def radii(protocol: Protocol, cell: Cell) -> null.Rhos:
    """Return the rhos from which a protocol chooses, or only their number if the protocol fits no parabola."""
    return tuple(map(float, cell.sam_acc.index)) if protocol == "quadratic" else len(cell.sam_acc)


def best_of(accuracies: pd.DataFrame) -> float:
    """Return the rho (row) with the best mean accuracy over seeds; ties go to the smallest rho."""
    # Rounded, so that two means that differ in the last bit are equal and the smaller rho wins on every machine.
    means = accuracies.to_numpy().mean(axis=1).round(9)
    return float(accuracies.index[int(means.argmax())])


def summary(
    protocol: Protocol, accuracies: np.ndarray, differences: np.ndarray, rhos: null.Rhos, sgd_runs: float
) -> dict[str, float]:
    """Return mean, standard error and 95 % interval of the gap over seeds; the latter two are nan with one seed.

    Args:
        protocol: how rho was chosen.
        accuracies, differences: (seeds,), of SAM, and of SAM minus SGD.
        rhos: see `null.Rhos`.
        sgd_runs: number of SGD runs for each SAM run.
    """
    n, mean = len(differences), float(differences.mean())
    error = std(differences) / math.sqrt(n)
    half_width = math.nan
    if n > 1:
        independent = protocol in ("paper", "fixed")
        student = float(special.stdtrit(n - 1, 0.975))
        half_width = error * (student if independent else null.gap_half_width(n, rhos, sgd_runs))
    return {
        f"{protocol}_acc": float(accuracies.mean()),
        f"{protocol}_std": std(accuracies),
        f"{protocol}_gap": mean,
        f"{protocol}_se": error,
        f"{protocol}_low": mean - half_width,
        f"{protocol}_high": mean + half_width,
    }


def context(cell: Cell) -> dict[str, Any]:
    """Return the columns of a cell's row that no protocol changes. SAM's training accuracy is at the paper's rho."""
    train = float(cell.sgd["train_acc_final"].mean())
    best = cell.sam[cell.sam[RHO] == best_of(cell.sam_acc)]
    return cell.axes | {
        "params_total": int(cell.sgd["params_total"].iloc[0]),
        "params_live": int(cell.sgd["params_live"].iloc[0]),
        "n": len(cell.sgd_acc),
        "sgd_acc": float(cell.sgd_acc.mean()),
        "sgd_std": std(cell.sgd_acc.to_numpy()),
        "sgd_train_acc": 100 * train,
        "sam_train_acc": 100 * float(best["train_acc_final"].mean()),
        "interpolates": bool(train >= INTERPOLATES),
        "sam_lost": cell.lost,
        "sam_runs": cell.tried,
        "sgd_seconds": float(cell.sgd["seconds"].mean()),
        "sam_seconds": float(best["seconds"].mean()),
    }


def common(values: list[float]) -> float:
    """Return the most frequent value; ties go to the smallest."""
    return min(set(values), key=lambda value: (-values.count(value), value))


def std(values: np.ndarray) -> float:
    """Return the standard deviation; nan for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _list(values: set[Any]) -> str:
    return ", ".join(f"{value:.12g}" for value in sorted(values))
