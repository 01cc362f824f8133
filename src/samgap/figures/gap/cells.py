"""SAM minus SGD in every cell, in percentage points, with its uncertainty, under several rules of choosing rho.

A gap pairs the two arms of one cell and one seed; replicates, several runs of an arm with one seed, are averaged. Which
rho stands for SAM matters as much as the runs:

- paper: rho* is the best by the very test accuracy that is reported, averaged over seeds, as the paper chose it. The
  maximum of noisy numbers is too high, so this gap is biased upward, most where the true gap is small.
- loso (leave one seed out): the gap of a seed uses the rho that was best on the other seeds.
- holdout: the same with accuracy on held-out training images, so that the test set only reports. A holdout alone would
  not do: a lucky run is lucky on both sets, so a rho chosen by a run's own holdout still favors its test accuracy.
- quadratic: the gap of a seed is read off a parabola in log rho through its own accuracies, where the parabola through
  those of the other seeds is largest.
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
    """The whole seeds of one cell; accuracies in percent, SAM's by rho (rows) and seed (columns)."""

    axes: dict[str, Any]
    sgd: pd.DataFrame  # a row a seed and replicate
    sam: pd.DataFrame  # a row a seed, rho and replicate
    sgd_acc: pd.Series
    sam_acc: pd.DataFrame
    holdout_acc: pd.DataFrame | None
    lost: int  # SAM runs that diverged or collapsed, at all rhos
    tried: int  # all of them


def arms(runs: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """(cell, SAM runs, SGD runs) of each requested cell, finished or not.

    A swept setting of the ascent belongs to SAM alone: each of its values is compared with the same SGD runs.
    """
    shared = [axis for axis in axes if not axis.startswith("ascent.")]
    sam, sgd = runs[runs[RHO] > 0], runs[runs[RHO] == 0]
    found = []
    for cell, part in groups(sam, axes):
        match = sgd
        for axis in shared:
            match = match[match[axis] == cell[axis]]
        found.append((cell, part.drop_duplicates([RHO, SEED, REPLICATE]), match.drop_duplicates([SEED, REPLICATE])))
    return found


def whole(axes: dict[str, Any], sam: pd.DataFrame, sgd: pd.DataFrame, notes: list[str]) -> Cell | None:
    """What can be compared in a cell without holes; None when that is nothing. What it leaves out, it notes.

    A seed that lacks a run would be compared under fewer rhos than the others, so it waits. A rho at which a run
    diverged has no mean and cannot be chosen, nor one at which it collapsed; a diverged SGD run takes its seed out.
    """
    name = cell_label(axes) or "the one cell"
    runs = pd.concat([sam, sgd])
    open_ = set(runs[SEED][~runs["status"].isin(FINISHED)]) | (set(sam[SEED]) ^ set(sgd[SEED]))
    if open_:
        notes.append(f"{name}: seed {_list(open_)} left out, runs are missing")
    if diverged := set(sgd[SEED][sgd["status"] == "diverged"]) - open_:
        notes.append(f"{name}: seed {_list(diverged)} left out, SGD diverged")
    sam, sgd = (arm[~arm[SEED].isin(open_ | diverged)] for arm in (_mark_collapsed(sam, sgd), sgd))
    sgd, tried, lost = sgd.sort_values(SEED), len(sam), int(sam["status"].isin(LOST).sum())
    for state in LOST:
        if excluded := set(sam[RHO][sam["status"] == state]):
            notes.append(f"{name}: rho {_list(excluded)} cannot be chosen, SAM {state}")
            sam = sam[~sam[RHO].isin(excluded)]
    if sam.empty:
        notes.append(f"{name}: left out, no seed has both arms")
        return None

    def by_rho(column: str) -> pd.DataFrame:
        return 100 * _means(sam, column, RHO, SEED).unstack()

    holdout = by_rho("holdout_acc_final") if sam["holdout_acc_final"].notna().all() else None
    sgd_acc = 100 * _means(sgd, "scored_acc_final", SEED)
    return Cell(axes, sgd, sam, sgd_acc, by_rho("scored_acc_final"), holdout, lost, tried)


def _means(runs: pd.DataFrame, column: str, *keys: str) -> pd.Series:
    """The mean over replicates."""
    means: pd.Series = runs[column].astype(float).groupby([runs[key] for key in keys]).mean()
    return means


def _mark_collapsed(sam: pd.DataFrame, sgd: pd.DataFrame) -> pd.DataFrame:
    """SAM's runs of a cell with the status "collapsed": with a training accuracy below half of what SGD of that seed
    has of the labels that are right, since SAM may well refuse to fit the wrong ones. Nothing collapses where SGD
    fits less than half of the right labels, so that little was learned at all.
    """
    fitted = sam[SEED].map(_means(sgd, "train_acc_final", SEED))
    low = (sam["train_acc_final"].astype(float) < sam["rightly"] * fitted / 2) & (fitted >= sam["rightly"] / 2)
    return sam.assign(status=sam["status"].mask(low, "collapsed"))


def chosen(protocol: Protocol, cell: Cell, fixed_rho: float) -> tuple[list[float], np.ndarray] | None:
    """The rho that stands for SAM in each seed, of equal ones the smallest, and the accuracy there. None where the rule
    cannot be applied.
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
        places, accuracies = parabola.left_out([*sam.index], sam.to_numpy().T)
        return np.exp(places).tolist(), accuracies
    else:
        judge = sam if cell.holdout_acc is None or protocol == "loso" else cell.holdout_acc
        rhos = [best_of(judge.drop(columns=seed)) for seed in seeds]
    if not {*rhos} <= {*sam.index}:
        return None
    return rhos, np.array([sam.loc[rho, seed] for rho, seed in zip(rhos, seeds, strict=True)])


def radii(protocol: Protocol, cell: Cell) -> null.Rhos:
    """The radii that a protocol chooses from: themselves, or their number where only it matters."""
    return tuple(map(float, cell.sam_acc.index)) if protocol == "quadratic" else len(cell.sam_acc)


def best_of(accuracies: pd.DataFrame) -> float:
    """The radius with the best mean accuracy, of equal ones the smallest."""
    # Rounded, so that two means that differ in the last bit are equal and the smaller rho wins on every machine.
    means = accuracies.to_numpy().mean(axis=1).round(9)
    return float(accuracies.index[int(means.argmax())])


def summary(
    protocol: Protocol, accuracies: np.ndarray, differences: np.ndarray, rhos: null.Rhos, sgd_runs: float
) -> dict[str, float]:
    """Mean over seeds, standard error and 95 % interval of the gap; nan where one seed gives none.

    Args:
        protocol: how rho was chosen.
        accuracies, differences: of the seeds.
        rhos: those to choose from.
        sgd_runs: for each one of SAM.
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
    """What else a cell's row says, of the same runs: SAM's training accuracy is that of the paper's rho."""
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
    """The value chosen most often, of equals the smallest."""
    return min(set(values), key=lambda value: (-values.count(value), value))


def std(values: np.ndarray) -> float:
    """Standard deviation; nan of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _list(values: set[Any]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))
