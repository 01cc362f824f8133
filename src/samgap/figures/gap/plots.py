"""What the gap figures plot, from their csv."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.gap.series import apart, default_x
from samgap.figures.plot import AXES, Plot, points_of
from samgap.figures.table import words


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
            gap.append(points_of(ours, label, x, columns, "ours", note))
        for arm, key in (("SGD", "sgd"), ("SAM", "paper")):
            middle, spread = ours[f"{key}_acc"], ours[f"{key}_std"]
            near = ours.assign(acc=middle, acc_low=middle - spread, acc_high=middle + spread)
            note = "training accuracy " + ours[f"{arm.lower()}_train_acc"].map("{:.1f} %".format)
            acc.append(points_of(near, f"{name}{arm}, ours", x, ("acc", "acc_low", "acc_high"), "ours", note))
        if "published_gap" in cells and len(theirs := cells[cells["published_gap"].notna()]):
            place = "published_params" if x.startswith("params") else f"published_{x}"
            told = f"{name}published on {settings['published_data']}"
            band = theirs.get("published_gap_band")
            near = theirs.assign(
                low=theirs["published_gap"] - (band if band is not None else float("nan")),
                high=theirs["published_gap"] + (band if band is not None else float("nan")),
            )
            gap.append(points_of(near, told, place, ("published_gap", "low", "high"), "published"))
            for arm, key in (("SGD", "published_sgd_acc"), ("SAM", "published_sam_acc")):
                acc.append(points_of(theirs, f"{name}{arm}, {told.removeprefix(name)}", place, (key,), "published"))
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
            parts.append(points_of(ours, label, x, (f"{protocol}_rho",), "ours"))
        if "published_best_rho" in cells and len(theirs := cells[cells["published_best_rho"].notna()]):
            told = f"{name}published on {settings['published_data']}"
            parts.append(points_of(theirs, told, "published_params", ("published_best_rho",), "published"))
    best = Plot(f"best rho over {_word(x)}", AXES.get(x, x), "best rho", pd.concat(parts), "", True, True)
    return [best, *gaps(frame, settings)]


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


def _protocols(cells: pd.DataFrame) -> list[str]:
    # As drawn, and the unbiased one where two seeds or more allow it.
    unbiased = [name for name in ("holdout", "loso") if f"{name}_gap" in cells and cells[f"{name}_gap"].notna().any()]
    return ["paper", *unbiased[:1]]


def _word(x: str) -> str:
    return {"params_total": "parameters", "params_live": "live parameters"}.get(x, x)
