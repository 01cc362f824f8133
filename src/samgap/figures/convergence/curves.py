"""Reads curves of the training loss into one table, and measures their rates and how these change.

- rate: minus the slope of log(loss), by least squares, over the epochs after the first quarter of training. The loss
  halves in log(2) / rate epochs.
- late: the late rate divided by the middle rate. These are the rates of the last and of the second quarter of the
  epochs in which the loss falls from 1/100 to 1e-6 of a run's first loss. It is 1 for an exponential and .42 for 1/t.
  For a sum of exponentials it becomes 1 when only the slowest one is left.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures import published
from samgap.figures.significance import INTERPOLATES
from samgap.figures.table import Table, cell_label, curve
from samgap.runs import sweeps
from samgap.runs.records import METRICS
from samgap.runs.sweeps import RHO, SEED

WARM_UP = 0.25  # share of the epochs, at the start, that rates leave out
ABOVE, BELOW = 1e-2, 1e-6  # shares of a run's first loss; `late` uses the epochs between them
STOPPED = 0.1  # a curve has stopped if the rate of its last quarter is below this times the mean rate of all epochs
MOST = 1_000  # longer mean curves are thinned to about this number of epochs
RULES = {"sgd": "SGD", "sam": "SAM", "sam_unnormalized": "un-normalized SAM (the theory's)"}


def rate(epochs: Any, losses: Any) -> float:
    """Return the fall of log(loss) per epoch, by least squares."""
    return -float(np.polyfit(np.asarray(epochs, dtype=float), np.log(np.asarray(losses, dtype=float)), 1)[0])


def quarters(epochs: Any, losses: Any) -> float:
    """Return the rate of the last quarter of the epochs / that of the second.

    It is nan for fewer than 8 epochs, or if the loss does not fall in the second quarter.
    """
    x, y = np.asarray(epochs, dtype=float), np.asarray(losses, dtype=float)
    progress = (x - x[0]) / max(x[-1] - x[0], 1)
    second, last = ((progress >= low) & (progress <= low + 0.25) for low in (0.25, 0.75))
    if len(x) < 8:
        return math.nan
    middle = rate(x[second], y[second])
    return rate(x[last], y[last]) / middle if middle > 0 else math.nan


def has_stopped(epochs: Any, losses: Any) -> bool:
    """Return whether a curve that fell has stopped falling: its last quarter is nearly flat, however early it fell."""
    x, y = np.asarray(epochs, dtype=float), np.asarray(losses, dtype=float)
    last, mean = x >= x[0] + 0.75 * (x[-1] - x[0]), math.log(y[0] / y[-1]) / (x[-1] - x[0])
    return mean > 0 and rate(x[last], y[last]) < STOPPED * mean


def late(epochs: Any, losses: Any) -> tuple[float, float]:
    """Return the late rate divided by the middle rate, and the same for a power law over the same epochs.

    Both are nan if the curve does not come down to a millionth of its first loss.
    """
    x, y = np.asarray(epochs, dtype=float), np.asarray(losses, dtype=float)
    if y.min() > BELOW * y[0]:
        return math.nan, math.nan
    start, end = (int(np.argmax(y <= share * y[0])) for share in (ABOVE, BELOW))
    window = slice(start, end + 1)
    return quarters(x[window], y[window]), quarters(x[window], 1 / x[window])


def warmed_up(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of a curve after the first `WARM_UP`, which rates use."""
    return curve[curve["epoch"] > WARM_UP * curve["epoch"].max()]


