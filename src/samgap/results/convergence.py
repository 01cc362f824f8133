"""Does the training loss fall at a linear rate where a net interpolates, and more slowly where it does not?

Poster figures 1 to 3, which go with Theorem 6: E f(x_t) <= c^t f(x_0), c < 1, a straight line where the axis of the
loss is logarithmic. `curves` says what rate and straightness are. Seeds are independent and no rho is chosen, so
Student's t gives the p values.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from samgap.errors import SettingError
from samgap.plots.style import short as count
from samgap.results import sweeps
from samgap.results.curves import RULES, WARM_UP, fit, load, rate, reference, settled, straightness, swept
from samgap.results.output import Answer, Judgment
from samgap.results.sweeps import RHO, SEED
from samgap.results.table import Table, collect, short

LEVEL = 0.05


@dataclass(frozen=True)
class Verdict(Judgment):
    """The answer for one rule of the step.

    `linear_p` is the largest over the cells that interpolate, each tested for a straightness above 0; `slower_p` is the
    largest over all pairs of a cell that does and one that does not, each tested for a larger rate of the first, paired
    by seed, and `faster_p` the largest for a larger rate of the second. All one-sided.
    """

    seeds: int  # of the cell that has fewest
    diverged: int  # runs
    interpolating: int  # cells
    others: int
    linear_p: float
    sublinear_p: float  # the smallest, for a straightness below 0, corrected for their number
    slower_p: float
    faster_p: float


@dataclass(frozen=True)
class Convergence:
    """The curves of one sweep and what was made of them.

    `keys` are the columns that make a cell: rule (a key of `RULES`, or another ascent's name), ascent.rho, the swept
    axes, params_total. `curves` has a row a cell, seed and epoch, with column loss; `fits` a row a cell and seed;
    `cells` a row a cell, with the published rate beside.
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
        """The curve of every cell, of the mean of log(loss) with its standard error, and the published points."""
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
        """Rates and straightness."""
        return {"cells": self.cells.to_dict("records"), "fits": self.fits.to_dict("records"), "warm_up": WARM_UP}

    def text(self) -> list[str]:
        """A row a rule and cell."""
        rows = []
        for _, cell in self.cells.iterrows():
            row = {
                short(axis): value if isinstance(value := cell[axis], str) else f"{value:g}" for axis in self.keys[:-1]
            }
            row |= {
                "parameters": count(cell["params_total"]),
                "n": str(cell["n"]),
                "loss, last": f"{cell['loss_last']:.3g}",
                "interpolates": "yes" if cell["interpolates"] else "no",
                "rate": f"{cell['rate']:.4f}",
                "s.e.": f"{cell['rate_se']:.4f}",
                "halves in": f"{math.log(2) / cell['rate']:.1f}" if cell["rate"] > 0 else "never",
                "straightness": f"{cell['straightness']:+.2f}",
                "p linear": f"{cell['linear_p']:.2g}",
            }
            if self.published is not None:
                known = pd.notna(cell["published_rate"])
                row["published rate"] = f"{cell['published_rate']:.4f}" if known else ""
                row["and straightness"] = f"{cell['published_straightness']:+.2f}" if known else ""
            rows.append(row)
        return [
            pd.DataFrame(rows).to_string(index=False),
            "",
            f"rate: fall of log(loss) an epoch after the first {WARM_UP:.0%} of epochs; straightness: above 0 where a "
            "linear rate fits better than a power law.",
        ]


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any], protocol: str) -> Convergence:
    """Read a sweep's curves and work everything out.

    Args:
        root: where results lie.
        name, scale: of the sweep.
        settings: the `draw` group: published; interpolates_from, the width from which nets can interpolate, or null to
            tell by a final training accuracy of 99.9 %.
        protocol: of choosing rho; not used, since every rho is a series of its own.

    Raises:
        SettingError: see `table.collect`; also a run of too few epochs, an axis that is no number, or a published
            table that has no curves.
    """
    table = collect(sweeps.read(root, name, scale), root)
    least = settings["interpolates_from"]
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | float)):
        raise SettingError(f"draw.interpolates_from must be a number, or null, got {least!r}.")
    if least is not None and "model.width" not in table.sweep.axes:
        raise SettingError("draw.interpolates_from is a width, and model.width was not swept: set it to null.")
    keys = ["rule", RHO, *swept(table), "params_total"]
    curves = load(table, root, keys)
    fits = fit(curves, keys, least)
    theirs = reference(settings["published"])
    cells = _cells(fits, keys, theirs)
    lost = _diverged(table)
    found = [_judge(part, fits, keys, lost) for _, part in cells.groupby(["rule", RHO], sort=False)]
    judged = {*zip(cells["rule"], cells[RHO], strict=True)}
    found += [_all_diverged(*key, runs) for key, runs in lost.items() if key not in judged]
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
            curve = theirs[(theirs["width"] == row.get("model.width")) & (row["rule"] == "sam")]
            late = settled(curve)
            for name, of in (("rate", rate), ("straightness", straightness)):
                row[f"published_{name}"] = of(late["epoch"], late["loss"]) if len(late) > 2 else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def above(values: Any) -> float:
    """One-sided p value of a mean above 0, by Student's t; nan of fewer than two values."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return math.nan if values[0] == 0 else float(values[0] < 0)
    return float(stats.t.sf(values.mean() / error, len(values) - 1))


def _diverged(table: Table) -> Counter[tuple[str, float]]:
    """How many runs of each rule and rho have no curve to the end."""
    return Counter(
        (record.settings["ascent"]["name"] if record.rho else "sgd", record.rho)
        for record in table.records
        if record.status == "diverged"
    )


def _judge(
    cells: pd.DataFrame,
    fits: pd.DataFrame,
    keys: list[str],
    lost: Mapping[tuple[str, float], int] = MappingProxyType({}),
) -> Verdict:
    """The answer for one rule: straight where it interpolates, and faster there."""
    rule, rho = str(cells["rule"].iloc[0]), float(cells[RHO].iloc[0])
    diverged = lost.get((rule, rho), 0)
    mine = fits[(fits["rule"] == rule) & (fits[RHO] == rho)]
    fits_of = [runs.set_index(SEED) for _, runs in mine.groupby(keys, sort=False)]
    inside, outside = (
        [runs for runs, fits_all in zip(fits_of, cells["interpolates"], strict=True) if fits_all == side]
        for side in (True, False)
    )
    pairs = [(one["rate"], other["rate"]) for one in inside for other in outside]
    linear_p = _largest(above(runs["straightness"]) for runs in inside)
    # The smallest of several p values is small by chance; Bonferroni's correction.
    sublinear_p = min(1.0, len(inside) * _smallest(above(-runs["straightness"]) for runs in inside))
    slower_p = _largest(above((one - other).dropna()) for one, other in pairs)
    faster_p = _largest(above((other - one).dropna()) for one, other in pairs)
    seeds = min(len(runs) for runs in fits_of)
    answer, reason = _answer(diverged, seeds, len(inside), len(outside), linear_p, sublinear_p, slower_p, faster_p)
    return Verdict(
        _named(rule, rho),
        answer,
        reason,
        seeds,
        diverged,
        len(inside),
        len(outside),
        linear_p,
        sublinear_p,
        slower_p,
        faster_p,
    )


def _all_diverged(rule: str, rho: float, runs: int) -> Verdict:
    nan = math.nan
    return Verdict(_named(rule, rho), "inconclusive", f"all {runs} run(s) diverged", 0, runs, 0, 0, nan, nan, nan, nan)


def _named(rule: str, rho: float) -> str:
    return RULES.get(rule, rule) + (f" at rho={rho:g}" if rho else "")


def _largest(values: Iterable[float]) -> float:
    """The largest p value; nan, which no test passes, where one is nan or there is none."""
    return float(np.max([*values] or [math.nan]))


def _smallest(values: Iterable[float]) -> float:
    """The smallest p value that is a number; 1 where there is none."""
    return min((value for value in values if not math.isnan(value)), default=1.0)


def _answer(
    diverged: int,
    seeds: int,
    inside: int,
    outside: int,
    linear_p: float,
    sublinear_p: float,
    slower_p: float,
    faster_p: float,
) -> tuple[Answer, str]:
    if diverged:
        return "inconclusive", f"{diverged} run(s) diverged, and what is left would be a choice of the best"
    if not inside:
        return "inconclusive", "no net interpolates, and the claim is about those that do"
    if sublinear_p < LEVEL:
        return (
            "not reproduced",
            f"where nets interpolate a power law fits better than a linear rate (p = {sublinear_p:.3g})",
        )
    if faster_p < LEVEL:
        return "not reproduced", f"the loss falls faster where nets do not interpolate (p = {faster_p:.3g})"
    if seeds < 2:
        return "inconclusive", "a test wants 2 seeds in every cell, and one has 1"
    linear = f"a linear rate fits better than a power law where nets interpolate (p = {linear_p:.3g})"
    if not linear_p < LEVEL:
        return "inconclusive", f"neither a linear rate nor a power law fits better (p = {linear_p:.3g} for the first)"
    if not outside:
        return "inconclusive", f"{linear}, and all do, so that none is left to compare their rates with"
    if not slower_p < LEVEL:
        return "inconclusive", f"{linear}, but their rate is not proved larger than the others' (p = {slower_p:.3g})"
    return "reproduced", f"{linear}, and the loss falls more slowly where they do not (p = {slower_p:.3g})"
