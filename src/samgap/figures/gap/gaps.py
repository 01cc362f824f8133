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

from samgap.errors import SettingError
from samgap.figures.gap import null, parabola
from samgap.figures.significance import INTERPOLATES
from samgap.figures.table import Table, cell_label
from samgap.runs.sweeps import FINISHED, REPLICATE, RHO, SEED

Protocol = Literal["paper", "holdout", "loso", "quadratic", "fixed"]
LOST = ("diverged", "collapsed")
PROTOCOLS: tuple[Protocol, ...] = ("paper", "holdout", "loso", "quadratic", "fixed")
UNBIASED: tuple[Protocol, ...] = ("holdout", "loso", "quadratic")


@dataclass(frozen=True)
class Gaps:
    """The gaps of a sweep.

    `cells` has a row a cell: the cell's axes, params_total, params_live, then, in percent and percentage points, the
    accuracy of SGD and for each protocol p the columns p_acc, p_std (of SAM), p_gap, p_se, p_low, p_high, p_rho, unless
    no cell allows p. `by_seed` has a row a cell, protocol and seed. `best` has one a cell and seed: the rho that was
    best in that seed's own runs, on held-out images where there are any. `gains` has one a cell and rho: gap and its
    standard error, whether this rho is the paper's, and of how many seeds alone it is the best. `notes` says what was
    left out of all four.
    """

    cells: pd.DataFrame
    by_seed: pd.DataFrame
    best: pd.DataFrame
    gains: pd.DataFrame
    axes: list[str]  # of a cell
    unbiased: Protocol  # that of the verdict: unless told, holdout where there is one, else loso
    rhos: int  # how many of them SAM could choose from
    fixed_rho: float
    notes: list[str]
    equal_parameters: bool  # every width has a sparsity of its own (pruner.live_params)
    sgd_runs: float = 1  # of a seed, for each run of SAM
    swept: tuple[float, ...] = ()  # the rhos
    effect: float | None = None  # the smallest slope of interest, where one was registered

    @property
    def choice(self) -> null.Rhos:
        """The rhos from which the unbiased protocol chooses."""
        return self.choices(self.unbiased)

    def choices(self, protocol: str) -> null.Rhos:
        """The rhos from which a protocol chooses."""
        return 1 if protocol == "fixed" else self.swept if protocol == "quadratic" else self.rhos


@dataclass(frozen=True)
class _Cell:
    """The whole seeds of one cell; accuracies in percent, SAM's by rho (rows) and seed (columns)."""

    axes: dict[str, Any]
    sgd: pd.DataFrame  # a row a seed and replicate
    sam: pd.DataFrame  # a row a seed, rho and replicate
    sgd_acc: pd.Series
    sam_acc: pd.DataFrame
    holdout_acc: pd.DataFrame | None
    lost: int  # SAM runs that diverged or collapsed, at all rhos
    tried: int  # all of them


