"""The gap run: one W&B run per figure and scale, with gaps, figure, table and verdict for the dashboard."""

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from samgap.figures import output
from samgap.figures.chart import Chart, Map
from samgap.figures.output import Study
from samgap.runs.sweeps import Sweep
from samgap.tracking import session

JOB = "gaps"


def id_of(name: str, scale: str) -> str:
    """Return the W&B id of the gap run. It is always the same, so that drawing again updates the run."""
    return session.shorten(f"{JOB}-{name}-{scale}")


def write(
    sweep: Sweep, root: Path, study: Study | None = None, charts: Sequence[Chart | Map] = (), **account: Any
) -> None:
    """Send the grid of a sweep, and its results so far, to W&B.

    Args:
        sweep: its grid goes into the config of the gap run, from which `restore` reads it.
        root: folder of the results, with the drawn files.
        study: the drawn sweep; None at the start of a sweep.
        charts: of the study.
        account: project, entity and further arguments of `session.run`.
    """
    if os.environ.pop("WANDB_SWEEP_ID", None):  # else the workers would inherit it
        warnings.warn("A W&B agent waits for one run and this is a sweep: WANDB_SWEEP_ID is left aside.", stacklevel=2)
    name = str(sweep)
    config = {"grid": json.dumps(dataclasses.asdict(sweep)), "command": sweep.command}
    with session.run(
        root, **account, id=id_of(sweep.name, sweep.scale), name=f"gaps of {name}", group=name, job_type=JOB,
        tags=[name], config=config, allow_val_change=True,
    ) as run:  # fmt: skip
        if run is not None and study is not None:
            with session.errors_as_warnings():
                _log(run, study, charts, root)
    session.end_process()  # a sweep may take days, and its workers start their own W&B processes


def _log(run: Any, study: Study, charts: Sequence[Chart | Map], root: Path) -> None:
    import wandb

    sweep = study.table.sweep
    files = {ending: str(sweep.folder(root) / f"{sweep.name}.{ending}") for ending in ("csv", "json", "pdf", "png")}
    run.summary.update(
        {key: value for key, value in study.headline.items() if math.isfinite(value)}
        | {"verdict": "\n".join(output.verdict_line(study.table, verdict) for verdict in study.verdicts)}
        | {"answers": [verdict.answer for verdict in study.verdicts]}
        | {"runs": len(sweep.unique()), "runs missing": len(study.table.missing)}
    )
    logged: dict[str, Any] = {
        JOB: wandb.Table(dataframe=_tabled(study.frame)),
        "runs": wandb.Table(dataframe=_tabled(_links(study, run))),
        "figure": wandb.Image(files["png"]),
    }
    for chart in charts:
        if isinstance(chart, Chart):
            points = pd.concat([line.points.assign(series=line.label) for line in chart.lines])[["x", "y", "series"]]
            points_table = wandb.Table(dataframe=points.dropna().astype({"x": float, "y": float}))
            title = f"{chart.title}: {chart.y.title} over {chart.x.title}"
            logged[chart.name] = wandb.plot.line(points_table, "x", "y", stroke="series", title=title)
    run.log(logged)
    artifact = wandb.Artifact(id_of(sweep.name, sweep.scale), type="figure", description=study.title)
    for path in files.values():
        artifact.add_file(path)
    run.log_artifact(artifact)


def _links(study: Study, run: Any) -> pd.DataFrame:
    """Return a table with one row per point of the grid, and the address of its W&B run unless offline."""
    table = study.table
    base = "" if run.offline else run.url.removesuffix(run.id)
    members = table.sweep.members
    return table.runs.assign(
        run=[member.folder for member in members], url=[base and base + member.identity for member in members]
    )


def _tabled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame for a W&B table: a column with values of several types becomes text; missing values are None."""
    cells = frame.astype(object).where(frame.notna(), None)
    for name in cells:
        if len({type(value) for value in cells[name].dropna()}) > 1:
            cells[name] = [None if value is None else str(value) for value in cells[name]]
    return cells
