"""Every way in which the question of a study can be asked: which of them say that the gap grows?"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures import archive
from samgap.figures.evidence.results import LEAST_CELLS, LEAST_SEEDS, Series
from samgap.figures.gap import null
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.power import Line
from samgap.figures.gap.slopes import coefficients, published_slope, slopes
from samgap.figures.gap.trend import page
from samgap.figures.significance import LEVEL
from samgap.figures.table import collect

CHOICES = ("rule", "sizes", "statistic", "epoch")
Statistic = Callable[[np.ndarray], np.ndarray]


def table(one: Series) -> pd.DataFrame:
    """A row for each specification, in the order of their slopes.

    Columns: study, those of `CHOICES`, cells, seeds, slope, low, high (95 %), p (one-sided, of a rise) and says_yes. A
    set of sizes that is another one's is left out, and the best epoch where the result was kept without its runs.
    """
    rows = [
        {"study": one.text, "rule": rule, "sizes": sizes, "statistic": statistic, "epoch": epoch} | found
        for epoch, series in _epochs(one)
        for rule in series.rules
        for sizes, statistic, found in _of_rule(series, rule)
    ]
    columns = ["study", *CHOICES, "cells", "seeds", "slope", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=columns).sort_values(["slope", "p"], ascending=[True, False])
    return frame.assign(says_yes=frame["p"] < LEVEL).reset_index(drop=True)


def counts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """How many specifications say yes, for each value of each choice; the largest share first."""
    return [
        {"choice": choice, "value": value, "yes": int(rows["says_yes"].sum()), "of": len(rows)}
        for choice in CHOICES
        for value, rows in sorted(frame.groupby(choice), key=lambda one: -one[1]["says_yes"].mean())
    ]


def said(count: Mapping[str, Any]) -> str:
    """One of `counts` in words."""
    return f"{count['value']}: {count['yes']} of {count['of']}"


def _epochs(one: Series) -> Iterator[tuple[str, Series]]:
    yield "last epoch", one
    if (one.folder / archive.FOLDER).exists():
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            runs = collect(archive.restore(one.folder, root)[0], root)
        best = replace(runs, runs=runs.runs.assign(test_acc_final=runs.runs["test_acc_best"]))
        found = gaps(best, one.found.fixed_rho)
        mine = [(found.cells[axis] == value) for axis, value in one.axes.items()]
        yield "best epoch", replace(one, found=found, cells=found.cells[np.all(mine, axis=0)] if mine else found.cells)


def _of_rule(one: Series, rule: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(sizes, statistic, what it gives)."""
    values, places, cells = one.by_seed(rule)
    if len(values) < LEAST_SEEDS:
        return
    seen = set()
    for sizes, kept in _sizes(one, cells).items():
        if kept in seen or len(kept) < LEAST_CELLS:
            continue
        seen.add(kept)
        mine, where = values[:, kept], places[[*kept]]
        plain = coefficients(where, np.ones(len(kept)))
        weighted = Line.of(slopes(where, mine), slopes(where, one.nothing(rule, mine)))
        unweighted = Line.of(mine @ plain, one.nothing(rule, mine) @ plain)
        statistics: dict[str, tuple[Statistic, Line]] = {
            "trend test": (page, weighted),
            "weighted slope": (lambda gaps, where=where: _t(slopes(where, gaps)), weighted),
            "plain slope": (lambda gaps, plain=plain: _t(gaps @ plain), unweighted),
        }  # fmt: skip
        for statistic, (of, line) in statistics.items():
            tail = null.tails(float(of(mine)), lambda part, of=of, mine=mine: of(one.nothing(rule, mine, part)))
            found = {"slope": line.slope, "low": line.low, "high": line.high, "p": tail.up}
            yield sizes, statistic, {"cells": len(kept), "seeds": len(mine)} | found


def _t(values: np.ndarray) -> np.ndarray:
    """Means over seeds, the last axis, by their standard errors; 0 where all seeds are equal."""
    error = values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    found: np.ndarray = values.mean(axis=-1) / np.where(error > 0, error, np.inf)
    return found


def _sizes(one: Series, cells: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    theirs = published_slope(one.published, one.found, one.axes, one.x, cells, np.ones(len(cells)))
    return {
        "all sizes": (*range(len(cells)),),
        "without the smallest": (*range(1, len(cells)),),
        "sizes that interpolate": (*np.flatnonzero(cells["interpolates"].to_numpy(dtype=bool)).tolist(),),
        "sizes as published": theirs.shared,
    }
