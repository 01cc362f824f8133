"""The gap figure (poster figures 7 to 9, and any study of one's own): gap over size, and the accuracies behind it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap.plots import style
from samgap.results.study import Study
from samgap.results.verdict import series

RULES = {
    "paper": "rho* best on the test set, as in the paper",
    "holdout": "rho* chosen on held-out images",
    "loso": "rho* chosen on the other seeds",
}
AXES = {
    "params_total": "parameters (all, with biases and batch norm)",
    "params_live": "live parameters (without pruned weights; biases and batch norm count)",
}


def draw(study: Study, settings: Mapping[str, Any]) -> Figure:
    """Two panels: the gap with its standard error and the published curve; accuracies of both arms.

    Args:
        study: gaps and published numbers.
        settings: the `draw` group; `title` is used.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    groups = series(study.gaps, study.x)
    for (name, cells), (color, marker) in zip(groups, _looks(len(groups)), strict=True):
        _gap(left, study, name, cells, color, marker)
        _accuracies(right, study, name, cells, color, marker)
    if study.published is not None and study.x.startswith("params"):
        _published(left, right, study.published)
    left.axhline(0, color="#606060", linewidth=0.8)
    left.set_ylabel("SAM minus SGD (percentage points)")
    left.set_title("accuracy that SAM gains")
    right.set_ylabel("test accuracy (%)")
    right.set_title("accuracy of each arm")
    for axes in (left, right):
        if study.x.startswith("params"):
            style.parameter_axis(axes, AXES[study.x])
        else:
            axes.set_xlabel(study.x)
        axes.legend()
    seeds = sorted({int(n) for n in study.gaps.cells["n"]})
    count = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    scale = "smoke scale, no evidence" if study.sweep.scale == "smoke" else f"{study.sweep.scale} scale"
    figure.suptitle(f"{settings['title']} — {study.data}, {scale}, {count}", fontweight="bold")
    return figure


def _gap(axes: Axes, study: Study, name: str, cells: pd.DataFrame, color: str, marker: str) -> None:
    x, prefix = cells[study.x].to_numpy(), f"{name}: " if name else ""
    drawn, unbiased = study.protocol, study.gaps.unbiased
    gap, error = cells[f"{drawn}_gap"].to_numpy(), cells[f"{drawn}_se"].to_numpy()
    axes.fill_between(x, gap - error, gap + error, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, gap, marker=marker, color=color, label=f"{prefix}ours ± s.e., {RULES[drawn]}")
    for position, value, rho in zip(x, gap, cells[f"{drawn}_rho"], strict=True):
        axes.annotate(f"ρ*={rho:g}", (position, value), (0, 8), textcoords="offset points", ha="center", fontsize=8)
    if unbiased != drawn and f"{unbiased}_gap" in cells:
        middle = cells[f"{unbiased}_gap"].to_numpy()
        reach = np.nan_to_num(cells[f"{unbiased}_high"].to_numpy() - middle)
        axes.errorbar(
            x, middle, reach, color=color, marker=marker, markerfacecolor="white", linestyle=":", linewidth=1.2, capsize=3,
            label=f"{prefix}ours, 95 % interval, {RULES[unbiased]}",
        )  # fmt: skip


def _accuracies(axes: Axes, study: Study, name: str, cells: pd.DataFrame, color: str, marker: str) -> None:
    x, prefix = cells[study.x].to_numpy(), f"{name}: " if name else ""
    arms = (("sgd", "SGD", "--", "white"), ("sam", "SAM", "-", color))
    for key, arm, dashes, face in arms:
        acc, std = cells[f"{key}_acc"].to_numpy(), np.nan_to_num(cells[f"{key}_std"].to_numpy())
        axes.fill_between(x, acc - std, acc + std, color=color, alpha=0.12, linewidth=0)
        axes.plot(x, acc, dashes, marker=marker, color=color, markerfacecolor=face, label=f"{prefix}{arm}, ours ± s.d.")


def _published(left: Axes, right: Axes, published: pd.DataFrame) -> None:
    x, gap, band = published["params"], published["gap"], published["gap_band"]
    left.fill_between(x, gap - band, gap + band, color=style.PUBLISHED, alpha=0.25, linewidth=0)
    left.plot(x, gap, "-.", marker="x", color=style.PUBLISHED, label="published (band as in the paper)")
    for key, arm, dashes in (("sgd", "SGD", ":"), ("sam", "SAM", "-.")):
        right.plot(x, published[f"{key}_acc"], dashes, marker="x", color=style.PUBLISHED, label=f"{arm}, published")


def _looks(count: int) -> list[tuple[str, str]]:
    return [style.SERIES[index % len(style.SERIES)] for index in range(count)]
