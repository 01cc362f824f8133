"""What a figure plots, as points with their context: from the csv that `draw` writes, so that a page, W&B and results
of years ago are drawn from the same numbers.

A function a kind of study, which `draw.plotted` names: frame and `draw` group to a list of `Plot`.
"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from samgap.runs.sweeps import RHO

AXES = {"params_total": "parameters, biases and batch norm included", "params_live": "live parameters", RHO: "rho"}


@dataclass(frozen=True)
class Plot:
    """One chart: lines with what is known of each point, or a map.

    Columns of `points`: series, x, y; of lines also who (ours, published), low and high (nan where there is none), n
    and note (text); of maps loss.
    """

    title: str
    x: str  # titles of the axes
    y: str
    points: pd.DataFrame
    band: str = ""  # what low and high are
    log_x: bool = False
    log_y: bool = False
    kind: Literal["lines", "map"] = "lines"


def points_of(
    rows: pd.DataFrame, series: str, x: str, y: tuple[str, ...], who: str, note: "pd.Series[str] | str" = ""
) -> pd.DataFrame:
    """Rows as points; `y` is the column of the value, or those of value, low and high."""
    low, high = (rows[y[1]], rows[y[2]]) if len(y) == 3 else (float("nan"), float("nan"))
    ours = rows["n"] if who == "ours" else float("nan")
    points = pd.DataFrame({"x": rows[x], "y": rows[y[0]], "low": low, "high": high, "n": ours, "note": note})
    return points.assign(series=series, who=who).dropna(subset=["x", "y"])
