"""The slopes of all studies and published tables, and their means.

The mean is that of a random-effects model: DerSimonian and Laird (1986) for the variance between studies, Hartung and
Knapp (2001) for the interval, whose variance factor is at least 1 (Roever, Knapp and Friede 2015).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Pooled:
    """A random-effects mean."""

    mean: float
    low: float  # 95 %
    high: float
    tau: float  # standard deviation between studies
    q: float  # Cochran's Q
    p: float  # of this Q or a larger one, if all studies have the same effect


def pooled(effects: np.ndarray, errors: np.ndarray) -> Pooled:
    """Return the mean of effects (studies,) with standard errors (studies,), for two studies or more."""
    degrees, weights = len(effects) - 1, errors**-2.0
    q = float((weights * (effects - np.average(effects, weights=weights)) ** 2).sum())
    tau2 = max(0.0, (q - degrees) / (weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (errors**2 + tau2)
    mean = float(np.average(effects, weights=weights))
    factor = max(1.0, float((weights * (effects - mean) ** 2).sum()) / degrees)
    half_width = float(special.stdtrit(degrees, 0.975)) * math.sqrt(factor / weights.sum())
    return Pooled(mean, mean - half_width, mean + half_width, math.sqrt(tau2), q, float(special.chdtrc(degrees, q)))


def table(all_series: list[Series]) -> pd.DataFrame:
    """Return a row for each series and protocol, each published series, and each mean.

    Columns: study, data, unit, rule (the protocol), unbiased (whether it is the verdict's), sizes, seeds, slope, low,
    high (95 %), left_out (why it is in no mean), in_mean; means also have tau, q and q_p.
    """
    rows = [*_ours(all_series), *_published()]
    frame = pd.DataFrame(rows)
    return pd.concat([frame, pd.DataFrame(_means(frame))], ignore_index=True)


def _ours(all_series: list[Series]) -> Iterator[dict[str, Any]]:
    repeated = same_runs(all_series)
    for series in all_series:
        for rule in series.rules:
            values, positions, cells = series.by_seed(rule)
            gaps = values.to_numpy()
            if len(gaps) < LEAST_SEEDS or len(cells) < 2:
                continue
            fit = Slope.of(slopes(positions, gaps), slopes(positions, series.null_gaps(rule, gaps)))
            reason = f"the runs of {repeated[series].text}" if series in repeated else series.conditions
            reason = reason or ("two sizes" if len(cells) < LEAST_CELLS else "")
            yield {
                "study": series.text, "data": series.settings["data.name"], "unit": series.unit, "rule": rule,
                "unbiased": rule == series.gaps.unbiased, "sizes": len(cells), "seeds": len(gaps), "slope": fit.slope,
                "low": fit.low, "high": fit.high, "left_out": reason, "in_mean": not reason and series.unit == DECADE,
            }  # fmt: skip


def _published() -> Iterator[dict[str, Any]]:
    for name in published.names():
        rows = published.load(name)
        if "gap" not in rows:
            continue
        x = "pruner.sparsity" if "pruner.sparsity" in rows else "params"
        axes = [axis for axis in map(str, rows) if "." in axis and axis != x]
        for values, group in rows.groupby(axes) if axes else [((), rows)]:
            weights = coefficients(position(x, group[x]), np.ones(len(group)))
            slope = float(weights @ group["gap"])
            half_width = NORMAL * float(np.linalg.norm(weights * group.get("gap_band", math.nan)))
            conditions = {axis: v for axis, v in zip(axes, values, strict=True) if axis in CONDITIONS and v not in OFF}
            unit = DECADE if x == "params" else x
            reason = cell_label(conditions) or ("" if math.isfinite(half_width) else "no error published")
            text = ", ".join([f"published {name}", *(f"{value:g}" for value in conditions.values())])
            yield {
                "study": text, "data": published.data(name), "unit": unit, "rule": "published", "unbiased": False,
                "sizes": len(group), "slope": slope, "low": slope - half_width, "high": slope + half_width,
                "left_out": reason, "in_mean": not reason and unit == DECADE,
            }  # fmt: skip


def _means(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the mean slope for the protocol of the verdict, for each protocol, and for the published tables."""
    in_mean = frame[frame["in_mean"]]
    groups = [("unbiased", in_mean[in_mean["unbiased"]]), *in_mean.groupby("rule", sort=False)]
    for rule, rows in groups:
        if len(rows) > 1:
            # Standard errors come from intervals, which account for the uncertain noise of few seeds.
            mean = pooled(rows["slope"].to_numpy(), ((rows["high"] - rows["low"]) / 2 / NORMAL).to_numpy())
            yield {
                "study": MEAN, "data": ", ".join(dict.fromkeys(rows["data"])), "unit": rows["unit"].iloc[0],
                "rule": rule, "unbiased": rule == "unbiased", "sizes": len(rows), "slope": mean.mean,
                "low": mean.low, "high": mean.high, "left_out": "", "in_mean": False, "tau": mean.tau, "q": mean.q,
                "q_p": mean.p,
            }  # fmt: skip
