"""Does the training loss fall faster where a net interpolates, and at a linear rate?

Poster figures 1 to 3 illustrate Theorem 6: E f(x_t) <= c^t f(x_0) with c < 1, which is a straight line on a
logarithmic axis. `curves` measures curves, `contrast` and `linear` ask the two questions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from samgap.errors import SettingError, said
from samgap.figures.convergence.curves import ABOVE, BELOW, WARM_UP, fit, load, means, rate, reference, settled, swept
from samgap.figures.convergence.verdict import Verdict, diverged, judge
from samgap.figures.table import Table, axis_label, cell_label, collect, shown
from samgap.runs import sweeps
from samgap.runs.sweeps import RHO, SEED
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
        """Return the published curves and those of all cells, see `curves.means`."""
        ours = means(self.curves, self.keys)
        if self.published is None:
            return ours
        theirs = self.published.rename(columns={"width": "model.width", "params": "params_total"})
        return pd.concat([ours, theirs.assign(who="published", rule="sam")], ignore_index=True)

    def statistics(self) -> dict[str, Any]:
        """Return the rates of cells and of runs."""
        return {"cells": self.cells.to_dict("records"), "fits": self.fits.to_dict("records"), "warm_up": WARM_UP}

    def rows(self) -> pd.DataFrame:
        """Return a row for each cell."""
        return tabled(self.cells)

    def remarks(self) -> list[str]:
        """Return a sentence that explains the columns."""
        return [
            f"rate: fall of log(loss) an epoch after the first {WARM_UP:.0%} of epochs; late : middle: rate of the "
            f"last quarter of the epochs between {ABOVE:g} and {BELOW:g} of the first loss, over that of the second."
        ]

    def headline(self) -> dict[str, Any]:
        """Return the rate of each cell."""
        return {
            f"rate/{cell_label({key: cell[key] for key in self.keys[:-1]})}": cell["rate"]
            for _, cell in self.cells.iterrows()
        }


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any]) -> Convergence:
    """Read a sweep's curves, fit them and judge the fits.

    Args:
        root: the results folder.
        name, scale: of the sweep.
        settings: of the figure: published; interpolates_from, the width from which nets can interpolate; None
            counts nets with a final training accuracy of 99.9 %; linear_from, see `linear`.

    Raises:
        SettingError: interpolates_from or linear_from is not such a number; see also `table.collect`, `curves.load`,
            `curves.fit` and `curves.reference`.
    """
    table = collect(sweeps.read(root, name, scale), root)
    least = settings["interpolates_from"]
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | float)):
        raise SettingError(f"draw.interpolates_from must be a number, or null, got {said(least)}.")
    bound = settings["linear_from"]
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < 1:
        raise SettingError(f"draw.linear_from must be a number above 0 and below 1, got {said(bound)}.")
    keys = ["rule", RHO, *swept(table), "params_total"]
    curves = load(table, root, keys)
    fits = fit(curves, keys, least)
    theirs = reference(settings["published"])
    cells = _cells(fits, keys, theirs)
    found = judge(fits, keys, means(curves, keys), theirs, table.records[0].settings, bound, diverged(table))
    return Convergence(table, keys, curves, fits, cells, theirs, found)


def kept(report: Mapping[str, Any], frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Verdict]:
    """Judge a result that was kept without its runs: of single runs it has rates, of cells mean curves.

    Args:
        report, frame: its json and csv.
        settings: see `evaluate`.
    """
    fits, ours = pd.DataFrame(report["fits"]), frame[frame["who"] == "ours"]
    keys = [str(key) for key in fits.columns[: fits.columns.get_loc(SEED)]]
    if "width" not in fits:
        fits["width"] = fits["model.width"]
    first = report["provenance"]["settings_of_first_run"]
    theirs = reference(settings["published"])
    return judge(fits, keys, ours, theirs, first, settings["linear_from"], {})


def _cells(fits: pd.DataFrame, keys: list[str], theirs: pd.DataFrame | None) -> pd.DataFrame:
    rows = []
    for values, runs in fits.groupby(keys, sort=False):
        row = dict(zip(keys, values, strict=True)) | {"n": len(runs), "loss_last": runs["loss_last"].mean()}
        row["interpolates"] = bool(runs["interpolates"].all())
        row |= {"rate": runs["rate"].mean(), "rate_se": runs["rate"].sem()}
        row["late"] = runs["late"].mean(skipna=False)
        if theirs is not None:
            curve = settled(theirs[(theirs["width"] == runs["width"].iloc[0]) & (row["rule"] == "sam")])
            row["published_rate"] = rate(curve["epoch"], curve["loss"]) if len(curve) > 2 else math.nan
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
            "fits": "yes" if cell["interpolates"] else "no",
            "rate": f"{cell['rate']:.4f}",
            "s.e.": f"{cell['rate_se']:.4f}" if pd.notna(cell["rate_se"]) else "",
            "halves in": f"{math.log(2) / cell['rate']:.1f}" if cell["rate"] > 0 else "never",
            "late : middle": f"{cell['late']:.2f}" if pd.notna(cell["late"]) else "",
        }
        if "published_rate" in cells:
            row["published rate"] = f"{cell['published_rate']:.4f}" if pd.notna(cell["published_rate"]) else ""
        rows.append(row)
    return shown(rows)
