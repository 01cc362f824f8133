"""From the records of a sweep to one table: a row for each requested run, finished or not."""

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
    on. Two points may share a run, since SGD does not depend on the ascent, nor a dense net on the pruner. A diverged
    run has no accuracies.
    """

    sweep: Sweep
    runs: pd.DataFrame
    records: list[RunRecord]  # each once
    missing: dict[str, str]  # folder of a run without a record -> its state
    registered: Registration | None = None  # of the study, if there is one

    @property
    def cell_axes(self) -> list[str]:
        """The axes that make a cell: all but rho and seed."""
        return [axis for axis in self.sweep.axes if axis not in (RHO, SEED)]


def collect(sweep: Sweep, root: Path, block: Mapping[str, Any] | None = None) -> Table:
    """Read the records of the runs of `sweep`, and no others.

    Args:
        sweep: the runs.
        root: the results folder.
        block: draw.registered, or None.

    Raises:
        SettingError: there is no record at all, one is damaged or belongs to other settings, a setting that is no
            axis varies among them, or some have other data.
    """
    found: dict[str, RunRecord] = {}
    missing: dict[str, str] = {}
    for member in sweep.unique():
        folder = sweeps.runs(root) / member.folder
        state, record, problem = sweeps.state(folder, member.identity)
        if state == "damaged":
            raise SettingError(problem)
        if record is None:
            missing[member.folder] = state
            continue
        found[member.folder] = record
    if not found:
        raise SettingError(
            f"No run of {sweep} in {root} has a record yet: carry out the sweep with "
            f"python -m samgap.train -m {sweeps.override_for(sweep.name, sweep.scale)}."
        )
    refuse_stray(sweep.axes, [record.settings for record in found.values()])
    alike.refuse_other_data([*found.values()], sweeps.runs(root))
    rows = []
    for member in sweep.members:
        record = found.get(member.folder)
        status = record.status if record else missing[member.folder]
        rows.append({REPLICATE: 0} | member.axes | {"folder": member.folder, "status": status} | _numbers(record))
    several = [*found.values()]
    known = registered.look(block, sweep, min(record.started for record in several)) if block else None
    return Table(sweep, pd.DataFrame(rows), several, missing, known)


def _numbers(record: RunRecord | None) -> dict[str, Any]:
    numbers = {name: getattr(record, name, None) for name in NUMBERS}
    if numbers["scored_acc_final"] is None:
        numbers["scored_acc_final"] = numbers["test_acc_final"]
    return numbers | {"rightly": 1 - record.settings["data"].get("label_noise", 0) if record else math.nan}


def refuse_stray(axes: list[str], settings: list[dict[str, Any]]) -> None:
    """Refuse runs that differ in a setting that is no axis: their gaps would mix two effects.

    The ascent of an SGD run and the pruner of a dense one have no effect and are not compared: another sweep may have
    carried out the run first. A seed that equals `seed` in all runs is not compared either.

    Raises:
        SettingError: names the setting and two of its values.
    """
    swept = {*axes, RHO, SEED}
    # A swept group (its name is an axis) brings its own keys along.
    groups = tuple(axis.removesuffix("name") for axis in axes if axis.endswith(".name"))
    values: dict[str, list[Any]] = {}
    follows: dict[str, bool] = {}
    for setting in settings:
        meant = identity.canonical(setting)
        for key, value in identity.flat({k: v for k, v in setting.items() if k in meant}).items():
            values.setdefault(key, []).append(said(value))
            follows[key] = follows.get(key, key.endswith(".seed")) and value == setting["seed"]
    for key, found in values.items():
        several = list(dict.fromkeys(found))
        if len(several) > 1 and key not in swept and not follows[key] and not (groups and key.startswith(groups)):
            raise SettingError(
                f"{key} varies among the runs ({several[0]} and {several[1]}) and is no axis of the sweep: "
                "sweep it in one command, or give the studies different names (name=...)."
            )


def swept(sweep: Sweep) -> str:
    """Return the grid in one line. It shows whether this is the whole grid of a figure."""
    axes = dict.fromkeys([*sweep.axes, RHO, SEED])
    values = {axis: dict.fromkeys(format_value(member.axes[axis]) for member in sweep.members) for axis in axes}
    return "Swept: " + "; ".join(f"{axis} {', '.join(several)}" for axis, several in values.items()) + "."


def shown(rows: list[dict[str, str]]) -> pd.DataFrame:
    """A table of texts, without its empty columns."""
    frame = pd.DataFrame(rows)
    return frame.loc[:, (frame != "").any()]


def groups(rows: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """(values of the axes, rows) of each group, in the order of the rows; without axes, all rows are one group."""
    found = rows.groupby(axes, sort=False) if axes else [((), rows)]
    return [(dict(zip(axes, values, strict=True)), part) for values, part in found]


def cell_label(cell: Mapping[str, Any]) -> str:
    """A cell as it is typed: "model.width=4, pruner.sparsity=0.5"."""
    return ", ".join(f"{axis}={format_value(value)}" for axis, value in cell.items())


def format_value(value: Any, spec: str = "g") -> str:
    """A value for a table: a number in the format `spec`, a text as it is, "" where it is missing."""
    if isinstance(value, str):
        return value
    return format(value, spec) if pd.notna(value) else ""


def axis_label(axis: str) -> str:
    """An axis without its group, such as "width", if that is enough to identify it."""
    last = axis.split(".")[-1]
    return axis if last in ("name", "seed") else last


def read_frame(path: Path) -> pd.DataFrame:
    """Return the numbers of a figure from its csv. Only an empty cell is missing: "null" is the value of an axis."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def curve(path: Path) -> pd.DataFrame:
    """The epochs and training losses of a run.

    Raises:
        SettingError: they cannot be read.
    """
    try:
        own = pd.read_csv(path)[["epoch", "train_loss"]]
    except (OSError, ValueError, KeyError) as error:
        raise SettingError(
            f"{path} is the curve of a run that is done, and cannot be read ({type(error).__name__}): move the folder "
            "of the run away and start the sweep again."
        ) from error
    return own.rename(columns={"train_loss": "loss"})
