"""What the figures of curves plot, from their csv."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.convergence.curves import RULES
from samgap.figures.plot import Plot, points_of
from samgap.figures.table import words
from samgap.runs.sweeps import RHO
from samgap.style import short as count

POINTS = 200  # of a curve, so that a page of many stays light


def convergence(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """Training loss over epochs, a chart a rule of the step."""
    plots = []
    cells = [*frame.columns[: frame.columns.get_loc("epoch")]]
    ours, theirs = frame[frame["who"] == "ours"], frame[frame["who"] == "published"]
    for (rule, rho), curves in ours.groupby(["rule", RHO], sort=False):
        parts = []
        for values, curve in curves.groupby(cells, sort=False):
            cell = dict(zip(cells, values, strict=True))
            size = f"{count(cell.pop('params_total'))} parameters"
            named = words({key: value for key, value in cell.items() if key not in ("rule", RHO)})
            thin = curve[:: max(1, len(curve) // POINTS)]
            columns = ("loss", "loss_low", "loss_high")
            parts.append(points_of(thin, ", ".join(filter(None, [named, size])), "epoch", columns, "ours"))
        for width, curve in theirs.groupby("model.width") if rule == "sam" else ():
            told = f"model.width={width:g}, published on {settings['published_data']}"
            parts.append(points_of(curve, told, "epoch", ("loss",), "published"))
        title = f"training loss: {RULES.get(str(rule), rule)}" + (f" at rho={rho:g}" if rho else "")
        plots.append(Plot(title, "epoch", "training loss of the epoch", pd.concat(parts), "± s.e.", False, True))
    return plots
