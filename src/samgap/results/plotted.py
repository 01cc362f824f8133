"""What a figure plots, as points with their context: from the csv that `draw` writes, so that a page, W&B and results
of years ago are drawn from the same numbers.

A function a kind of study, which `draw.plotted` names: frame and `draw` group to a list of `Plot`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from samgap.plots.style import short as count
from samgap.results.curves import RULES
from samgap.results.sweeps import RHO
from samgap.results.table import words
from samgap.results.verdict import apart

POINTS = 200  # of a curve, so that a page of many stays light
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


def gaps(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """Gap and accuracies over size, or over what `x` says."""
    x, lines = _lines(frame, settings)
    along = AXES.get(x, x)
    gap, acc = [], []
    for name, cells in lines:
        ours = cells[cells["n"].notna()]
        for protocol in _protocols(ours):
            label = f"{name}ours, rho* " + ("as in the paper" if protocol == "paper" else f"by {protocol}")
            note = "rho* " + ours[f"{protocol}_rho"].map("{:g}".format)
            columns = (f"{protocol}_gap", f"{protocol}_low", f"{protocol}_high")
            gap.append(_points(ours, label, x, columns, "ours", note))
        for arm, key in (("SGD", "sgd"), ("SAM", "paper")):
            middle, spread = ours[f"{key}_acc"], ours[f"{key}_std"]
            near = ours.assign(acc=middle, acc_low=middle - spread, acc_high=middle + spread)
            note = "training accuracy " + ours[f"{arm.lower()}_train_acc"].map("{:.1f} %".format)
            acc.append(_points(near, f"{name}{arm}, ours", x, ("acc", "acc_low", "acc_high"), "ours", note))
        if "published_gap" in cells and len(theirs := cells[cells["published_gap"].notna()]):
            place = "published_params" if x.startswith("params") else f"published_{x}"
            told = f"{name}published on {settings['published_data']}"
            band = theirs.get("published_gap_band")
            near = theirs.assign(
                low=theirs["published_gap"] - (band if band is not None else float("nan")),
                high=theirs["published_gap"] + (band if band is not None else float("nan")),
            )
            gap.append(_points(near, told, place, ("published_gap", "low", "high"), "published"))
            for arm, key in (("SGD", "published_sgd_acc"), ("SAM", "published_sam_acc")):
                acc.append(_points(theirs, f"{name}{arm}, {told.removeprefix(name)}", place, (key,), "published"))
    log = x.startswith("params")
    return [
        Plot(f"gap over {_word(x)}", along, "SAM minus SGD (percentage points)", pd.concat(gap), "95 % interval", log),
        Plot(f"test accuracy over {_word(x)}", along, "test accuracy (%)", pd.concat(acc), "± s.d. over seeds", log),
    ]


def best_rho(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """The best rho over size, and the gaps."""
    x, lines = _lines(frame, settings)
    parts = []
    for name, cells in lines:
        ours = cells[cells["n"].notna()]
        for protocol in _protocols(ours):
            label = f"{name}ours, " + ("on the test set" if protocol == "paper" else f"by {protocol}")
            parts.append(_points(ours, label, x, (f"{protocol}_rho",), "ours"))
        if "published_best_rho" in cells and len(theirs := cells[cells["published_best_rho"].notna()]):
            told = f"{name}published on {settings['published_data']}"
            parts.append(_points(theirs, told, "published_params", ("published_best_rho",), "published"))
    best = Plot(f"best rho over {_word(x)}", AXES.get(x, x), "best rho", pd.concat(parts), "", True, True)
    return [best, *gaps(frame, settings)]


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
            parts.append(_points(thin, ", ".join(filter(None, [named, size])), "epoch", columns, "ours"))
        for width, curve in theirs.groupby("model.width") if rule == "sam" else ():
            told = f"model.width={width:g}, published on {settings['published_data']}"
            parts.append(_points(curve, told, "epoch", ("loss",), "published"))
        title = f"training loss: {RULES.get(str(rule), rule)}" + (f" at rho={rho:g}" if rho else "")
        plots.append(Plot(title, "epoch", "training loss of the epoch", pd.concat(parts), "± s.e.", False, True))
    return plots


def flatness(frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Plot]:
    """lambda_max and s_2 over rho."""
    plots = []
    for name in [name for name in ("lambda_max", "s_2") if frame[name].notna().any()]:
        parts = []
        for named, cells in _named(frame).groupby("series", sort=False):
            near = cells.assign(low=cells[name] - cells[f"{name}_se"], high=cells[name] + cells[f"{name}_se"])
            note = "training loss " + cells["train_loss"].map("{:.3g}".format)
            label = ", ".join(filter(None, [str(named), "ours"]))
            parts.append(_points(near, label, RHO, (name, "low", "high"), "ours", note))
        if name == "s_2" and "published_s_2" in frame and frame["published_s_2"].notna().any():
            theirs = frame.dropna(subset="published_s_2").drop_duplicates(RHO)
            told = f"published on {settings['published_data']}"
            parts.append(_points(theirs, told, RHO, ("published_s_2",), "published"))
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


def _lines(frame: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[str, list[tuple[str, pd.DataFrame]]]:
    """What stands on the horizontal axis, and (prefix of its label, cells) of each series."""
    axes = [str(axis) for axis in frame.columns[: frame.columns.get_loc("params_total")]]
    x = settings["x"] if settings["x"] in frame else default_x(frame, axes)
    thinned = {"model.width", "pruner.sparsity"} <= {*axes} and bool(
        frame.groupby([axis for axis in axes if axis != "pruner.sparsity"])["pruner.sparsity"].nunique().max() == 1
    )
    told = settings["series"]
    over = apart(axes, x, thinned=thinned) if told is None else [axis for axis in told if axis in axes]
    groups = frame.groupby(over, sort=False) if over else [((), frame)]
    lines = []
    for values, cells in groups:
        named = words(dict(zip(over, values, strict=True)))
        lines.append((f"{named}: " if named else "", cells.sort_values(x)))
    return x, lines


def default_x(cells: pd.DataFrame, axes: list[str]) -> str:
    """What stands on the horizontal axis unless `draw.x` says it: parameters, or the first axis that is a measure."""
    measures = [axis for axis in axes if pd.api.types.is_numeric_dtype(cells[axis]) and not axis.endswith("seed")]
    return "params_total" if "model.width" in axes or not measures else measures[0]


def _protocols(cells: pd.DataFrame) -> list[str]:
    # As drawn, and the unbiased one where two seeds or more allow it.
    unbiased = [name for name in ("holdout", "loso") if f"{name}_gap" in cells and cells[f"{name}_gap"].notna().any()]
    return ["paper", *unbiased[:1]]


def _points(
    rows: pd.DataFrame, series: str, x: str, y: tuple[str, ...], who: str, note: "pd.Series[str] | str" = ""
) -> pd.DataFrame:
    """Rows as points; `y` is the column of the value, or those of value, low and high."""
    low, high = (rows[y[1]], rows[y[2]]) if len(y) == 3 else (float("nan"), float("nan"))
    ours = rows["n"] if who == "ours" else float("nan")
    points = pd.DataFrame({"x": rows[x], "y": rows[y[0]], "low": low, "high": high, "n": ours, "note": note})
    return points.assign(series=series, who=who).dropna(subset=["x", "y"])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    # A csv has nothing where a series has no name.
    return frame.assign(series=frame["series"].astype(object).where(frame["series"].notna(), ""))


def _word(x: str) -> str:
    return {"params_total": "parameters", "params_live": "live parameters"}.get(x, x)
