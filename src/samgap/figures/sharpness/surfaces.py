"""The training loss around the nets that SGD and SAM end with (poster figures 4 and 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samgap.errors import SettingError
from samgap.figures.output import Study
from samgap.figures.sharpness import probed
from samgap.figures.sharpness.probed import Probes
from samgap.figures.sharpness.study import remarks, requested_rhos, study_fields
from samgap.figures.sharpness.verdict import flatter
from samgap.figures.table import Table
from samgap.runs.sweeps import RHO, SEED

PROBES = ("hessian", "landscape")


def evaluate(table: Table, root: Path, settings: Mapping[str, Any]) -> Study:
    """Read the results of the probes hessian and landscape for a sweep, and choose the surfaces to draw.

    Args:
        table: the runs.
        root: the results folder.
        settings: settings of the figure; only published is used: the name of a table of lambda_max.

    Raises:
        SettingError: no seed has finished the two runs to be drawn; see also `probed.results`.
    """
    by_rho, tops = probed.references(settings["published"])
    results = probed.results(table, root, PROBES, PROBES[1:])
    runs = probed.load(table, root, results, PROBES)
    cells = probed.summary(runs, table.cell_axes, by_rho)
    series = list(dict.fromkeys(runs["series"]))
    verdicts = [flatter(runs[runs["series"] == name], requested_rhos(table, name)) for name in series]
    drawn_parts = [choose(runs[runs["series"] == name], requested_rhos(table, name)) for name in series]
    drawn = pd.concat(drawn_parts)
    if drawn.empty:
        raise SettingError(
            f"No seed of {table.sweep} has its SGD run and that of the largest rho done: wait for the sweep."
        )
    frame = pd.concat([surfaces(run, results[run["folder"]]) for _, run in drawn.iterrows()], ignore_index=True)
    seeds = ", ".join(f"{seed:g}" for seed in drawn[SEED].unique())
    rhos = ", ".join(f"{rho:g}" for rho in drawn[RHO].unique())
    holes = int(frame["loss"].isna().sum())
    notes = [
        f"Drawn: rho {rhos}, the ends of those swept, and seed {seeds}, the smallest that has them; raw and filter "
        "directions are the same for all nets, those of the largest eigenvalues are each net's own.",
        *([f"At {holes} point(s) the loss is not finite; they are left white."] if holes else []),
        *remarks(table, runs, tops),
        *probed.notes_on_missing(results, PROBES),
    ]
    title = "training loss around the nets that training ends with"
    return Study(title=title, frame=frame, verdicts=verdicts, **study_fields(table, runs, cells, tops, notes))


def choose(runs: pd.DataFrame, rhos: Sequence[float]) -> pd.DataFrame:
    """Return the rows of the smallest and the largest rho for the smallest seed that has both, or no rows."""
    ends = {rhos[0], rhos[-1]}
    finished = runs[(runs["status"] == "done") & runs[RHO].isin(ends)].sort_values([SEED, RHO])
    complete = finished[finished.groupby(SEED)[RHO].transform("size") == len(ends)]
    return complete[complete[SEED] == complete[SEED].min()]


def surfaces(run: "pd.Series[Any]", probes: Probes) -> pd.DataFrame:
    """Return a row with the loss for each kind of directions and each point of the plane through a run's net."""
    landscape, parts = probes["landscape"]["found"], []
    x, y = np.meshgrid(landscape["steps"], landscape["steps"], indexing="ij")
    context = {"series": run["series"], RHO: float(run[RHO]), SEED: int(run[SEED])}
    for kind, surface in landscape["surfaces"].items():
        losses = np.array(surface["losses"], dtype=float)
        plane = {"directions": kind, "x": x.ravel(), "y": y.ravel(), "loss": losses.ravel()}
        parts.append(pd.DataFrame(context | plane))
    return pd.concat(parts)
