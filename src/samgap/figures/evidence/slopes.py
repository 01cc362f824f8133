"""The slope of every study and of every published table, and their mean.

The mean is that of a random-effects model: DerSimonian and Laird (1986) for the variance between studies, Hartung and
Knapp (2001) for the interval, which is never shorter than with a factor of 1 (Roever, Knapp and Friede 2015).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from samgap.figures import published
from samgap.figures.evidence.results import CONDITIONS, DECADE, LEAST_CELLS, LEAST_SEEDS, OFF, Series, same_runs
from samgap.figures.gap.power import Slope
from samgap.figures.gap.series import position
from samgap.figures.gap.slopes import coefficients, slopes
from samgap.figures.table import cell_label

MEAN = "mean"
NORMAL = float(special.ndtri(0.975))


def pooled(effects: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """The mean of effects (studies,) with their standard errors, for two studies or more, as columns of `table`.

    tau is the standard deviation between studies, q Cochran's Q, and q_p the chance of such a Q or a larger one if all
    studies have the same effect.
    """
    free, weights = len(effects) - 1, errors**-2.0
    q = float((weights * (effects - np.average(effects, weights=weights)) ** 2).sum())
    tau2 = max(0.0, (q - free) / (weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (errors**2 + tau2)
    mean = float(np.average(effects, weights=weights))
    factor = max(1.0, float((weights * (effects - mean) ** 2).sum()) / free)
    half_width = float(special.stdtrit(free, 0.975)) * math.sqrt(factor / weights.sum())
    ends = {"low": mean - half_width, "high": mean + half_width}
    return {"slope": mean} | ends | {"tau": math.sqrt(tau2), "q": q, "q_p": float(special.chdtrc(free, q))}


def table(several: list[Series]) -> pd.DataFrame:
    """A row for each series and protocol, each published series, and each mean.

    Columns: study, data, unit, rule (the protocol), unbiased (whether it is that of the verdict), sizes, seeds, slope,
    low, high (95 %), left_out (why it is in no mean), in_mean; means also have tau, q and q_p.
    """
    rows = [*_ours(several), *_published()]
    frame = pd.DataFrame(rows)
    return pd.concat([frame, pd.DataFrame(_means(frame))], ignore_index=True)


def _ours(several: list[Series]) -> Iterator[dict[str, Any]]:
    shared = same_runs(several)
    for one in several:
        for rule in one.rules:
            values, places, cells = one.by_seed(rule)
            gaps = values.to_numpy()
            if len(gaps) < LEAST_SEEDS or len(cells) < 2:
                continue
            line = Slope.of(slopes(places, gaps), slopes(places, one.nothing(rule, gaps)))
            why = f"the runs of {shared[one].text}" if one in shared else one.conditions
            why = why or ("two sizes" if len(cells) < LEAST_CELLS else "")
            yield {
                "study": one.text, "data": one.settings["data.name"], "unit": one.unit, "rule": rule,
                "unbiased": rule == one.found.unbiased, "sizes": len(cells), "seeds": len(gaps), "slope": line.slope,
                "low": line.low, "high": line.high, "left_out": why, "in_mean": not why and one.unit == DECADE,
            }  # fmt: skip


def _published() -> Iterator[dict[str, Any]]:
    for name in published.names():
        rows = published.load(name)
        if "gap" not in rows:
            continue
        x = "pruner.sparsity" if "pruner.sparsity" in rows else "params"
        axes = [axis for axis in map(str, rows) if "." in axis and axis != x]
        for values, mine in rows.groupby(axes) if axes else [((), rows)]:
            across = coefficients(position(x, mine[x]), np.ones(len(mine)))
            slope = float(across @ mine["gap"])
            half_width = NORMAL * float(np.linalg.norm(across * mine.get("gap_band", math.nan)))
            noisy = {axis: v for axis, v in zip(axes, values, strict=True) if axis in CONDITIONS and v not in OFF}
            unit = DECADE if x == "params" else x
            why = cell_label(noisy) or ("" if math.isfinite(half_width) else "no error published")
            text = ", ".join([f"published {name}", *(f"{value:g}" for value in noisy.values())])
            yield {
                "study": text, "data": published.data(name), "unit": unit, "rule": "published", "unbiased": False,
                "sizes": len(mine), "slope": slope, "low": slope - half_width, "high": slope + half_width,
                "left_out": why, "in_mean": not why and unit == DECADE,
            }  # fmt: skip


def _means(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the mean slope for the protocol of the verdict, for each protocol, and for the published tables."""
    counted = frame[frame["in_mean"]]
    groups = [("unbiased", counted[counted["unbiased"]]), *counted.groupby("rule", sort=False)]
    for rule, rows in groups:
        if len(rows) > 1:
            # Unlike a standard error, an interval shows how uncertain the noise of few seeds is.
            yield {
                "study": MEAN, "data": ", ".join(dict.fromkeys(rows["data"])), "unit": rows["unit"].iloc[0],
                "rule": rule, "unbiased": rule == "unbiased", "sizes": len(rows), "left_out": "", "in_mean": False,
            } | pooled(rows["slope"].to_numpy(), ((rows["high"] - rows["low"]) / 2 / NORMAL).to_numpy())  # fmt: skip
