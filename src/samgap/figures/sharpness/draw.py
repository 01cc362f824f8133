"""The figure of non-uniformity (poster figure 6): lambda_max and s_k over rho, with what linear stability allows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap import style
from samgap.figures import output
from samgap.figures.sharpness.probed import NAMES, TOP
from samgap.figures.sharpness.study import Flatness
from samgap.runs.sweeps import RHO

BOUND = "batch 1, un-normalized SAM"
LINES = {"s_2": "-", "s_3": "--", "s_4": ":"}
DASHES = {"s_2": (0, (6, 2)), "s_3": (0, (3, 2)), "s_4": (0, (1, 2))}  # of bounds
TEXT = {"s_2": "$s_2$", "s_3": "$s_3$", "s_4": "$s_4$"}


def draw(study: Flatness, settings: Mapping[str, Any]) -> Figure:
    """Two panels over evenly spaced rhos, SGD first: lambda_max, and s_2, s_3, s_4; a color a series.

    Args:
        study: cells and published numbers.
        settings: the `draw` group; `title` and `published_data` are used.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), layout="constrained")
    rhos = sorted({*study.cells[RHO]})
    groups = list(dict.fromkeys(study.cells["series"]))
    for number, (named, look) in enumerate(zip(groups, style.looks(len(groups)), strict=True)):
        aside = 0.08 * (number - (len(groups) - 1) / 2)  # so that equal series do not hide each other
        cells, label = study.cells[study.cells["series"] == named], f"{named}: " if named else ""
        _line(left, cells, rhos, TOP, look, f"{label}ours", "-", aside)
        for name in NAMES["moments"]:
            _line(right, cells, rhos, name, look, f"{label}{TEXT[name]}", LINES[name], aside)
    _allowed(left, study.cells, rhos)
    _bounds(right, study.cells, rhos)
    _published(left, right, study, rhos, settings["published_data"])
    for axes in (left, right):
        axes.set_xticks(range(len(rhos)), [f"{rho:g}" if rho else "SGD" for rho in rhos])
        axes.set(xlabel="ρ of SAM", xlim=(-0.4, len(rhos) - 0.6), ylim=(0, None))
    left.set(ylabel="$λ_{max}$ of the Hessian", title="largest curvature of the training loss")
    right.set(ylabel="$s_k$", title="non-uniformity of curvature over examples")
    style.legends(figure, (left, 1), (right, 2))
    figure.suptitle(f"{settings['title']}\n{output.where(study.table, {*study.cells['n']})}", fontweight="bold")
    return figure


def _line(
    axes: Axes, cells: pd.DataFrame, rhos: list[float], name: str, look: style.Look, label: str, line: str, aside: float
) -> None:
    """Mean and standard error over seeds."""
    known = cells[cells[name].notna()]
    if len(known):
        at = [rhos.index(rho) + aside for rho in known[RHO]]
        error = known[f"{name}_se"].fillna(0)
        axes.errorbar(
            at, known[name], error, fmt=line, marker=look.marker, color=look.color, capsize=3, label=label
        )  # fmt: skip


def _allowed(axes: Axes, cells: pd.DataFrame, rhos: list[float]) -> None:
    """The largest lambda_max with lambda_max (1 + rho lambda_max) <= 2/eta, a line a learning rate."""
    for eta, mine in cells.drop_duplicates(["eta", RHO]).sort_values(RHO).groupby("eta"):
        text = f"largest that linear stability allows at learning rate {eta:g}\n(un-normalized SAM)"
        at = [rhos.index(rho) for rho in mine[RHO]]
        axes.plot(at, mine["largest"], color="#404040", linestyle=(0, (4, 2)), linewidth=1.4, label=text)


def _bounds(axes: Axes, cells: pd.DataFrame, rhos: list[float]) -> None:
    """The poster's bounds on s_k where they are not void; short strokes, since a line would hide that they stop."""
    for _, mine in cells.drop_duplicates(["eta", RHO]).sort_values(RHO).groupby("eta"):
        for name, dashes in DASHES.items():
            values = mine[f"bound_{name}"]
            if values.notna().any() and cells[name].notna().any():
                at = np.array([rhos.index(rho) for rho in mine[RHO]], dtype=float)
                text = f"bound on {TEXT[name]} ({BOUND})"
                axes.plot(at, values, color="#404040", linestyle=dashes, linewidth=1.4, marker="_", label=text)


def _published(left: Axes, right: Axes, study: Flatness, rhos: list[float], data: str) -> None:
    gray: dict[str, Any] = {"color": style.PUBLISHED, "linestyle": "none"}
    if "sgd" in study.published and 0 in rhos:
        left.plot(0, study.published["sgd"], marker="X", **gray, label=f"published on {data}: SGD")
    if "sam" in study.published and (sam := [at for at, rho in enumerate(rhos) if rho]):
        # Its rho is not stated, so it is a level.
        level = [study.published["sam"]] * 2
        left.plot([sam[0] - 0.3, sam[-1] + 0.3], level, "-.", color=style.PUBLISHED,
                  label=f"published on {data}: SAM, its ρ is not stated")  # fmt: skip
    if "published_s_2" in study.cells:
        theirs = study.cells.dropna(subset=["published_s_2"]).drop_duplicates(RHO)
        at = [rhos.index(rho) for rho in theirs[RHO]]
        text = f"published on {data}: {TEXT['s_2']}"
        right.errorbar(
            at, theirs["published_s_2"], theirs["published_s_2_half"], marker="X", capsize=3, **gray, label=text
        )