def means(curves: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the mean log(loss) of each cell ± standard error, as losses, for the epochs that all its runs have."""
    logs = curves.assign(log=np.log(curves["loss"])).groupby([*keys, "epoch"], sort=False)["log"]
    rows = logs.agg(["mean", "sem", "count"]).reset_index().rename(columns={"count": "n"}).assign(who="ours")
    cells = rows.groupby(keys, sort=False)
    rows = rows[rows["n"] == cells["n"].transform("max")]
    step = rows.groupby(keys, sort=False)["epoch"].transform("size") // MOST
    rows = rows[(rows["epoch"] - 1) % step.clip(lower=1) == 0].reset_index(drop=True)
    error, mean = rows.pop("sem").fillna(0), rows.pop("mean")
    for name, log in (("loss", mean), ("loss_low", mean - error), ("loss_high", mean + error)):
        rows[name] = [float(f"{value:.6g}") for value in np.exp(log)]
    return rows


def swept(table: Table) -> list[str]:
    """Return the axes of a cell that are no settings of the ascent."""
    return [axis for axis in table.cell_axes if not axis.startswith("ascent.")]


def load(table: Table, root: Path, keys: list[str]) -> pd.DataFrame:
    """Return the curves of all runs that did not diverge, as `study.study` takes them.

    Raises:
        SettingError: an axis belongs to the ascent, a curve is missing, or one is too short.
    """
    axes = swept(table)
    for axis in [axis for axis in table.cell_axes if axis not in axes and axis != "ascent.name"]:
        raise SettingError(f"{axis} cannot be an axis of a figure of curves: sweep ascent and ascent.rho.")
    by_folder = {record.folder: record for record in table.records}
    parts, seen = [], set()
    for member in table.sweep.members:
        record = by_folder.get(member.folder)
        key = (member.folder, *(member.axes[axis] for axis in axes))
        if record is None or record.status == "diverged" or key in seen:
            continue
        seen.add(key)  # all ascents share the runs of SGD
        run_curve = curve(sweeps.runs(root) / member.folder / METRICS)
        ascent = record.settings["ascent"]["name"] if member.axes[RHO] else "sgd"
        context = {"rule": ascent} | {axis: member.axes[axis] for axis in (*axes, RHO, SEED)}
        context |= {"params_total": record.params_total, "acc": record.train_acc_final}
        context |= {"width": record.settings["model"]["width"]}
        parts.append(run_curve.assign(**context))
    if not parts:
        raise SettingError(f"No run of {table.sweep} has a curve: all of them diverged.")
    frame = pd.concat(parts, ignore_index=True)
    if (shortest := min(len(part) for part in parts)) < 8:
        raise SettingError(f"A rate needs 8 epochs or more, and a run has {shortest}: raise epochs.")
    order = [name for name in RULES if name in set(frame["rule"])]
    order += sorted(set(frame["rule"]) - set(order))
    frame["order"] = frame["rule"].map(order.index)
    columns = ["order", *keys[1:], SEED, "epoch"]
    return frame.sort_values(columns, ignore_index=True).drop(columns="order")


def fit(curves: pd.DataFrame, keys: list[str], interpolates_from: float | None) -> pd.DataFrame:
    """Return a row for each run: its rate, the change of its rate (`late`), and whether it interpolates.

    Raises:
        SettingError: a loss is 0, or `interpolates_from` is missing for a regression.
    """
    rows = []
    for values, run in curves.groupby([*keys, SEED], sort=False):
        row: dict[str, Any] = dict(zip([*keys, SEED], values, strict=True))
        fitted = warmed_up(run)
        if (run["loss"] <= 0).any():
            raise SettingError(
                f"The loss of a run ({cell_label(row)}) reached 0, which has no logarithm: lower epochs, or set "
                "precision=64-true."
            )
        row["rate"] = rate(fitted["epoch"], fitted["loss"])
        row["late"], row["late_power"] = late(run["epoch"], run["loss"])
        row["loss_last"], row["width"] = run["loss"].iloc[-1], run["width"].iloc[0]
        if interpolates_from is None and run["acc"].isna().any():
            raise SettingError(
                "A regression has no accuracy that tells whether it interpolates: set draw.interpolates_from."
            )
        if interpolates_from is None:
            row["interpolates"] = bool((run["acc"] >= INTERPOLATES).all())
        else:
            row["interpolates"] = bool(row["width"] >= interpolates_from)
        rows.append(row)
    return pd.DataFrame(rows)


def reference(name: str | None) -> pd.DataFrame | None:
    """Return a published table of curves with columns width, epoch and loss, or None if there is no name.

    Raises:
        SettingError: there is no such table, or it lacks these columns.
    """
    if not name:
        return None
    curves = published.load(name)
    if not {"width", "epoch", "train_loss"} <= {*curves.columns}:
        raise SettingError(f"draw.published needs a table of losses by width and epoch, and {said(name)} is none.")
    # Some of the paper's axes count epochs from 0. Ours count finished epochs.
    return curves.rename(columns={"train_loss": "loss"}).assign(epoch=curves["epoch"] + (curves["epoch"].min() == 0))
