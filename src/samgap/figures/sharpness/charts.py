"""Charts of sharpness: lambda_max and s_k over rho with the limits of linear stability, and losses around a net."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap import style
from samgap.figures.chart import DASHDOT, DASHED, DOTTED, SOLID, Axis, Chart, Line, Map, points
from samgap.figures.sharpness.probed import NAMES, TOP
from samgap.runs.sweeps import RHO
from samgap.style import Look

TEXT = {"s_2": "s₂", "s_3": "s₃", "s_4": "s₄"}
DASHES = {"s_2": SOLID, "s_3": DASHED, "s_4": DOTTED}
BOUNDS = {"s_2": (6, 2), "s_3": (3, 2), "s_4": (1, 2)}
LISTED = (TOP, "s_2")  # lines in legends; the title explains the dashes of the others
MOMENTS = "non-uniformity of curvature\n(s₂ solid, s₃ dashed, s₄ dotted)"
LIMIT = "#404040"


def flatness(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Chart]:
    """Return charts of lambda_max and of s_2, s_3, s_4, if measured, over evenly spaced rhos; a series has a color."""
    rhos = sorted({*frame[RHO]})
    cells = _named(frame).assign(at=frame[RHO].map(rhos.index))
    groups = list(cells.groupby("series", sort=False))
    top: list[Line] = []
    moments: list[Line] = []
    for number, ((name_, series_cells), look) in enumerate(zip(groups, style.looks(len(groups)), strict=True)):
        aside = 0.08 * (number - (len(groups) - 1) / 2)
        prefix, note = f"{name_}: " * bool(name_), "training loss " + series_cells["train_loss"].map("{:.3g}".format)
        for name, lines, text in [(TOP, top, "ours"), *((name, moments, TEXT[name]) for name in NAMES["moments"])]:
            if name in series_cells and series_cells[name].notna().any():
                marks = points(series_cells, "at", name, f"{name}_se", note=note).dropna(subset="y")
                dash, legend = DASHES.get(name, SOLID), None if name in LISTED else ""
                line = Line(prefix + text, marks, look, dash, bars=True, spread="± s.e.", aside=aside, legend=legend)
                lines.append(line)
    limits = cells.drop_duplicates(["eta", RHO]).sort_values(RHO).drop(columns="n")
    for eta, limit in limits.groupby("eta"):
        text = f"largest that linear stability allows at learning rate {eta:g}\n(un-normalized SAM)"
        top.append(Line(text, points(limit, "at", "largest"), Look(LIMIT, ""), (4, 2)))
        # Short strokes as markers, since a line would also cross rhos without a bound.
        for name, dash in BOUNDS.items():
            if f"bound_{name}" in limit and limit[f"bound_{name}"].notna().any() and cells[name].notna().any():
                text = f"bound on {TEXT[name]} (batch 1, un-normalized SAM)"
                marks = points(limit, "at", f"bound_{name}")
                moments.append(Line(text, marks, Look(LIMIT, "_"), dash, legend=None if name in LISTED else ""))
    _published(top, moments, cells.drop(columns="n").drop_duplicates(RHO), settings["published_data"])
    x = Axis("ρ of SAM", "rho", ticks=tuple((at, f"{rho:g}" if rho else "SGD") for at, rho in enumerate(rhos)))
    charts = [
        Chart("largest curvature of the training loss", x, Axis("λₘₐₓ of the Hessian ± s.e.", TOP, zero=True), top),
        Chart(MOMENTS, x, Axis("sₖ ± s.e.", "s_k", zero=True), moments),
    ]
    return [chart for chart in charts if chart.lines]


def _published(top: list[Line], moments: list[Line], cells: pd.DataFrame, data: str) -> None:
    marks = Look(style.PUBLISHED, "X")
    published_tops = cells.dropna(subset="published_lambda_max")
    sgd, sam = published_tops[published_tops[RHO] == 0], published_tops[published_tops[RHO] > 0]
    if len(sgd):
        top.append(Line(f"published, {data}: SGD", points(sgd, "at", "published_lambda_max"), marks, None))
    if len(sam):  # a horizontal line, since the paper states no rho
        ends = sam.iloc[[0, -1]].assign(at=[sam["at"].min() - 0.3, sam["at"].max() + 0.3])
        text = f"published, {data}: SAM, its ρ is not stated"
        top.append(Line(text, points(ends, "at", "published_lambda_max"), Look(style.PUBLISHED, ""), DASHDOT))
    if "published_s_2" in cells and len(published_s_2 := cells.dropna(subset="published_s_2").sort_values(RHO)):
        bars = points(published_s_2, "at", "published_s_2", "published_s_2_half")
        moments.append(Line(f"published, {data}: {TEXT['s_2']}", bars, marks, None, bars=True, spread="their bar"))


def surfaces(frame: pd.DataFrame) -> list[Map]:
    """Return a map of the loss on a plane for each net and each kind of directions."""
    maps = []
    for (series, rho, seed, kind), losses in _named(frame).groupby(["series", RHO, "seed", "directions"]):
        arm = f"SAM at rho={rho:g}" if rho else "SGD"
        title = ", ".join(filter(None, [f"{arm}, {kind} directions", str(series), f"seed {seed}"]))
        maps.append(Map(title, "step along the first direction", "along the second", losses[["x", "y", "loss"]]))
    return maps


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    # In a CSV file, the cell of a series without a name is empty.
    return frame.assign(series=frame["series"].astype(object).where(frame["series"].notna(), ""))
