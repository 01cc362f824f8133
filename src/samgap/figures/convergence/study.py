"""Does the training loss fall faster if a net interpolates, and at a linear rate?

Poster figures 1 to 3 illustrate Theorem 6: E f(x_t) <= c^t f(x_0) with c < 1, which is a straight line on a
logarithmic axis. `curves` measures curves, `contrast` and `linear` test the two claims.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from samgap.figures.convergence.curves import ABOVE, BELOW, WARM_UP, fit, load, means, rate, reference, swept, warmed_up
from samgap.figures.convergence.verdict import Verdict, diverged, judge
from samgap.figures.output import Study
from samgap.figures.table import Table, axis_label, cell_label, format_value, text_table
from samgap.runs.sweeps import RHO, SEED
from samgap.style import compact


def study(
    table: Table, keys: list[str], curves: pd.DataFrame, fits: pd.DataFrame, published: pd.DataFrame | None,
    verdicts: Sequence[Verdict],
) -> Study:  # fmt: skip
    """Return the study of the curves of a sweep.

    Args:
        table: the runs.
        keys: the columns that identify a cell: rule (a key of `RULES`, or another ascent's name), ascent.rho, the
            swept axes, params_total.
        curves: a row for each cell, seed and epoch, with column loss.
        fits: a row for each cell and seed, see `curves.fit`.
        published: published curves with columns width, params, epoch, loss.
        verdicts: verdicts on these curves.
    """
    cells, frame = _cells(fits, keys, published), means(curves, keys)
    if published is not None:
        published = published.rename(columns={"width": "model.width", "params": "params_total"})
        frame = pd.concat([frame, published.assign(who="published", rule="sam")], ignore_index=True)
    return Study(
        table=table,
        title="training loss",
        frame=frame,
        statistics={"cells": cells.to_dict("records"), "fits": fits.to_dict("records"), "warm_up": WARM_UP},
        rows=tabled(cells),
        remarks=[
            f"rate: fall of log(loss) an epoch after the first {WARM_UP:.0%} of epochs; late : middle: rate of the "
            f"last quarter of the epochs between {ABOVE:g} and {BELOW:g} of the first loss, over that of the second."
        ],
        headline={
            f"rate/{cell_label({key: cell[key] for key in keys[:-1]})}": cell["rate"] for _, cell in cells.iterrows()
        },
        verdicts=verdicts,
    )


def evaluate(table: Table, root: Path, settings: Mapping[str, Any]) -> Study:
    """Read a sweep's curves, fit them and judge the fits.

    Args:
        table: the runs.
        root: the results folder.
        settings: settings of the figure: published; linear_from, see `linear`; interpolates_from, the width from
            which nets interpolate, or None for the nets with a final training accuracy of 99.9 %.

    Raises:
        SettingError: see `curves.load`, `curves.fit` and `curves.reference`.
    """
    keys = ["rule", RHO, *swept(table), "params_total"]
    curves = load(table, root, keys)
    fits = fit(curves, keys, settings["interpolates_from"])
    published = reference(settings["published"])
    of_runs, linear_from = [record.settings for record in table.records], settings["linear_from"]
    verdicts = judge(fits, keys, means(curves, keys), published, of_runs, linear_from, diverged(table))
    return study(table, keys, curves, fits, published, verdicts)


def judge_report(report: Mapping[str, Any], frame: pd.DataFrame, settings: Mapping[str, Any]) -> list[Verdict]:
    """Judge a result that was kept without its runs, by the rates of single runs and the mean curves of cells.

    Args:
        report, frame: the result's json and csv.
        settings: see `evaluate`.

    Raises:
        SettingError: see `curves.reference`.
    """
    fits, our_curves = pd.DataFrame(report["fits"]), frame[frame["who"] == "ours"]
    keys = [str(key) for key in fits.columns[: fits.columns.get_loc(SEED)]]
    if "width" not in fits:
        fits["width"] = fits["model.width"]
    of_runs = [report["provenance"]["settings_of_first_run"]]
    published = reference(settings["published"])
    return judge(fits, keys, our_curves, published, of_runs, settings["linear_from"], {})


def _cells(fits: pd.DataFrame, keys: list[str], published: pd.DataFrame | None) -> pd.DataFrame:
    rows = []
    for values, runs in fits.groupby(keys, sort=False):
        row = dict(zip(keys, values, strict=True)) | {"n": len(runs), "loss_last": runs["loss_last"].mean()}
        row["interpolates"] = bool(runs["interpolates"].all())
        row |= {"rate": runs["rate"].mean(), "rate_se": runs["rate"].sem()}
        row["late"] = runs["late"].mean(skipna=False)
        if published is not None:
            curve = warmed_up(published[(published["width"] == runs["width"].iloc[0]) & (row["rule"] == "sam")])
            row["published_rate"] = rate(curve["epoch"], curve["loss"]) if len(curve) > 2 else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def tabled(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the table of cells as texts; the columns before params_total identify a cell."""
    keys = [str(key) for key in cells.columns[: cells.columns.get_loc("params_total")]]
    rows = []
    for _, cell in cells.iterrows():
        row = {axis_label(axis): format_value(cell[axis]) for axis in keys}
        row |= {
            "parameters": compact(cell["params_total"]),
            "n": str(cell["n"]),
            "loss, last": f"{cell['loss_last']:.3g}",
            "fits": "yes" if cell["interpolates"] else "no",
            "rate": f"{cell['rate']:.4f}",
            "s.e.": format_value(cell["rate_se"], ".4f"),
            "halves in": f"{math.log(2) / cell['rate']:.1f}" if cell["rate"] > 0 else "never",
            "late : middle": format_value(cell["late"], ".2f"),
        }
        if "published_rate" in cells:
            row["published rate"] = format_value(cell["published_rate"], ".4f")
        rows.append(row)
    return text_table(rows)
