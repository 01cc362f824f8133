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
from samgap.figures.sharpness.study import measured, remarks, requested_rhos
from samgap.figures.sharpness.verdict import flatter
from samgap.figures.table import Table
from samgap.runs.sweeps import RHO, SEED

PROBES = ("hessian", "landscape")


def evaluate(table: Table, root: Path, settings: Mapping[str, Any]) -> Study:
    """Read the results of the probes hessian and landscape for a sweep, and choose the surfaces to draw.

    Args:
        table: the runs.
        root: the results folder.
        settings: of the figure; only published is used, the name of a table of lambda_max.

    Raises:
        SettingError: no seed has finished all runs to be drawn; see also `probed.look`.
    """
    by_rho, tops = probed.references(settings["published"])
    found = probed.look(table, root, PROBES, PROBES[1:])
    runs = probed.load(table, root, found, PROBES)
    cells = probed.summary(runs, table.cell_axes, by_rho)
    series = list(dict.fromkeys(runs["series"]))
    verdicts = [flatter(runs[runs["series"] == named], requested_rhos(table, named)) for named in series]
    chosen = [choose(runs[runs["series"] == named], requested_rhos(table, named)) for named in series]
    drawn = pd.concat(chosen)
    if drawn.empty:
        raise SettingError(
            f"No seed of {table.sweep} has its SGD run and that of the largest rho done: wait for the sweep."
        )
    frame = pd.concat([surfaces(run, found[run["folder"]]) for _, run in drawn.iterrows()], ignore_index=True)
    seeds = ", ".join(f"{seed:g}" for seed in drawn[SEED].unique())
    rhos = ", ".join(f"{rho:g}" for rho in drawn[RHO].unique())
    holes = int(frame["loss"].isna().sum())
    notes = [
        f"Drawn: rho {rhos}, the ends of those swept, and seed {seeds}, the smallest that has them; raw and filter "
        "directions are the same for all nets, those of the largest eigenvalues are each net's own.",
        *([f"At {holes} point(s) the loss is not finite; they are left white."] if holes else []),
        *remarks(table, runs, tops),
        *probed.unseen(found, PROBES),
    ]
    title = "training loss around the nets that training ends with"
    return Study(title=title, frame=frame, verdicts=verdicts, **measured(table, runs, cells, tops, notes))


def choose(runs: pd.DataFrame, rhos: Sequence[float]) -> pd.DataFrame:
    """Return the rows of SGD and of the largest rho at the smallest seed that has both; none if no seed has."""
    ends = {rhos[0], rhos[-1]}
    done = runs[(runs["status"] == "done") & runs[RHO].isin(ends)].sort_values([SEED, RHO])
    whole = done[done.groupby(SEED)[RHO].transform("size") == len(ends)]
    return whole[whole[SEED] == whole[SEED].min()]


def surfaces(run: "pd.Series[Any]", found: Probes) -> pd.DataFrame:
    """Return the losses around the net of a run: a row for each kind of directions and each point of its plane."""
    landscape, parts = found["landscape"]["found"], []
    x, y = np.meshgrid(landscape["steps"], landscape["steps"], indexing="ij")
    context = {"series": run["series"], RHO: float(run[RHO]), SEED: int(run[SEED])}
    for kind, one in landscape["surfaces"].items():
        losses = np.array(one["losses"], dtype=float)
        plane = {"directions": kind, "x": x.ravel(), "y": y.ravel(), "loss": losses.ravel()}
        parts.append(pd.DataFrame(context | plane))
    return pd.concat(parts)
