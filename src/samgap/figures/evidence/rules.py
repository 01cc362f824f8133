"""Error rates and power: how often each protocol finds a trend in simulated studies with our noise."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.evidence.results import LEAST_CELLS, LEAST_SEEDS, Series, same_runs
from samgap.figures.gap.slopes import published_slope, spreads
from samgap.figures.significance import LEVEL, detectable, pages_l

STUDIES = 2_000  # each has critical values from another 2,000 studies without effect


def table(all_series: list[Series]) -> pd.DataFrame:
    """Return a row for each protocol of each series, without series that repeat the runs of another.

    Columns: study, rule, unbiased, sizes, seeds; rise and fall, the rates of false positives in studies without effect,
    which should be 5 %; published, the slope over the sizes in common, nan if fewer than two are; power, the share that
    finds it; found, the slope that 80 % find.
    """
    repeated = same_runs(all_series)
    return pd.DataFrame([row for series in all_series if series not in repeated for row in _of(series)])


def _of(series: Series) -> Iterator[dict[str, Any]]:
    for rule in series.rules:
        values, positions, cells = series.by_seed(rule)
        gaps = values.to_numpy()
        if len(gaps) < LEAST_SEEDS or len(cells) < LEAST_CELLS:
            continue
        published = published_slope(series, cells, spreads(gaps))
        slope = published.slope if published.shared else math.nan
        noise, unit = series.null_gaps(rule, gaps, 1), series.null_gaps(rule, gaps) / spreads(gaps)
        studies = Studies(noise[:STUDIES], unit[:STUDIES])
        yield {
            "study": series.text, "rule": rule, "unbiased": rule == series.gaps.unbiased, "sizes": len(cells),
            "seeds": len(gaps), "rise": studies.rise(positions, 0), "fall": studies.fall(), "published": slope,
            "power": studies.rise(positions, slope) if slope > 0 else math.nan,
            "found": studies.detectable_slope(positions),
        }  # fmt: skip


class Studies:
    """Simulated studies without effect. Each has its own critical values, from the noise that its gaps show.

    Args:
        noise: gaps (studies, seeds, cells).
        unit: gaps of other studies, of the same shape, with a standard deviation of 1 in each cell.
    """

    def __init__(self, noise: np.ndarray, unit: np.ndarray) -> None:
        self.noise = noise
        count = math.ceil(LEVEL * (len(unit) + 1)) - 1  # p = count / (1 + studies) is just below the level
        limits = [np.sort(pages_l(unit * spreads(gaps).astype(np.float32)))[[-count, count - 1]] for gaps in noise]
        self.high, self.low = np.array(limits).T

    def rise(self, positions: np.ndarray, slope: float) -> float:
        """Return the share of studies that find a rise if the true slope is `slope`."""
        rising = (np.float32(slope) * (positions - positions.mean())).astype(np.float32)
        return float((pages_l(self.noise + rising) > self.high).mean())

    def fall(self) -> float:
        """Return the share of studies that find a fall."""
        return float((pages_l(self.noise) < self.low).mean())

    def detectable_slope(self, positions: np.ndarray) -> float:
        """Return the slope that 80 % of studies find; nan if there is none."""
        return detectable(functools.partial(self.rise, positions), 1e-3, 1e6)
