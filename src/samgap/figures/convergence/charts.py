"""Charts of the training loss over epochs, on a logarithmic axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from samgap import style
from samgap.figures.chart import DASHDOT, DOTTED, Axis, Chart, Line, points
from samgap.figures.convergence.curves import RULES, warmed_up
from samgap.figures.table import axis_label, cell_label
from samgap.runs.sweeps import RHO
from samgap.style import Look

POINTS = 200  # longer curves are thinned to about this number, to keep pages small


def convergence(frame: pd.DataFrame, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Chart]:
    """Return a chart for each rule and rho, with the curve and the fitted line of each cell. See `Kind.charts`."""
    keys = [str(key) for key in frame.columns[: frame.columns.get_loc("epoch")]]
    our_rows, published = frame[frame["who"] == "ours"], frame[frame["who"] == "published"]
    curves = [curve for _, curve in our_rows.groupby(keys, sort=False, dropna=False)]
    lines: dict[tuple[str, float], list[Line]] = {}
    for cell, curve in zip(facts["cells"], curves, strict=True):  # in the same order
        chart_lines = lines.setdefault((cell["rule"], cell[RHO]), [])
        chart_lines += _curve(cell, curve, keys, style.SERIES[len(chart_lines) // 2 % len(style.SERIES)])
    charts = []
    for (rule, rho), chart_lines in lines.items():
        for (width, curve), look in zip(
            published.groupby("model.width") if rule == "sam" else (), style.looks(6), strict=False
        ):
            text = f"width={width:g}, published ({settings['published_data']})"
            gray = Look(style.PUBLISHED, look.marker)
            chart_lines.append(Line(text, points(curve, "epoch", "loss"), gray, DASHDOT, 4))
        title = RULES.get(rule, rule) + (f", ρ = {rho:g}" if rho else "")
        y = Axis("training loss of the epoch ± s.e.", "training loss", "log")
        charts.append(Chart(title, Axis("epoch (dotted: the rate in the legend)", "epoch"), y, chart_lines))
    return charts


def _curve(cell: Mapping[str, Any], curve: pd.DataFrame, keys: list[str], look: Look) -> list[Line]:
    label = cell_label({axis_label(axis): cell[axis] for axis in keys[2:-1]}) or style.compact(cell["params_total"])
    fitted, rate = warmed_up(curve), cell["rate"]
    fits = ", fits all data" if cell["interpolates"] else ""
    text = f"{label} ({style.compact(cell['params_total'])}{fits}): {np.expm1(-rate):+.2%} an epoch"
    ends = fitted.iloc[[0, -1]][["epoch"]]
    ends["loss"] = np.exp(np.log(fitted["loss"]).mean() - rate * (ends["epoch"] - fitted["epoch"].mean()))
    thinned = curve[:: max(1, len(curve) // POINTS)]
    return [
        Line(text, points(thinned, "epoch", "loss", ends=("loss_low", "loss_high")), look, size=4, spread="± s.e."),
        Line(f"{text}, fitted", points(ends, "epoch", "loss"), Look(look.color, ""), DOTTED, legend=""),
    ]
