"""The gap figure (poster figures 7 to 9, and any study of one's own): gap over size, and the accuracies behind it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap import style
from samgap.figures import output
from samgap.figures.gap.series import mixed, published_for, series
from samgap.figures.gap.study import Study
from samgap.figures.table import short, words
from samgap.style import Look

RULES = {
    "paper": "ρ* best on the test set (as in the paper)",
    "holdout": "ρ* chosen on held-out images of the other seeds",
    "loso": "ρ* chosen on the other seeds",
}
AXES = {
    "params_total": "parameters, biases and batch norm included",
    "params_live": "live parameters, biases and batch norm included",
}


def draw(study: Study, settings: Mapping[str, Any]) -> Figure:
    """Two panels: the gap with its standard error and the published curve; the accuracies of both arms.

    Args:
        study: gaps and published numbers.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained")
    groups = series(study.gaps, study.x, study.over)
    for number, ((named, cells), look) in enumerate(zip(groups, style.looks(len(groups)), strict=True)):
        prefix = label(named)
        _gap(left, study, prefix, cells.sort_values(study.x), look, notes_below=number % 2 == 1)
        _accuracies(right, study, prefix, cells.sort_values(study.x), look, alone=len(groups) == 1)
        told = mixed(study.gaps, named, study.x)
        if study.published is not None and len(theirs := published_for(study.published, told, study.x)):
            marker = "x" if len(groups) == 1 else look.marker
            _published(left, right, theirs, prefix, settings["published_data"], marker)
    style.gap_axis(left)
    left.set(title="what SAM gains")
    right.set(ylabel="test accuracy (%)", title="both arms")
    for axes in (left, right):
        axes.margins(x=0.08, y=0.12)
        horizontal(axes, study)
    style.legends(figure, (left, 1), (right, 2 if len(groups) == 1 else 1))
    figure.suptitle(f"{settings['title']}\n{where(study)}", fontweight="bold")
    return figure


def label(named: Mapping[str, Any]) -> str:
    """What the legend calls a series before it says more of it: "snip: ", "label_noise=0.5: "."""
    parts = [value if axis.endswith(".name") else words({short(axis): value}) for axis, value in named.items()]
    return ", ".join(parts) + ": " * bool(parts)


def where(study: Study) -> str:
    """Data set, number of seeds, scale, and whether anything is missing, for the title."""
    return output.where(study.table, {int(n) for n in study.gaps.cells["n"]})


def horizontal(axes: Axes, study: Study) -> None:
    """The horizontal axis; one of sparsity shows the parameters of its nets too."""
    cells = study.gaps.cells
    if study.x.startswith("params"):
        style.parameter_axis(axes, AXES[study.x])
    elif study.x == "pruner.sparsity" and cells.groupby(study.x)["params_total"].nunique().max() == 1:
        totals = cells.groupby(study.x)["params_total"].first()
        axes.set_xticks(totals.index, [f"{sparsity:.3g}\n{style.short(total)}" for sparsity, total in totals.items()])
        live = " to ".join(
            style.short(count) for count in sorted({cells["params_live"].min(), cells["params_live"].max()})
        )
        axes.set_xlabel(
            f"sparsity: share of kernel weights removed; parameters before it\n({live} live, biases and batch norm "
            "included)"
        )
    else:
        axes.set_xlabel(study.x)


def _gap(axes: Axes, study: Study, prefix: str, cells: pd.DataFrame, look: Look, *, notes_below: bool) -> None:
    x, drawn, unbiased = cells[study.x].to_numpy(), study.protocol, study.gaps.unbiased
    gap, error = cells[f"{drawn}_gap"].to_numpy(), np.nan_to_num(cells[f"{drawn}_se"].to_numpy())
    axes.fill_between(x, gap - error, gap + error, color=look.color, alpha=0.2, linewidth=0)
    axes.plot(x, gap, marker=look.marker, color=look.color, zorder=3, label=f"{prefix}ours ± s.e., {RULES[drawn]}")
    ends = gap - error if notes_below else gap + error
    for place, end, rho in zip(x, ends, cells[f"{drawn}_rho"], strict=True):
        style.note(axes, f"ρ*={rho:g}", place, end, below=notes_below)
    if unbiased != drawn and f"{unbiased}_gap" in cells:
        middle = cells[f"{unbiased}_gap"].to_numpy()
        reach = np.nan_to_num(cells[f"{unbiased}_high"].to_numpy() - middle)
        text = f"{prefix}ours with 95 % interval, {RULES[unbiased]}"
        axes.errorbar(
            x, middle, reach, color=look.color, marker=look.marker, markerfacecolor="white", linestyle=":",
            linewidth=1.1, capsize=3, zorder=2, label=text,
        )  # fmt: skip


def _accuracies(axes: Axes, study: Study, prefix: str, cells: pd.DataFrame, look: Look, *, alone: bool) -> None:
    x = cells[study.x].to_numpy()
    # One series has room for a color an arm; several keep theirs and tell the arms apart by dash and filling.
    sgd = style.SGD if alone else Look(look.color, look.marker)
    arms = (
        ("sgd", f"SGD ({interpolates(cells, study.x)})", sgd, "--", "white"),
        (study.protocol, "SAM", look, "-", look.color),
    )
    for key, arm, mine, dashes, face in arms:
        acc, std = cells[f"{key}_acc"].to_numpy(), np.nan_to_num(cells[f"{key}_std"].to_numpy())
        axes.fill_between(x, acc - std, acc + std, color=mine.color, alpha=0.15, linewidth=0)
        text = f"{prefix}{arm}, ours ± s.d."
        axes.plot(x, acc, dashes, marker=mine.marker, color=mine.color, markerfacecolor=face, label=text)


def interpolates(cells: pd.DataFrame, x: str) -> str:
    """Which of a series' nets fit their training images, in words."""
    yes = cells["interpolates"].to_numpy()
    if yes.all():
        return "all interpolate"
    if not yes.any():
        return "none interpolates"
    places = [style.short(place) if x.startswith("params") else f"{place:.3g}" for place in cells[x]]
    first = int(yes.argmax())
    if yes[first:].all():
        return f"interpolates from {places[first]}"
    return "interpolates at " + ", ".join(place for place, fits in zip(places, yes, strict=True) if fits)


def _published(left: Axes, right: Axes, published: pd.DataFrame, prefix: str, data: str, marker: str) -> None:
    x, gap, gray = published["x"], published["gap"], style.PUBLISHED
    band = ""
    if "gap_band" in published:
        left.fill_between(
            x, gap - published["gap_band"], gap + published["gap_band"], color=gray, alpha=0.25, linewidth=0
        )
        band = ", band as drawn in the paper"
    left.plot(x, gap, "-.", marker=marker, color=gray, label=f"{prefix}published on {data}{band}")
    for key, arm, dashes in (("sgd", "SGD", ":"), ("sam", "SAM", "-.")):
        acc = published[f"{key}_acc"]
        if f"{key}_std" in published:
            std = published[f"{key}_std"]
            right.fill_between(x, acc - std, acc + std, color=gray, alpha=0.2, linewidth=0)
        right.plot(x, acc, dashes, marker=marker, color=gray, label=f"{prefix}{arm}, published on {data}")
