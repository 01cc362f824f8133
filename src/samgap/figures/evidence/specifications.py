"""All reasonable analyses of a study, called specifications: which of them find that the gap grows?"""

import functools
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
from samgap.figures.gap.power import Slope
from samgap.figures.gap.slopes import coefficients, published_slope, slopes
from samgap.figures.significance import LEVEL, pages_l
from samgap.figures.table import collect

CHOICES = ("rule", "sizes", "statistic", "epoch")
WORDS = {  # for rules of choosing rho, and for sizes
    "paper": "best ρ on the test set",
    "holdout": "ρ by held-out images",
    "loso": "ρ by the other seeds",
    "quadratic": "ρ by a parabola",
    "fixed": "one ρ for all sizes",
    "sizes that interpolate": "sizes that fit all data",
}
OfGaps = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of places (cells,) and gaps (..., seeds, cells)


def table(one: Series) -> pd.DataFrame:
    """A row for each specification, in the order of their slopes.

    Columns: study, those of `CHOICES`, cells, seeds, slope, low, high (95 %), p (one-sided, of a rise) and says_yes.
    Sets of sizes that repeat another are left out, and so is the best epoch if a result was kept without its runs.
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
    """The number of specifications that find a rise, for each value of each choice; the largest share first."""
    return [
        {"choice": choice, "value": value, "yes": int(rows["says_yes"].sum()), "of": len(rows)}
        for choice in CHOICES
        for value, rows in sorted(frame.groupby(choice), key=lambda one: -one[1]["says_yes"].mean())
    ]


def said(count: Mapping[str, Any]) -> str:
    """Return one of `counts` as text."""
    return f"{WORDS.get(count['value'], count['value'])}: {count['yes']} of {count['of']}"


def _epochs(one: Series) -> Iterator[tuple[str, Series]]:
    yield "last epoch", one
    if (one.folder / archive.FOLDER).exists():
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            runs = collect(archive.restore(one.folder, root)[0], root)
        best = replace(runs, runs=runs.runs.assign(scored_acc_final=runs.runs["test_acc_best"]))
        found = gaps(best, one.found.fixed_rho)
        mine = [(found.cells[axis] == value) for axis, value in one.axes.items()]
        yield "best epoch", replace(one, found=found, cells=found.cells[np.all(mine, axis=0)] if mine else found.cells)


def _of_rule(one: Series, rule: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (sizes, statistic, results) of a protocol."""
    by_seed, places, cells = one.by_seed(rule)
    values = by_seed.to_numpy()
    if len(values) < LEAST_SEEDS:
        return
    seen = set()
    for sizes, kept in _sizes(one, cells).items():
        if kept in seen or len(kept) < LEAST_CELLS:
            continue
        seen.add(kept)
        mine, where = values[:, kept], places[[*kept]]
        nothing = one.nothing(rule, mine)
        for statistic, (of, slopes_of) in STATISTICS.items():
            line = Slope.of(slopes_of(where, mine), slopes_of(where, nothing))
            tail = null.tails(float(of(where, mine)), functools.partial(_without, of, one, rule, where, mine))
            found = {"slope": line.slope, "low": line.low, "high": line.high, "p": tail.up}
            yield sizes, statistic, {"cells": len(kept), "seeds": len(mine)} | found


def _without(of: OfGaps, one: Series, rule: str, places: np.ndarray, gaps: np.ndarray, part: int) -> np.ndarray:
    return of(places, one.nothing(rule, gaps, part))


def _plain(places: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    return gaps @ coefficients(places, np.ones(len(places)))


# Test statistic, compared with studies without effect, and the slope that is reported with it.
STATISTICS: dict[str, tuple[OfGaps, OfGaps]] = {
    "trend test": (lambda _, gaps: pages_l(gaps), slopes),
    "weighted slope": (lambda places, gaps: null.standardized(slopes(places, gaps)), slopes),
    "plain slope": (lambda places, gaps: null.standardized(_plain(places, gaps)), _plain),
}


def _sizes(one: Series, cells: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    theirs = published_slope(one, cells, np.ones(len(cells)))
    return {
        "all sizes": (*range(len(cells)),),
        "without the smallest": (*range(1, len(cells)),),
        "sizes that interpolate": (*np.flatnonzero(cells["interpolates"].to_numpy(dtype=bool)).tolist(),),
        "sizes as published": theirs.shared,
    }
