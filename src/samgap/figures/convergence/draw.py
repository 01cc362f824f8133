"""The figure of convergence (poster figures 1 to 3): training loss over epochs, the axis of the loss logarithmic."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap import style
from samgap.figures import output
from samgap.figures.convergence.curves import RULES, WARM_UP
from samgap.figures.convergence.study import Convergence
from samgap.figures.table import short, words
from samgap.runs.sweeps import RHO, SEED


def draw(study: Convergence, settings: Mapping[str, Any]) -> Figure:
    """A panel a rule of the step; a curve a cell, with the line that its rate is the slope of.

    Args:
        study: curves, fits and published numbers.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    rules = list(study.cells.groupby(["rule", RHO], sort=False))
    figure, panels = plt.subplots(1, len(rules), sharey=True, squeeze=False, layout="constrained")
    for axes, (_, cells) in zip(panels[0], rules, strict=True):
        rule, rho = str(cells["rule"].iloc[0]), float(cells[RHO].iloc[0])
        for (_, cell), look in zip(cells.iterrows(), style.looks(len(cells)), strict=True):
            _curve(axes, study, cell, look)
        if study.published is not None and rule == "sam":
            _published(axes, study.published, settings["published_data"])
        axes.set(yscale="log", xlabel="epoch", title=RULES.get(rule, rule) + (f", ρ = {rho:g}" if rho else ""))
        # Below the label of the axis, at a distance that does not depend on the panel's height.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5)
    rows = max(len(axes.get_legend_handles_labels()[0]) for axes in panels[0])
    figure.set_size_inches(1.5 + 4.6 * len(rules), 4 + 0.19 * rows)
    panels[0, 0].set_ylabel("training loss of the epoch")
    figure.suptitle(f"{settings['title']}\n{output.where(study.table, {*study.cells['n']})}", fontweight="bold")
    return figure


def _curve(axes: Axes, study: Convergence, cell: pd.Series, look: style.Look) -> None:
    """Mean over seeds on the logarithmic axis, the standard error as a band, and the fitted line."""
    mine = study.curves
    for key in study.keys:
        mine = mine[mine[key] == cell[key]]
    logs = mine.pivot(index="epoch", columns=SEED, values="loss").map(np.log)
    epochs, middle = logs.index.to_numpy(), logs.mean(axis=1).to_numpy()
    error = np.nan_to_num(logs.sem(axis=1).to_numpy())
    named = words({short(axis): cell[axis] for axis in study.keys[2:-1]}) or style.short(cell["params_total"])
    text = f"{named} ({style.short(cell['params_total'])}{', interpolates' if cell['interpolates'] else ''})"
    axes.fill_between(epochs, np.exp(middle - error), np.exp(middle + error), color=look.color, alpha=0.2, linewidth=0)
    every = max(1, len(epochs) // 10)
    axes.plot(epochs, np.exp(middle), color=look.color, marker=look.marker, markevery=every, markersize=4, label=text)
    late = epochs > WARM_UP * epochs.max()
    line = middle[late].mean() - cell["rate"] * (epochs[late] - epochs[late].mean())
    label = f"{'falls' if cell['rate'] >= 0 else 'rises'} by {abs(1 - np.exp(-cell['rate'])):.2%} an epoch"
    axes.plot(epochs[late], np.exp(line), ":", color=look.color, linewidth=2.4, alpha=0.8, label=label)


def _published(axes: Axes, published: pd.DataFrame, data: str) -> None:
    for (width, curve), look in zip(published.groupby("width"), style.looks(6), strict=False):
        text = f"width={width:g}, published on {data}"
        axes.plot(
            curve["epoch"], curve["loss"], "-.", color=style.PUBLISHED, marker=look.marker, markersize=4, label=text
        )
