"""From the records of a sweep to one table, a row a run, and the list of what is not in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from samgap import identity
from samgap.errors import SettingError
from samgap.records import RunRecord
from samgap.results import sweeps
from samgap.results.sweeps import Sweep

RHO, SEED = "ascent.rho", "seed"


@dataclass(frozen=True)
class Table:
    """The runs of one sweep.

    `runs` has a column for each axis and, always, ascent.rho and seed; then the numbers of the record. A diverged
    run is a row without accuracies. `missing` maps the folder of a run without a record to its state.
    """

    sweep: Sweep
    runs: pd.DataFrame
    records: list[RunRecord]
    missing: dict[str, str]
    diverged: list[str]

    @property
    def cell_axes(self) -> list[str]:
        """The axes that make a cell: all but rho and seed."""
        return [axis for axis in self.sweep.axes if axis not in (RHO, SEED)]


def collect(sweep: Sweep, root: Path) -> Table:
    """Read the records that `sweep` asked for, and no others.

    Raises:
        SettingError: there is no record at all, one is damaged or belongs to other settings, or a setting that is
            no axis varies among them.
    """
    records: list[RunRecord] = []
    missing: dict[str, str] = {}
    for member in sweep.members:
        folder = sweeps.runs(root) / member.folder
        state, record, problem = sweeps.state(folder)
        if state == "damaged":
            raise SettingError(problem)
        if record is None:
            missing[member.folder] = state
            continue
        if not member.identity == record.identity == identity.identity(record.settings):
            raise SettingError(f"{folder} holds the record of other settings: move it away and start the run again.")
        records.append(record)
    if not records:
        raise SettingError(
            f"No run of {sweep.name}/{sweep.scale} in {root} has a record yet: carry out the sweep with "
            f"python -m samgap.train -m {sweeps.hint(sweep.name, sweep.scale)}."
        )
    refuse_stray(sweep.axes, [record.settings for record in records])
    frame = pd.DataFrame([_row(record, sweep.axes) for record in records])
    return Table(sweep, frame, records, missing, [r.folder for r in records if r.status == "diverged"])


def refuse_stray(axes: list[str], settings: list[dict[str, Any]]) -> None:
    """Refuse runs that differ in something that is no axis: their gaps would mix two effects.

    Raises:
        SettingError: names the setting and two of its values.
    """
    swept = {*axes, RHO, SEED}
    # A swept group (its name is an axis) brings its own keys along.
    groups = tuple(axis.removesuffix("name") for axis in axes if axis.endswith(".name"))
    leaves = [identity.flat(setting) for setting in settings]
    for key in dict.fromkeys(key for leaf in leaves for key in leaf):
        if key in swept or (groups and key.startswith(groups)):
            continue
        values = list(dict.fromkeys(repr(leaf.get(key)) for leaf in leaves))
        if len(values) > 1:
            raise SettingError(
                f"{key} varies among the runs ({values[0]} and {values[1]}) and is no axis of the sweep: "
                "sweep it in one command, or give the studies different names (name=...)."
            )


def words(cell: Mapping[str, Any]) -> str:
    """A cell as it is typed: "model.width=4, pruner.sparsity=0.5"."""
    return ", ".join(
        f"{axis}={value if isinstance(value, str) else format(value, 'g')}" for axis, value in cell.items()
    )


def _row(record: RunRecord, axes: list[str]) -> dict[str, Any]:
    leaves = identity.flat(record.settings)
    row = {axis: leaves.get(axis) for axis in axes} | {RHO: record.rho, SEED: record.settings["seed"]}
    numbers = ("test_acc_final", "test_acc_best", "holdout_acc_final", "train_acc_final", "seconds", "status")
    return row | {name: getattr(record, name) for name in (*numbers, "params_total", "params_live")}
