"""Curvature of the training loss at the solutions of SGD and SAM: lambda_max and non-uniformity s_k (poster figure 6).

Both refer to the loss that was trained. `squared` is the sum over outputs. `mean_squared` is the mean, so its curvature
is divided by the number of outputs.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from samgap.figures.output import Study
from samgap.figures.sharpness import probed
from samgap.figures.sharpness.probed import TOP
from samgap.figures.sharpness.verdict import allowed, falling, flatter
from samgap.figures.table import Table, axis_label, cell_label, format_value, text_table
from samgap.runs.sweeps import RHO

PROBES = ("hessian", "moments")


def evaluate(table: Table, root: Path, settings: Mapping[str, Any]) -> Study:
    """Read the results of the probes hessian and moments for a sweep, summarize them and judge them.

    Args:
        table: the runs.
        root: the results folder.
        settings: settings of the figure; only published is used: names of tables of s_2 by rho and of lambda_max.

    Raises:
        SettingError: see `probed.results` and `probed.references`.
    """
    by_rho, tops = probed.references(settings["published"])
    results = probed.results(table, root, PROBES, PROBES)
    runs = probed.load(table, root, results, PROBES)
    cells = probed.summary(runs, table.cell_axes, by_rho)
    verdicts = []
    for series in dict.fromkeys(runs["series"]):
        own, rhos = runs[runs["series"] == series], requested_rhos(table, series)
        verdicts += [flatter(own, rhos), falling(own, rhos), allowed(own, _settings(table, own))]
    examples = [probes["moments"]["found"]["n"] for probes in results.values() if "moments" in probes][:1]
    notes = [
        f"s_k are of the first {n:,} training examples; they change with their number. The bounds on them are not "
        "necessary for stability in general (docs/theory.md)."
        for n in examples
    ]
    notes += remarks(table, runs, tops) + probed.notes_on_missing(results, PROBES)
    published_tops = pd.Series([tops.get("sam" if rho else "sgd", math.nan) for rho in cells[RHO]])
    return Study(
        title="curvature of the training loss where training ends",
        frame=cells.assign(published_lambda_max=published_tops),
        verdicts=verdicts,
        **study_fields(table, runs, cells, tops, notes),
    )


def study_fields(
    table: Table, runs: pd.DataFrame, cells: pd.DataFrame, tops: Mapping[str, float], notes: list[str]
) -> dict[str, Any]:
    """Return the fields of `output.Study` that all figures of probe results share.

    Args:
        table: the runs.
        runs, cells: see `probed.load` and `probed.summary`.
        tops: published lambda_max by optimizer.
        notes: notes that explain the numbers.
    """
    names = [name for names in probed.NAMES.values() for name in names if name in cells]
    return {
        "table": table,
        "statistics": {
            "cells": cells.to_dict("records"),
            "measured": runs.to_dict("records"),
            "published_lambda_max": tops,
            "notes": notes,
        },
        "rows": tabled(cells, table.cell_axes),
        "remarks": notes,
        "headline": {
            f"{name}/{cell_label({axis: cell[axis] for axis in [*table.cell_axes, RHO]})}": cell[name]
            for _, cell in cells.iterrows()
            for name in names
        },
    }


def requested_rhos(table: Table, series: str) -> list[float]:
    """Return all rhos of a series in ascending order, including those of unfinished runs."""
    points = [member.axes for member in table.sweep.members]
    rhos = {point[RHO] for point in points if probed.series({axis: point[axis] for axis in table.cell_axes}) == series}
    return sorted(map(float, rhos))


def _settings(table: Table, runs: pd.DataFrame) -> dict[str, Any]:
    return next(record.settings for record in table.records if record.folder == runs["folder"].iloc[0])


def tabled(cells: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return the cells as texts for a table: mean ± standard error over seeds."""
    rows, present = [], cells.dropna(axis="columns", how="all")
    for _, cell in cells.iterrows():
        row = {axis_label(axis): format_value(cell[axis]) for axis in axes}
        row |= {"rho": f"{cell[RHO]:g}", "n": str(cell["n"]), "train loss": f"{cell['train_loss']:.3g}"}
        row |= {"epochs": f"{cell['epochs']:.4g}", "missed": str(cell["missed"]) * bool(cells["missed"].any())}
        for name in (name for names in probed.NAMES.values() for name in names if name in present):
            shows_error = name in (TOP, "s_2") and pd.notna(cell[f"{name}_se"])  # all would be too wide
            error = f" ±{cell[f'{name}_se']:.2g}" if shows_error else ""
            row[name] = f"{cell[name]:.3g}{error}" if pd.notna(cell[name]) else ""
            if name == TOP:
                row |= {"allowed": f"{cell['largest']:.3g}", "within": format_value(cell["within"], ".0%")}
            elif pd.notna(cells[f"bound_{name}"]).any():
                row[f"bound {name}"] = format_value(cell[f"bound_{name}"], ".3g") or "void"
        if "published_s_2" in cells:
            row["paper s_2"] = format_value(cell["published_s_2"])
        rows.append(row)
    return text_table(rows)


def bounds(table: Table) -> str:
    """Return a sentence with the assumptions of the limits in the table, and the corresponding settings of the runs."""
    settings = [record.settings for record in table.records]
    rules = distinct(record.settings["ascent"]["name"] for record in table.records if record.rho)
    momenta = distinct(f"{each['optimizer'].get('momentum') or 0:g}" for each in settings)
    sizes = distinct(str(each["batch_size"]) for each in settings)
    return (
        "allowed and within are those of un-normalized SAM without momentum, bounds those of its batches of one "
        f"example; these runs have ascent {rules or 'none'}, momentum {momenta} and batches of {sizes}."
    )


def distinct(values: Iterable[str]) -> str:
    """Return different values in order of appearance, as text."""
    return " and ".join(dict.fromkeys(values))


def remarks(table: Table, runs: pd.DataFrame, tops: Mapping[str, float]) -> list[str]:
    """Return the notes that a reader of the numbers needs."""
    notes = [bounds(table)]
    outputs = table.records[0].settings["data"]["classes"]
    scale_texts = {
        "squared": f"summed over outputs; curvature of the mean over {outputs} is smaller by that factor",
        "mean_squared": f"the mean over {outputs} outputs; curvature of the sum is larger by that factor",
    }
    losses = dict.fromkeys(record.settings["loss"]["name"] for record in table.records)
    if scales := [scale_texts[name] for name in losses if name in scale_texts]:
        notes.append(f"The squared loss is {'; or '.join(scales)}. Which of them the paper has is not said.")
    if tops:
        tops_text = ", ".join(f"{name.upper()} {value:g}" for name, value in tops.items())
        notes.append(f"Published lambda_max: {tops_text}; the rho of SAM's is not said.")
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