def gaps(table: Table, fixed_rho: float | None = None, rule: Protocol | None = None) -> Gaps:
    """All gaps of a table.

    Args:
        table: runs of both arms.
        fixed_rho: radius of the "fixed" gap, the same in all cells; None takes the median of those swept. Where it was
            not swept, there is no such gap.
        rule: of `UNBIASED`, the one of the verdict; None takes holdout where there is one, else loso.

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
        raise SettingError("A gap wants both arms: sweep ascent.rho over 0 and at least one other value.")
    if fixed_rho is None:
        fixed_rho = rhos[len(rhos) // 2]
    notes: list[str] = []
    cell_axes = [axis for axis in table.cell_axes if axis != REPLICATE]
    every = arms(table.runs, cell_axes)
    cells = [cell for axes, sam, sgd in every if (cell := _whole(axes, sam, sgd, notes)) is not None]
    if not cells:
        raise SettingError(f"No cell can be compared ({'; '.join(notes)}): see python -m samgap.status.")
    sgd_of_seed, sam_of_seed = (
        table.runs[REPLICATE][arm].nunique() for arm in (table.runs[RHO] == 0, table.runs[RHO] > 0)
    )
    sgd_runs = sgd_of_seed / sam_of_seed
    rows: list[dict[str, Any]] = []
    by_seed: list[dict[str, Any]] = []
    best: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    for cell in cells:
        row = _context(cell)
        for protocol in PROTOCOLS:
            chosen = _chosen(protocol, cell, fixed_rho)
            if chosen is None:
                continue
            rhos_of_seeds, accuracies = chosen
            differences = accuracies - cell.sgd_acc.to_numpy()
            row |= _summary(protocol, accuracies, differences, _rhos(protocol, cell), sgd_runs)
            row[f"{protocol}_rho"] = (
                float(np.median(rhos_of_seeds)) if protocol == "quadratic" else _common(rhos_of_seeds)
            )
            for seed, rho, difference in zip(cell.sam_acc, rhos_of_seeds, differences, strict=True):
                by_seed.append(cell.axes | {"protocol": protocol, "seed": seed, "rho": rho, "gap": difference})
        rows.append(row)
        own = cell.sam_acc if cell.holdout_acc is None else cell.holdout_acc
        bests = {seed: _best(own[[seed]]) for seed in own}
        best += [cell.axes | {"seed": seed, "rho": rho} for seed, rho in bests.items()]
        sizes = {size: row[size] for size in ("params_total", "params_live")}
        for rho_, each in zip(cell.sam_acc.index, cell.sam_acc.to_numpy() - cell.sgd_acc.to_numpy(), strict=True):
            gain = {"rho": float(rho_), "n": len(each), "gain": each.mean(), "se": _std(each) / math.sqrt(len(each))}
            gain |= {"best": rho_ == row["paper_rho"], "best_of": [*bests.values()].count(rho_)}
            gains.append(cell.axes | sizes | gain)
    unbiased = rule or ("holdout" if all(cell.holdout_acc is not None for cell in cells) else "loso")
    order = [*(axis for axis in cell_axes if axis != "model.width"), "params_total", "params_live"]
    frame = pd.DataFrame(rows).sort_values(order, key=_sortable).reset_index(drop=True)
    if fixed_rho not in rhos:
        notes.append(f"no gap at the fixed rho = {fixed_rho:g} (draw.fixed_rho), which was not swept")
    if f"{unbiased}_gap" not in frame:
        need = {"quadratic": f" and {parabola.LEAST} radii", "holdout": " and data.holdout above 0"}.get(unbiased, "")
        notes.append(f"no unbiased gap, no interval and no verdict, which want two seeds{need if rule else ''}")
    seeds, own_best, gained = map(pd.DataFrame, (by_seed, best, gains))
    # Of all that was asked for, so that a study does not change its lines while it fills up.
    equal = have_equal_parameters(table.runs, cell_axes)
    return Gaps(
        frame, seeds, own_best, gained, cell_axes, unbiased, len(rhos), float(fixed_rho), notes, equal, sgd_runs,
        tuple(rhos),
    )  # fmt: skip


def have_equal_parameters(rows: pd.DataFrame, axes: list[str]) -> bool:
    """Whether every width has a sparsity of its own."""
    if not {"model.width", "pruner.sparsity"} <= {*axes} or rows["pruner.sparsity"].nunique() == 1:
        return False
    others = [axis for axis in axes if axis != "pruner.sparsity"]
    return bool(rows.groupby(others)["pruner.sparsity"].nunique().max() == 1)


def arms(runs: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """(cell, SAM runs, SGD runs) of each cell that was asked for, finished or not.

    A swept setting of the ascent belongs to SAM alone: each of its values is compared with the same SGD runs.
    """
    shared = [axis for axis in axes if not axis.startswith("ascent.")]
    sam, sgd = runs[runs[RHO] > 0], runs[runs[RHO] == 0]
    found = []
    for values, part in sam.groupby(axes, sort=False) if axes else [((), sam)]:
        cell = dict(zip(axes, values, strict=True))
        match = sgd
        for axis in shared:
            match = match[match[axis] == cell[axis]]
        found.append((cell, part.drop_duplicates([RHO, SEED, REPLICATE]), match.drop_duplicates([SEED, REPLICATE])))
    return found


def _whole(axes: dict[str, Any], sam: pd.DataFrame, sgd: pd.DataFrame, notes: list[str]) -> _Cell | None:
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
    return _Cell(axes, sgd, sam, sgd_acc, by_rho("scored_acc_final"), holdout, lost, tried)


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


def _chosen(protocol: Protocol, cell: _Cell, fixed_rho: float) -> tuple[list[float], np.ndarray] | None:
    """The rho that stands for SAM in each seed, of equal ones the smallest, and the accuracy there. None where the rule
    cannot be applied.
    """
    sam, seeds = cell.sam_acc, [*cell.sam_acc]
    if protocol == "fixed":
        rhos = [fixed_rho] * len(seeds)
    elif protocol == "paper":
        rhos = [_best(sam)] * len(seeds)
    elif len(seeds) < 2 or (protocol == "holdout" and cell.holdout_acc is None):
        return None
    elif protocol == "quadratic":
        if len(sam) < parabola.LEAST:
            return None
        places, accuracies = parabola.left_out([*sam.index], sam.to_numpy().T)
        return np.exp(places).tolist(), accuracies
    else:
        judge = sam if cell.holdout_acc is None or protocol == "loso" else cell.holdout_acc
        rhos = [_best(judge.drop(columns=seed)) for seed in seeds]
    if not {*rhos} <= {*sam.index}:
        return None
    return rhos, np.array([sam.loc[rho, seed] for rho, seed in zip(rhos, seeds, strict=True)])


def _rhos(protocol: Protocol, cell: _Cell) -> null.Rhos:
    return tuple(map(float, cell.sam_acc.index)) if protocol == "quadratic" else len(cell.sam_acc)


def _best(accuracies: pd.DataFrame) -> float:
    # Rounded, so that two means that differ in the last bit are equal and the smaller rho wins on every machine.
    means = accuracies.to_numpy().mean(axis=1).round(9)
    return float(accuracies.index[int(means.argmax())])


def _summary(
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
    error = _std(differences) / math.sqrt(n)
    half_width = math.nan
    if n > 1:
        independent = protocol in ("paper", "fixed")
        student = float(special.stdtrit(n - 1, 0.975))
        half_width = error * (student if independent else null.gap_half_width(n, rhos, sgd_runs))
    return {
        f"{protocol}_acc": float(accuracies.mean()),
        f"{protocol}_std": _std(accuracies),
        f"{protocol}_gap": mean,
        f"{protocol}_se": error,
        f"{protocol}_low": mean - half_width,
        f"{protocol}_high": mean + half_width,
    }


def _context(cell: _Cell) -> dict[str, Any]:
    """What else a cell's row says, of the same runs: SAM's training accuracy is that of the paper's rho."""
    train = float(cell.sgd["train_acc_final"].mean())
    best = cell.sam[cell.sam[RHO] == _best(cell.sam_acc)]
    return cell.axes | {
        "params_total": int(cell.sgd["params_total"].iloc[0]),
        "params_live": int(cell.sgd["params_live"].iloc[0]),
        "n": len(cell.sgd_acc),
        "sgd_acc": float(cell.sgd_acc.mean()),
        "sgd_std": _std(cell.sgd_acc.to_numpy()),
        "sgd_train_acc": 100 * train,
        "sam_train_acc": 100 * float(best["train_acc_final"].mean()),
        "interpolates": bool(train >= INTERPOLATES),
        "sam_lost": cell.lost,
        "sam_runs": cell.tried,
        "sgd_seconds": float(cell.sgd["seconds"].mean()),
        "sam_seconds": float(best["seconds"].mean()),
    }


def _sortable(column: pd.Series) -> pd.Series:
    return column if pd.api.types.is_numeric_dtype(column) else column.astype(str)


def _common(values: list[float]) -> float:
    """The value chosen most often, of equals the smallest."""
    return min(set(values), key=lambda value: (-values.count(value), value))


def _std(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _list(values: set[Any]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))
