"""Tables of probe results: one with a row for each run, and one with means over the seeds of each cell."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures import published
from samgap.figures.table import Table, cell_label, curve
from samgap.runs import measurements, sweeps
from samgap.runs.records import METRICS, RunRecord
from samgap.runs.sweeps import RHO, SEED, Sweep
from samgap.theory.stability import ORDERS, bound, largest_curvature

STOP = "stop_loss"
TOP = "lambda_max"
NAMES = {"hessian": [TOP], "moments": [f"s_{order}" for order in ORDERS]}  # the numbers that each probe gives
Probes = Mapping[str, dict[str, Any]]  # name of a probe -> content of probes/<name>.json


def series(axes: Mapping[str, Any]) -> str:
    """Return the name of a series: "equal epochs", "equal training loss (stop_loss=0.01), model.width=4", or ""."""
    parts = [cell_label({axis: value}) for axis, value in axes.items() if axis != STOP]
    if STOP in axes:
        value = axes[STOP]
        parts.insert(0, "equal epochs" if value == "null" else f"equal training loss ({STOP}={value:g})")
    return ", ".join(parts)


def results(table: Table, root: Path, names: Sequence[str], least: Sequence[str]) -> dict[str, Probes]:
    """Return the results of the named probes for each finished run, by the folder of the run.

    A probe that has no results at all is left out, see `notes_on_missing`.

    Args:
        table: the runs.
        root: the results folder.
        names: names of probes.
        least: subset of `names`; at least one of these must have results.

    Raises:
        SettingError: a run has no results, has those of another run, or was probed with other settings.
    """
    by_folder: dict[str, Probes] = {}
    incomplete: list[str] = []
    done = [(record, sweeps.runs(root) / record.folder) for record in table.records if record.status == "done"]
    stored = {record.folder: _stored(folder, names) for record, folder in done}
    available = {*table.sweep.probes}.union(*stored.values())
    names = [name for name in names if name in available] if available & {*least} else names
    requested = {name: settings for name, settings in table.sweep.probes.items() if name in names}
    for record, folder in done:
        own = stored[record.folder]
        if len(own) < len(names) or measurements.missing(requested, folder):
            incomplete.append(record.folder)
            continue
        for name, result in own.items():
            if result.get("identity") != record.identity or not isinstance(result.get("found"), dict):
                path = folder / measurements.FOLDER / f"{name}.json"
                raise SettingError(f"{path} is not of this run: move it away and measure again.")
        by_folder[record.folder] = own
    if incomplete:
        raise SettingError(_incomplete(table.sweep, names, incomplete))
    for name in names:
        _refuse_different(name, [result[name]["settings"] for result in by_folder.values()])
    return by_folder


def _stored(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    return {name: result for name in names if (result := measurements.read(folder, name)) is not None}


def notes_on_missing(by_folder: Mapping[str, Probes], names: Sequence[str]) -> list[str]:
    """Return a sentence for each of the named probes that has no results."""
    missing = [name for name in names if by_folder and not any(name in own for own in by_folder.values())]
    return [f"Note: no results of probe {name}, which measured no run (probe=[{','.join(names)}])." for name in missing]


def _incomplete(sweep: Sweep, names: Sequence[str], folders: list[str]) -> str:
    override = sweeps.override_for(sweep.name, sweep.scale)
    return (
        f"{len(folders)} run(s) of {sweep}, {folders[0]} the first, were not measured by the "
        f"probes {' and '.join(names)}: carry out the sweep again with probe=[{','.join(names)}] "
        f"(python -m samgap.train -m {override} ...)."
    )


def _refuse_different(name: str, settings: list[dict[str, Any]]) -> None:
    for key in settings[0] if settings else ():
        values = list(dict.fromkeys(said(options.get(key)) for options in settings))
        if len(values) > 1:
            raise SettingError(
                f"probe.{name}.{key} varies among the runs ({values[0]} and {values[1]}), so their numbers cannot be "
                "compared: carry out the sweep again with one value."
            )


def load(table: Table, root: Path, results_: Mapping[str, Probes], names: Sequence[str]) -> pd.DataFrame:
    """Return a row for each point of the grid that has a record, with the results of the named probes.

    Columns: the axes of a series, ascent.rho, seed; series, its name; folder, status, eta (learning rate), epochs,
    train_loss in evaluation mode; missed, whether the run ended without reaching its stop_loss; the numbers that
    `NAMES` lists for the probes, nan if unknown; within, whether lambda_max (1 + rho lambda_max) is at most 2/eta;
    not_converged, the names of the numbers that did not converge.
    """
    by_folder = {record.folder: record for record in table.records}
    rows = []
    for member in table.sweep.members:
        record = by_folder.get(member.folder)
        if record is None:
            continue
        axes = {axis: member.axes[axis] for axis in table.cell_axes}
        row = {"epochs": record.epochs} | axes  # the axis, if epochs are swept
        row |= {RHO: record.rho, SEED: member.axes[SEED], "series": series(axes)}
        row |= {"folder": record.folder, "status": record.status, "eta": record.settings["optimizer"]["lr"]}
        row |= {"train_loss": record.train_loss_final, "missed": _missed(record, root)}
        rows.append(row | _numbers(results_.get(record.folder, {}), row[RHO], row["eta"]))
    runs = pd.DataFrame(rows).drop_duplicates([*table.cell_axes, RHO, SEED], ignore_index=True)
    # If all runs diverged, the columns of numbers are missing.
    return runs.assign(**{n: math.nan for name in names for n in NAMES.get(name, []) if n not in runs})


def _missed(record: RunRecord, root: Path) -> bool:
    stop = record.settings.get(STOP)
    if stop is None or record.epochs < record.settings["epochs"]:
        return False
    return bool(curve(sweeps.runs(root) / record.folder / METRICS)["loss"].iloc[-1] > stop)


def _numbers(probes: Probes, rho: float, eta: float) -> dict[str, Any]:
    values: dict[str, float] = {}
    not_converged = []
    if "hessian" in probes:
        hessian = probes["hessian"]["found"]
        values[TOP] = _float(hessian["eigenvalues"][0])
        not_converged += [] if hessian["converged"] else [TOP]
    for order, moment in probes.get("moments", {}).get("found", {}).get("s", {}).items():
        values[f"s_{order}"] = _float(moment["value"])
        not_converged += [] if moment.get("converged", True) else [f"s_{order}"]
    top = values.get(TOP, math.nan)
    within = None if math.isnan(top) else bool(top * (1 + rho * top) <= 2 / eta)
    return values | {"within": within, "not_converged": not_converged}


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def summary(runs: pd.DataFrame, axes: list[str], by_rho: pd.DataFrame | None) -> pd.DataFrame:
    """Return a row for each series and rho, in order of rho: n (finished runs), means and standard errors over seeds.

    Other columns: diverged and missed, numbers of runs; within, a share of runs; largest and bound_s_k, the limits on
    lambda_max and, for batches of one example, on s_k by linear stability of un-normalized SAM, nan if there is none;
    published_s_2 and published_s_2_half, half the length of the published bar.
    """
    numbers = [name for names in NAMES.values() for name in names if name in runs]
    rows = []
    for label in dict.fromkeys(runs["series"]):
        for rho, cell in runs[runs["series"] == label].groupby(RHO):
            rho, eta, done = float(rho), float(cell["eta"].iloc[0]), cell[cell["status"] == "done"]
            row: dict[str, Any] = {axis: cell[axis].iloc[0] for axis in axes}
            row |= {"series": label, RHO: rho, "eta": eta, "n": len(done), "diverged": len(cell) - len(done)}
            row |= {"train_loss": done["train_loss"].mean(), "epochs": done["epochs"].mean()}
            row["missed"] = int(done["missed"].sum())
            for name in numbers:
                row |= {name: done[name].mean(), f"{name}_se": done[name].sem()}
            known = done["within"].dropna().astype(float)
            row |= {"within": known.mean() if len(known) else math.nan, "largest": largest_curvature(eta, rho)}
            row |= {f"bound_s_{order}": limit(order, eta, rho) for order in ORDERS if f"s_{order}" in numbers}
            if by_rho is not None and len(match := by_rho[np.isclose(by_rho["rho"], rho)]):
                row |= {"published_s_2": match["s_2"].iloc[0], "published_s_2_half": match["half_bar"].iloc[0]}
            rows.append(row)
    return pd.DataFrame(rows)


def limit(order: int, eta: float, rho: float) -> float:
    """Return the poster's bound on s_k for k = `order`, or nan if there is none, as for eta <= 2 rho."""
    value = bound(order, eta, rho) if eta > 2 * rho else math.inf
    return value ** (1 / order) if math.isfinite(value) else math.nan


def references(names: str | Sequence[str] | None) -> tuple[pd.DataFrame | None, dict[str, float]]:
    """Return the published s_2 by rho, and the published lambda_max by optimizer (sgd, sam).

    Raises:
        SettingError: a table holds neither.
    """
    by_rho, tops = None, {}
    for name in [names] if isinstance(names, str) else names or ():
        rows = published.load(name)
        if {"rho", "s_2"} <= {*rows.columns}:
            by_rho = rows
        elif {"optimizer", TOP} <= {*rows.columns}:
            tops = dict(zip(rows["optimizer"], rows[TOP].astype(float), strict=True))
        else:
            raise SettingError(f"draw.published needs tables of s_2 by rho or of {TOP}, and {said(name)} is none.")
    return by_rho, tops
