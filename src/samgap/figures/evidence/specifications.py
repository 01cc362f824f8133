"""Specification curve: which of all reasonable analyses of a study (specifications) find that the gap grows?"""

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
WORDS = {  # texts for rules of choosing rho, and for sets of sizes
    "paper": "best ρ on the test set",
    "holdout": "ρ by held-out images",
    "loso": "ρ by the other seeds",
    "quadratic": "ρ by a parabola",
    "fixed": "one ρ for all sizes",
    "sizes that interpolate": "sizes that fit all data",
}
OfGaps = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of positions (cells,) and gaps (..., seeds, cells)


def table(series: Series) -> pd.DataFrame:
    """Return a row for each specification of a series, in the order of their slopes.

    Columns: study, those of `CHOICES`, cells, seeds, slope, low, high (95 %), p (one-sided, of a rise) and says_yes.
    A borderline p says no. Repeated sets of sizes are left out, and so is the best epoch if a result was kept without
    its runs, or if its runs evaluate only the last epoch.
    """
    rows = [
        {"study": series.text, "rule": rule, "sizes": sizes, "statistic": statistic, "epoch": epoch} | results
        for epoch, variant in _epochs(series)
        for rule in series.rules
        for sizes, statistic, results in _of_rule(variant, rule)
    ]
    columns = ["study", *CHOICES, "cells", "seeds", "slope", "low", "high", "p", "says_yes"]
    frame = pd.DataFrame(rows, columns=columns).sort_values(["slope", "p"], ascending=[True, False])
    return frame.reset_index(drop=True)


def counts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the specifications that find a rise, for each value of each choice; the largest share comes first."""
    return [
        {"choice": choice, "value": value, "yes": int(rows["says_yes"].sum()), "of": len(rows)}
        for choice in CHOICES
        for value, rows in sorted(frame.groupby(choice), key=lambda item: -item[1]["says_yes"].mean())
    ]


def said(count: Mapping[str, Any]) -> str:
    """Return a row of `counts` as text."""
    return f"{WORDS.get(count['value'], count['value'])}: {count['yes']} of {count['of']}"


def _epochs(series: Series) -> Iterator[tuple[str, Series]]:
    yield "last epoch", series
    if (series.folder / archive.FOLDER).exists():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            runs = collect(archive.restore(series.folder, root)[0], root)
        best_acc, last_acc = (runs.runs[f"test_acc_{which}"].astype(float) for which in ("best", "final"))
        if best_acc.equals(last_acc):  # diverged runs have neither
            return
        best = replace(runs, runs=runs.runs.assign(scored_acc_final=best_acc))
        best_gaps = gaps(best, series.gaps.fixed_rho)
        matches = [(best_gaps.cells[axis] == value) for axis, value in series.axes.items()]
        cells = best_gaps.cells[np.all(matches, axis=0)] if matches else best_gaps.cells
        yield "best epoch", replace(series, gaps=best_gaps, cells=cells)


def _of_rule(series: Series, rule: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (sizes, statistic, results) for each specification with a protocol."""
    by_seed, positions, cells = series.by_seed(rule)
    values = by_seed.to_numpy()
    if len(values) < LEAST_SEEDS:
        return
    seen = set()
    for sizes, indices in _sizes(series, cells).items():
        if indices in seen or len(indices) < LEAST_CELLS:
            continue
        seen.add(indices)
        gaps_, positions_ = values[:, indices], positions[[*indices]]
        null_gaps = series.null_gaps(rule, gaps_)
        for statistic, (statistic_of, slopes_of) in STATISTICS.items():
            fit = Slope.of(slopes_of(positions_, gaps_), slopes_of(positions_, null_gaps))
            simulate = functools.partial(_simulated, statistic_of, series, rule, positions_, gaps_)
            p_values = null.p_values(float(statistic_of(positions_, gaps_)), simulate)
            yes = p_values.up < LEVEL and not p_values.borderline
            results = {"slope": fit.slope, "low": fit.low, "high": fit.high, "p": p_values.up, "says_yes": yes}
            yield sizes, statistic, {"cells": len(indices), "seeds": len(gaps_)} | results


def _simulated(of: OfGaps, series: Series, rule: str, x: np.ndarray, gaps: np.ndarray, part: int) -> np.ndarray:
    return of(x, series.null_gaps(rule, gaps, part))


def _plain(positions: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    return np.asarray(gaps @ coefficients(positions, np.ones(len(positions))))


def _t(slopes: np.ndarray) -> np.ndarray:
    """Return the t statistic (...) of slopes (..., seeds); 0 if all seeds are equal."""
    error = slopes.std(axis=-1, ddof=1) / np.sqrt(slopes.shape[-1])
    return np.asarray(slopes.mean(axis=-1) / np.where(error > 0, error, np.inf))


# Name -> test statistic, which is compared with studies without effect, and the slope that is reported with it.
STATISTICS: dict[str, tuple[OfGaps, OfGaps]] = {
    "trend test": (lambda _, gaps: pages_l(gaps), slopes),
    "weighted slope": (lambda positions, gaps: _t(slopes(positions, gaps)), slopes),
    "plain slope": (lambda positions, gaps: _t(_plain(positions, gaps)), _plain),
}


def _sizes(series: Series, cells: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    published = published_slope(series, cells, np.ones(len(cells)))
    return {
        "all sizes": (*range(len(cells)),),
        "without the smallest": (*range(1, len(cells)),),
        "sizes that interpolate": (*np.flatnonzero(cells["interpolates"].to_numpy(dtype=bool)).tolist(),),
        "sizes as published": published.shared,
    }
