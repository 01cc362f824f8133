"""The figure of the best rho (UAI version, figures 8 and 9): what SAM gains over rho by size, and rho* over size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap import style
from samgap.figures.gap.draw import horizontal, label, where
from samgap.figures.gap.series import mixed, published_for, series
from samgap.figures.gap.study import Study
from samgap.figures.table import words
from samgap.runs.sweeps import RHO, SEED


def draw(study: Study, settings: Mapping[str, Any]) -> Figure:
    """Two panels: the gap over rho, a curve a cell with its best marked; the best rho over size.

    Args:
        study: gaps and published numbers.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained")
    _curves(left, study)
    groups = series(study.gaps, study.x, study.over)
    for (named, cells), look in zip(groups, style.looks(len(groups)), strict=True):
        prefix = label(named)
        _best(right, study, prefix, cells.sort_values(study.x), look)
        told = mixed(study.gaps, named, study.x)
        if study.published is not None and len(theirs := published_for(study.published, told, study.x)):
            text = f"{prefix}published on {settings['published_data']}"
            right.plot(theirs["x"], theirs["best_rho"], "-.", marker="x", color=style.PUBLISHED, label=text)
    style.gap_axis(left)
    left.set(xlabel="ρ", title="what each ρ gains, best marked")
    right.set(yscale="log", ylabel="best ρ", title="the best ρ")
    rhos = sorted({*study.table.runs[RHO]} - {0})
    right.set_yticks(rhos, [f"{rho:g}" for rho in rhos])
    right.minorticks_off()
    horizontal(right, study)
    style.legends(figure, (left, 3), (right, 1))
    figure.suptitle(f"{settings['title']}\n{where(study)}", fontweight="bold")
    return figure


def _curves(axes: Axes, study: Study) -> None:
    """A curve a cell over evenly spaced rhos, mean and standard error over seeds of what it gains over SGD; darker is
    larger. It has a gap where a cell lacks a rho.
    """
    runs = study.table.runs
    rhos = sorted({*runs[RHO]} - {0})
    cells = study.gaps.cells.sort_values(study.x)
    colors = plt.get_cmap("viridis_r")(np.linspace(0.15, 1, len(cells)))
    shared = [axis for axis in study.gaps.axes if not axis.startswith("ascent.")]  # as `gaps` pairs them
    for (_, cell), color in zip(cells.iterrows(), colors, strict=True):
        sam, sgd = _by_seed(runs, cell, study.gaps.axes), _by_seed(runs[runs[RHO] == 0], cell, shared)
        gains = (sam.reindex(rhos) - sgd.loc[0]).agg(["mean", "sem"], axis=1)
        text = ", ".join(filter(None, (style.short(cell[study.x]), words(_others(study, cell)))))
        axes.errorbar(range(len(rhos)), gains["mean"], gains["sem"], color=color, label=text, capsize=2)
        best = rhos.index(cell["paper_rho"])
        axes.plot(best, gains["mean"].iloc[best], "*", markersize=13, color=color)
    axes.set_xticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])


def _by_seed(runs: pd.DataFrame, cell: pd.Series, axes: list[str]) -> pd.DataFrame:
    """Test accuracies in percent by rho and seed, of the runs that agree with the cell in these axes."""
    for axis in axes:
        runs = runs[runs[axis] == cell[axis]]
    return 100 * runs.drop_duplicates([RHO, SEED]).pivot(index=RHO, columns=SEED, values="test_acc_final")


def _others(study: Study, cell: pd.Series) -> dict[str, Any]:
    return {axis: cell[axis] for axis in study.gaps.axes if axis != "model.width"}


def _best(axes: Axes, study: Study, prefix: str, cells: pd.DataFrame, look: style.Look) -> None:
    """Best rho of the mean over seeds, and of each seed alone."""
    x = cells[study.x].to_numpy()
    axes.plot(
        x, cells["paper_rho"], marker=look.marker, color=look.color, label=f"{prefix}ours, of the mean over seeds"
    )
    for place, (_, cell) in zip(x, cells.iterrows(), strict=True):
        mine = study.gaps.best
        for axis in study.gaps.axes:
            mine = mine[mine[axis] == cell[axis]]
        counts = mine["rho"].value_counts()
        axes.scatter([place] * len(counts), counts.index, s=18 * counts, color=look.color, alpha=0.25, linewidths=0)
    axes.scatter([], [], s=54, color=look.color, alpha=0.25, label=f"{prefix}ours, seeds alone; area is their number")
