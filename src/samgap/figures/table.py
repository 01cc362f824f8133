"""Collects the records of a sweep in one table, with a row for each requested run, finished or not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from samgap.errors import SettingError, said
from samgap.runs import alike, identity, registered, sweeps
from samgap.runs.records import RunRecord
from samgap.runs.registered import Registration
from samgap.runs.sweeps import REPLICATE, RHO, SEED, Sweep

NUMBERS = ("test_acc_final", "test_acc_best", "holdout_acc_final", "train_acc_final", "scored_acc_final", "seconds",
           "params_total", "params_live")  # fmt: skip


@dataclass(frozen=True)
class Table:
    """The runs of one sweep.

    `runs` has a row for each point of the grid: a column for each axis, always with ascent.rho, seed and replicate; the
    `folder` of its run and the `status`; the numbers of its record, nan if there is none; `rightly`, the share of
    correct training labels. Gaps are differences of `scored_acc_final`, the test accuracy unless data.score_unused is
    on. Points may share a run, since SGD does not depend on the ascent and a dense net not on the pruner. A diverged
    run has no accuracies.
    """

    sweep: Sweep
    runs: pd.DataFrame
    records: list[RunRecord]  # without repetitions
    missing: dict[str, str]  # folder of a run without a record -> its state
    registered: Registration | None = None

    @property
    def cell_axes(self) -> list[str]:
        """The axes that define a cell: all but rho and seed."""
        return [axis for axis in self.sweep.axes if axis not in (RHO, SEED)]


def collect(sweep: Sweep, root: Path, block: Mapping[str, Any] | None = None) -> Table:
    """Read the records of the runs of a sweep.

    Args:
        sweep: the runs.
        root: the results folder.
        block: the value of draw.registered, or None.

    Raises:
        SettingError: no run has a record, a record is damaged or has other settings than its run, or the runs differ
            in their data or in a setting that is no axis.
    """
    by_folder: dict[str, RunRecord] = {}
    missing: dict[str, str] = {}
    for member in sweep.unique():
        folder = sweeps.runs(root) / member.folder
        state, record, problem = sweeps.state(folder, member.identity)
        if state == "damaged":
            raise SettingError(problem)
        if record is None:
            missing[member.folder] = state
            continue
        by_folder[member.folder] = record
    if not by_folder:
        raise SettingError(
            f"No run of {sweep} in {root} has a record yet: carry out the sweep with "
            f"python -m samgap.train -m {sweeps.override_for(sweep.name, sweep.scale)}."
        )
    refuse_stray(sweep.axes, [record.settings for record in by_folder.values()])
    alike.refuse_other_data([*by_folder.values()], sweeps.runs(root))
    rows = []
    for member in sweep.members:
        record = by_folder.get(member.folder)
        status = record.status if record else missing[member.folder]
        rows.append({REPLICATE: 0} | member.axes | {"folder": member.folder, "status": status} | _numbers(record))
    records = [*by_folder.values()]
    registration = registered.registration(block, sweep, min(record.started for record in records)) if block else None
    return Table(sweep, pd.DataFrame(rows), records, missing, registration)


def _numbers(record: RunRecord | None) -> dict[str, Any]:
    numbers = {name: getattr(record, name, None) for name in NUMBERS}
    if numbers["scored_acc_final"] is None:
        numbers["scored_acc_final"] = numbers["test_acc_final"]
    return numbers | {"rightly": 1 - record.settings["data"].get("label_noise", 0) if record else math.nan}


def refuse_stray(axes: list[str], settings: list[dict[str, Any]]) -> None:
    """Refuse runs that differ in a setting that is no axis, since their gaps would mix two effects.

    The ascent of an SGD run and the pruner of a dense run are not compared, since they have no effect, and the run may
    come from another sweep. A key that equals the setting of its name in all runs, such as data.seed and seed, or
    pruner.batch_size and batch_size, is not compared either.

    Raises:
        SettingError: a setting differs; the message names two of its values.
    """
    swept = {*axes, RHO, SEED}
    # All keys of a swept group may vary; the axis of such a group is its name.
    groups = tuple(axis.removesuffix("name") for axis in axes if axis.endswith(".name"))
    values: dict[str, list[Any]] = {}
    follows: dict[str, bool] = {}
    for setting in settings:
        effective = identity.canonical(setting)
        for key, value in identity.flat({k: v for k, v in setting.items() if k in effective}).items():
            values.setdefault(key, []).append(said(value))
            follows[key] = follows.get(key, "." in key) and value == setting.get(key.rpartition(".")[2])
    for key, varying in values.items():
        distinct = list(dict.fromkeys(varying))
        if len(distinct) > 1 and key not in swept and not follows[key] and not (groups and key.startswith(groups)):
            raise SettingError(
                f"{key} varies among the runs ({distinct[0]} and {distinct[1]}) and is no axis of the sweep: "
                "sweep it in one command, or give the studies different names (name=...)."
            )


def grid_text(sweep: Sweep) -> str:
    """Return the swept axes and their values in one line."""
    axes = dict.fromkeys([*sweep.axes, RHO, SEED])
    values = {axis: dict.fromkeys(format_value(member.axes[axis]) for member in sweep.members) for axis in axes}
    return "Swept: " + "; ".join(f"{axis} {', '.join(several)}" for axis, several in values.items()) + "."


def text_table(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Return rows of texts as a table without empty columns."""
    frame = pd.DataFrame(rows)
    return frame.loc[:, (frame != "").any()]


def groups(rows: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return (values of the axes, rows) for each group, in order; without axes, all rows are one group."""
    groups_ = rows.groupby(axes, sort=False) if axes else [((), rows)]
    return [(dict(zip(axes, values, strict=True)), group) for values, group in groups_]


def cell_label(cell: Mapping[str, Any]) -> str:
    """Return a cell as text, such as "model.width=4, pruner.sparsity=0.5"."""
    return ", ".join(f"{axis}={format_value(value)}" for axis, value in cell.items())


def format_value(value: Any, spec: str = "g") -> str:
    """Return a value as text: a number in the format `spec`, "" if it is missing."""
    if isinstance(value, str):
        return value
    return format(value, spec) if pd.notna(value) else ""


def axis_label(axis: str) -> str:
    """Return the name of an axis without its group, such as "width", unless it is "name" or "seed"."""
    last = axis.split(".")[-1]
    return axis if last in ("name", "seed") else last


def read_frame(path: Path) -> pd.DataFrame:
    """Return the frame in a figure's csv. Only empty cells are missing values: "null" is the value of an axis."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def curve(path: Path) -> pd.DataFrame:
    """Return the curve of a run, with columns epoch and loss (training), from its metrics.csv.

    Raises:
        SettingError: the file cannot be read.
    """
    try:
        columns = pd.read_csv(path)[["epoch", "train_loss"]]
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(
            f"{path} is the curve of a run that is done, and cannot be read ({type(error).__name__}): move the folder "
            "of the run away and start the sweep again."
        ) from error
    return columns.rename(columns={"train_loss": "loss"})
