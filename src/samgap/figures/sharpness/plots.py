"""What the figures of sharpness plot, from their csv."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.plot import Plot, points_of
from samgap.runs.sweeps import RHO


def flatness(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """lambda_max and s_2 over rho."""
    plots = []
    for name in [name for name in ("lambda_max", "s_2") if frame[name].notna().any()]:
        parts = []
        for named, cells in _named(frame).groupby("series", sort=False):
            near = cells.assign(low=cells[name] - cells[f"{name}_se"], high=cells[name] + cells[f"{name}_se"])
            note = "training loss " + cells["train_loss"].map("{:.3g}".format)
            label = ", ".join(filter(None, [str(named), "ours"]))
            parts.append(points_of(near, label, RHO, (name, "low", "high"), "ours", note))
        if name == "s_2" and "published_s_2" in frame and frame["published_s_2"].notna().any():
            theirs = frame.dropna(subset="published_s_2").drop_duplicates(RHO)
            told = f"published on {settings['published_data']}"
            parts.append(points_of(theirs, told, RHO, ("published_s_2",), "published"))
        plots.append(Plot(f"{name} over rho", "rho", name, pd.concat(parts), "± s.e.", False, True))
    return plots


def surfaces(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """The loss on a plane through each net, a map a net and kind of directions."""
    plots = []
    for (named, rho, seed, kind), points in _named(frame).groupby(["series", RHO, "seed", "directions"]):
        arm = f"SAM at rho={rho:g}" if rho else "SGD"
        title = ", ".join(filter(None, [f"{arm}, {kind} directions", str(named), f"seed {seed}"]))
        kept = points[["x", "y", "loss"]].assign(series=title)
        plots.append(Plot(title, "step along the first direction", "along the second", kept, log_y=True, kind="map"))
    return plots


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    # A csv has nothing where a series has no name.
    return frame.assign(series=frame["series"].astype(object).where(frame["series"].notna(), ""))
