"""Reads curves of the training loss into one table, and measures their rate and straightness.

Both numbers are computed from the losses of the epochs after the first quarter of training:

- rate: minus the slope of log(loss), by least squares. The loss halves in log(2) / rate epochs.
- straightness: log(P / L). P and L are residual sums of squares: P of the power law log(loss) = a - b log(epoch), L of
  the line log(loss) = a - b epoch. Above 0 the line fits better; a loss that falls like 1/t^b is below 0. A loss that
  falls faster and faster is above 0 too. The theory allows this, since its rate is a bound.
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

WARM_UP = 0.25  # share of the epochs that fits leave out
RULES = {"sgd": "SGD", "sam": "SAM", "sam_unnormalized": "un-normalized SAM (the theory's)"}


def rate(epochs: Any, losses: Any) -> float:
    """Return how much log(loss) falls in an epoch, by least squares."""
    return -float(np.polyfit(np.asarray(epochs, dtype=float), np.log(np.asarray(losses, dtype=float)), 1)[0])


def straightness(epochs: Any, losses: Any) -> float:
    """Return how much better a linear rate fits than a power law, see above; 0 if both fit exactly."""
    x, y = np.asarray(epochs, dtype=float), np.log(np.asarray(losses, dtype=float))
    line, power = (np.polyfit(at, y, 1, full=True)[1] for at in (x, np.log(x)))
    tiny = len(y) * (64 * np.finfo(float).eps * max(1.0, float(np.abs(y).max()))) ** 2  # size of rounding errors
    return math.log((power.sum() + tiny) / (line.sum() + tiny))


def settled(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of a curve that fits use."""
    late: pd.DataFrame = curve[curve["epoch"] > WARM_UP * curve["epoch"].max()]
    return late


def swept(table: Table) -> list[str]:
    """Return the axes of a cell that do not belong to the ascent."""
    return [axis for axis in table.cell_axes if not axis.startswith("ascent.")]


def load(table: Table, root: Path, keys: list[str]) -> pd.DataFrame:
    """Return the curves of all runs that did not diverge, see `study.Convergence`.

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
        place = (member.folder, *(member.axes[axis] for axis in axes))
        if record is None or record.status == "diverged" or place in seen:
            continue
        seen.add(place)  # all ascents share the runs of SGD
        own = curve(sweeps.runs(root) / member.folder / METRICS)
        ascent = record.settings["ascent"]["name"] if member.axes[RHO] else "sgd"
        context = {"rule": ascent} | {axis: member.axes[axis] for axis in (*axes, RHO, SEED)}
        context |= {"params_total": record.params_total, "acc": record.train_acc_final}
        context |= {"width": record.settings["model"]["width"]}
        parts.append(own.assign(**context))
    if not parts:
        raise SettingError(f"No run of {table.sweep.name}/{table.sweep.scale} has a curve: all of them diverged.")
    frame = pd.concat(parts, ignore_index=True)
    if (shortest := min(len(part) for part in parts)) < 8:
        raise SettingError(f"A rate wants 8 epochs or more, and a run has {shortest}: raise epochs.")
    order = [name for name in RULES if name in set(frame["rule"])]
    order += sorted(set(frame["rule"]) - set(order))
    frame["order"] = frame["rule"].map(order.index)
    columns = ["order", *keys[1:], SEED, "epoch"]
    return frame.sort_values(columns, ignore_index=True).drop(columns="order")


def fit(curves: pd.DataFrame, keys: list[str], interpolates_from: float | None) -> pd.DataFrame:
    """Return the rate and straightness of every run, and whether it interpolates.

    Raises:
        SettingError: a loss is 0, or `interpolates_from` is missing for a regression.
    """
    rows = []
    for values, run in curves.groupby([*keys, SEED], sort=False):
        row: dict[str, Any] = dict(zip([*keys, SEED], values, strict=True))
        late = settled(run)
        if (late["loss"] <= 0).any():
            raise SettingError(
                f"The loss of a run ({cell_label(row)}) reached 0, which has no logarithm: lower epochs, or set "
                "precision=64-true."
            )
        row["rate"], row["straightness"] = (f(late["epoch"], late["loss"]) for f in (rate, straightness))
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
        SettingError: the table lacks these columns.
    """
    if not name:
        return None
    theirs = published.load(name)
    if not {"width", "epoch", "train_loss"} <= {*theirs.columns}:
        raise SettingError(f"draw.published wants a table of losses by width and epoch, and {said(name)} is none.")
    # Some of the paper's axes count epochs from 0. Ours count finished epochs.
    return theirs.rename(columns={"train_loss": "loss"}).assign(epoch=theirs["epoch"] + (theirs["epoch"].min() == 0))
