"""Curvature of the training loss at the solutions of SGD and SAM: lambda_max and non-uniformity s_k (poster figure 6).

Both are of the loss that was trained. `squared` is the sum over outputs, `mean_squared` the mean, whose curvature is
smaller by the number of outputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from samgap.figures.sharpness import probed
from samgap.figures.sharpness.probed import TOP
from samgap.figures.sharpness.verdict import Verdict, allowed, falling, flatter
from samgap.figures.table import Table, axis_label, cell_label, collect, shown
from samgap.runs import sweeps
from samgap.runs.sweeps import RHO

PROBES = ("hessian", "moments")


@dataclass(frozen=True, eq=False)
class Measured:
    """The probe results of one sweep, with their summary and verdicts.

    `axes` are the swept keys except ascent.rho and seed. Each combination of their values is a series, such as the runs
    of equal epochs or the runs of equal training loss. `runs` comes from `probed.load`, `cells` from `probed.summary`.
    """

    table: Table
    axes: list[str]
    runs: pd.DataFrame
    cells: pd.DataFrame
    published: dict[str, float]  # lambda_max by optimizer
    notes: list[str]
    verdicts: list[Verdict]

    def statistics(self) -> dict[str, Any]:
        """Return cells, runs and notes."""
        return {
            "cells": self.cells.to_dict("records"),
            "measured": self.runs.to_dict("records"),
            "published_lambda_max": self.published,
            "notes": self.notes,
        }

    def rows(self) -> pd.DataFrame:
        """Return a row for each series and rho."""
        return tabled(self.cells, self.axes)

    def remarks(self) -> list[str]:
        """Return notes that explain the numbers."""
        return self.notes

    def headline(self) -> dict[str, Any]:
        """Return the numbers of each cell, as means over seeds."""
        return {
            f"{name}/{cell_label({axis: cell[axis] for axis in [*self.axes, RHO]})}": cell[name]
            for _, cell in self.cells.iterrows()
            for name in (name for names in probed.NAMES.values() for name in names if name in self.cells)
        }


@dataclass(frozen=True, eq=False)
class Flatness(Measured):
    """The curvature of one sweep's runs."""

    title: ClassVar[str] = "curvature of the training loss where training ends"

    def frame(self) -> pd.DataFrame:
        """Return a row for each cell, with the published lambda_max."""
        theirs = pd.Series([self.published.get("sam" if rho else "sgd", math.nan) for rho in self.cells[RHO]])
        return self.cells.assign(published_lambda_max=theirs)


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any]) -> Flatness:
    """Read the results of the probes hessian and moments for a sweep, summarize them and judge them.

    Args:
        root: the results folder.
        name, scale: of the sweep.
        settings: of the figure; only published is used, names of tables of s_2 by rho and of lambda_max.

    Raises:
        SettingError: see `table.collect`, `probed.look` and `probed.references`.
    """
    table = collect(sweeps.read(root, name, scale), root)
    by_rho, tops = probed.references(settings["published"])
    found = probed.look(table, root, PROBES, PROBES)
    runs = probed.load(table, root, found, PROBES)
    cells = probed.summary(runs, table.cell_axes, by_rho)
    verdicts = []
    for named in dict.fromkeys(runs["series"]):
        mine, rhos = runs[runs["series"] == named], requested_rhos(table, named)
        verdicts += [flatter(mine, rhos), falling(mine, rhos), allowed(mine, _settings(table, mine))]
    examples = [one["moments"]["found"]["n"] for one in found.values() if "moments" in one][:1]
    notes = [
        f"s_k are of the first {n:,} training examples; they change with their number. The bounds on them are not "
        "necessary for stability in general (docs/theory.md)."
        for n in examples
    ]
    notes += remarks(table, runs, tops) + probed.unseen(found, PROBES)
    return Flatness(table, table.cell_axes, runs, cells, tops, notes, verdicts)


