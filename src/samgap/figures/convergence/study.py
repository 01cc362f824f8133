"""Does the training loss fall at a linear rate where a net interpolates, and more slowly where it does not?

Poster figures 1 to 3 illustrate Theorem 6: E f(x_t) <= c^t f(x_0) with c < 1, which is a straight line on a
logarithmic axis. `curves` defines rate and straightness, and `verdict` tests them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures.convergence.curves import WARM_UP, fit, load, rate, reference, settled, straightness, swept
from samgap.figures.convergence.verdict import Verdict, all_diverged, diverged, judge
from samgap.figures.significance import above
from samgap.figures.table import Table, axis_label, cell_label, collect, shown
from samgap.runs import sweeps
from samgap.runs.sweeps import RHO
from samgap.style import compact


@dataclass(frozen=True)
class Convergence:
    """The curves of one sweep, with their fits and verdicts.

    `keys` are the columns that identify a cell: rule (a key of `RULES`, or another ascent's name), ascent.rho, the
    swept axes, params_total. `curves` has a row for each cell, seed and epoch, with column loss. `fits` has a row for
    each cell and seed. `cells` has a row for each cell, with the published rate.
    """

    table: Table
    keys: list[str]
    curves: pd.DataFrame
    fits: pd.DataFrame
    cells: pd.DataFrame
    published: pd.DataFrame | None  # width, params, epoch, loss
    verdicts: list[Verdict]

    title: ClassVar[str] = "training loss"

    def frame(self) -> pd.DataFrame:
        """Return the published curves and those of all cells: mean log(loss) ± its standard error, as losses."""
        logs = self.curves.assign(log=np.log(self.curves["loss"])).groupby([*self.keys, "epoch"], sort=False)["log"]
        ours = logs.agg(["mean", "sem", "count"]).reset_index().rename(columns={"count": "n"}).assign(who="ours")
        error = ours.pop("sem").fillna(0)
        middle = ours.pop("mean")
        for name, log in (("loss", middle), ("loss_low", middle - error), ("loss_high", middle + error)):
            ours[name] = [float(f"{value:.6g}") for value in np.exp(log)]
        if self.published is None:
            return ours
        theirs = self.published.rename(columns={"width": "model.width", "params": "params_total"})
        return pd.concat([ours, theirs.assign(who="published", rule="sam")], ignore_index=True)

    def statistics(self) -> dict[str, Any]:
        """Return the rates and straightness of cells and of runs."""
        return {"cells": self.cells.to_dict("records"), "fits": self.fits.to_dict("records"), "warm_up": WARM_UP}

    def rows(self) -> pd.DataFrame:
        """Return a row for each cell."""
        return tabled(self.cells)

    def remarks(self) -> list[str]:
        """Return a sentence that explains the columns."""
        return [
            f"rate: fall of log(loss) an epoch after the first {WARM_UP:.0%} of epochs; straightness: above 0 where a "
            "linear rate fits better than a power law."
        ]

    def headline(self) -> dict[str, Any]:
        """Return the rate and straightness of each cell."""
        return {
            f"{name}/{cell_label({key: cell[key] for key in self.keys[:-1]})}": cell[name]
            for _, cell in self.cells.iterrows()
            for name in ("rate", "straightness")
        }


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any]) -> Convergence:
    """Read a sweep's curves, fit them and judge the fits.

    Args:
        root: the results folder.
        name, scale: of the sweep.
        settings: of the figure: published, and interpolates_from, the width from which nets can interpolate; None
            counts nets with a final training accuracy of 99.9 %.

    Raises:
        SettingError: interpolates_from is not a number; see also `table.collect`, `curves.load`, `curves.fit` and
            `curves.reference`.
    """
    table = collect(sweeps.read(root, name, scale), root)
    least = settings["interpolates_from"]
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | float)):
        raise SettingError(f"draw.interpolates_from must be a number, or null, got {said(least)}.")
    keys = ["rule", RHO, *swept(table), "params_total"]
    curves = load(table, root, keys)
    fits = fit(curves, keys, least)
    theirs = reference(settings["published"])
    cells = _cells(fits, keys, theirs)
    lost = diverged(table)
    found = [judge(part, fits, keys, lost) for _, part in cells.groupby(["rule", RHO], sort=False)]
    judged = {*zip(cells["rule"], cells[RHO], strict=True)}
    found += [all_diverged(*key, runs) for key, runs in lost.items() if key not in judged]
    return Convergence(table, keys, curves, fits, cells, theirs, found)


def _cells(fits: pd.DataFrame, keys: list[str], theirs: pd.DataFrame | None) -> pd.DataFrame:
    rows = []
    for values, runs in fits.groupby(keys, sort=False):
        row = dict(zip(keys, values, strict=True)) | {"n": len(runs), "loss_last": runs["loss_last"].mean()}
        row["interpolates"] = bool(runs["interpolates"].all())
        for name in ("rate", "straightness"):
            row |= {name: runs[name].mean(), f"{name}_se": runs[name].sem()}
        row["linear_p"] = above(runs["straightness"])
        if theirs is not None:
            curve = theirs[(theirs["width"] == runs["width"].iloc[0]) & (row["rule"] == "sam")]
            late = settled(curve)
            for name, of in (("rate", rate), ("straightness", straightness)):
                row[f"published_{name}"] = of(late["epoch"], late["loss"]) if len(late) > 2 else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def tabled(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as texts for a table. The columns before params_total identify a cell."""
    keys = [str(key) for key in cells.columns[: cells.columns.get_loc("params_total")]]
    rows = []
    for _, cell in cells.iterrows():
        row = {axis_label(axis): value if isinstance(value := cell[axis], str) else f"{value:g}" for axis in keys}
        row |= {
            "parameters": compact(cell["params_total"]),
            "n": str(cell["n"]),
            "loss, last": f"{cell['loss_last']:.3g}",
            "interpolates": "yes" if cell["interpolates"] else "no",
            "rate": f"{cell['rate']:.4f}",
            "s.e.": f"{cell['rate_se']:.4f}" if pd.notna(cell["rate_se"]) else "",
            "halves in": f"{math.log(2) / cell['rate']:.1f}" if cell["rate"] > 0 else "never",
            "straightness": f"{cell['straightness']:+.2f}",
            "p linear": f"{cell['linear_p']:.2g}" if pd.notna(cell["linear_p"]) else "",
        }
        if "published_rate" in cells:
            known = pd.notna(cell["published_rate"])
            row["published rate"] = f"{cell['published_rate']:.4f}" if known else ""
            row["and straightness"] = f"{cell['published_straightness']:+.2f}" if known else ""
        rows.append(row)
    return shown(rows)