def requested_rhos(table: Table, named: str) -> list[float]:
    """Return all rhos of the named series in ascending order, those of unfinished runs included."""
    members = table.sweep.members
    mine = {member.axes[RHO] for member in members if probed.series(_beside(table, member.axes)) == named}
    return sorted(float(rho) for rho in mine)


def _beside(table: Table, axes: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: axes[axis] for axis in table.cell_axes}


def _settings(table: Table, runs: pd.DataFrame) -> dict[str, Any]:
    return next(record.settings for record in table.records if record.folder == runs["folder"].iloc[0])


def tabled(cells: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return the cells as texts for a table: mean ± standard error over seeds."""
    rows, known = [], cells.dropna(axis="columns", how="all")
    for _, cell in cells.iterrows():
        row = {axis_label(axis): value if isinstance(value := cell[axis], str) else f"{value:g}" for axis in axes}
        row |= {"rho": f"{cell[RHO]:g}", "n": str(cell["n"]), "train loss": f"{cell['train_loss']:.3g}"}
        row |= {"epochs": f"{cell['epochs']:.4g}", "missed": str(cell["missed"]) * bool(cells["missed"].any())}
        for name in (name for names in probed.NAMES.values() for name in names if name in known):
            shows_error = name in (TOP, "s_2") and pd.notna(cell[f"{name}_se"])  # all would be too wide
            error = f" ±{cell[f'{name}_se']:.2g}" if shows_error else ""
            row[name] = f"{cell[name]:.3g}{error}" if pd.notna(cell[name]) else ""
            if name == TOP:
                row |= {"allowed": f"{cell['largest']:.3g}"}
                row["within"] = f"{cell['within']:.0%}" if pd.notna(cell["within"]) else ""
            elif pd.notna(cells[f"bound_{name}"]).any():
                row[f"bound {name}"] = f"{cell[f'bound_{name}']:.3g}" if pd.notna(cell[f"bound_{name}"]) else "void"
        if "published_s_2" in cells:
            row["paper s_2"] = f"{cell['published_s_2']:g}" if pd.notna(cell["published_s_2"]) else ""
        rows.append(row)
    return shown(rows)


def bounds(table: Table) -> str:
    """Return a sentence with the assumptions of the table's limits and the settings of the runs."""
    settings = next((record for record in table.records if record.rho), table.records[0]).settings
    rule, momentum = settings["ascent"]["name"], settings["optimizer"].get("momentum") or 0
    return (
        "allowed and within are those of un-normalized SAM without momentum, bounds those of its batches of one "
        f"example; these runs have ascent {rule}, momentum {momentum:g} and batches of {settings['batch_size']}."
    )


def remarks(table: Table, runs: pd.DataFrame, tops: Mapping[str, float]) -> list[str]:
    """Return the notes that a reader of the numbers needs."""
    notes = [bounds(table)]
    outputs = table.records[0].settings["data"]["classes"]
    scales = {
        "squared": f"summed over outputs; curvature of the mean over {outputs} is smaller by that factor",
        "mean_squared": f"the mean over {outputs} outputs; curvature of the sum is larger by that factor",
    }
    if scale := scales.get(table.records[0].settings["loss"]["name"]):
        notes.append(f"The squared loss is {scale}. Which of them the paper has is not said.")
    if tops:
        theirs = ", ".join(f"{name.upper()} {value:g}" for name, value in tops.items())
        notes.append(f"Published lambda_max: {theirs}; the rho of SAM's is not said.")
    if missed := runs["folder"][runs["missed"].astype(bool)].tolist():
        notes.append(
            f"{len(missed)} run(s) ended without reaching stop_loss, so their loss is larger: {_first_names(missed)}."
        )
    not_converged = [f"{name} of {run['folder']}" for _, run in runs.iterrows() for name in run["not_converged"]]
    if not_converged:
        notes.append(
            f"{len(not_converged)} number(s) are not converged, and used as they are: {_first_names(not_converged)}."
        )
    if diverged := runs["folder"][runs["status"] == "diverged"].tolist():
        notes.append(f"{len(diverged)} run(s) diverged and have no numbers: {_first_names(diverged)}.")
    return notes


def _first_names(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
