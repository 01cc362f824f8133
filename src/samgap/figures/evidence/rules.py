"""How often each protocol finds a trend in simulated studies like the real ones, with and without a true trend."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from samgap.figures.evidence.results import LEAST_CELLS, LEAST_SEEDS, Series, same_runs
from samgap.figures.gap.slopes import published_slope, spreads
from samgap.figures.significance import LEVEL, detectable, pages_l

STUDIES = 2_000  # each of them is compared with as many without effect


def table(several: list[Series]) -> pd.DataFrame:
    """A row for each protocol of each series with its own runs.

    Columns: study, rule, unbiased, sizes, seeds; rise and fall, the shares of studies without effect in which the trend
    test finds one, which should be 5 %; published, the slope over the sizes in common, and power, the share that finds
    it; found, the slope that 80 % find.
    """
    shared = same_runs(several)
    return pd.DataFrame([row for one in several if one not in shared for row in _of(one)])


def _of(one: Series) -> Iterator[dict[str, Any]]:
    for rule in one.rules:
        values, places, cells = one.by_seed(rule)
        gaps = values.to_numpy()
        if len(gaps) < LEAST_SEEDS or len(cells) < LEAST_CELLS:
            continue
        theirs = published_slope(one, cells, spreads(gaps)).slope
        studies = Studies(one.nothing(rule, gaps, 1)[:STUDIES], one.nothing(rule, gaps)[:STUDIES] / spreads(gaps))
        yield {
            "study": one.text, "rule": rule, "unbiased": rule == one.found.unbiased, "sizes": len(cells),
            "seeds": len(gaps), "rise": studies.rise(places, 0), "fall": studies.fall(), "published": theirs,
            "power": studies.rise(places, theirs) if theirs > 0 else math.nan, "found": studies.found(places),
        }  # fmt: skip


class Studies:
    """Studies without effect. Each has the critical values of its own trend test, which estimates the noise.

    Args:
        noise: gaps (studies, seeds, cells).
        unit: the same of other studies, with a standard deviation of 1 in each cell.
    """

    def __init__(self, noise: np.ndarray, unit: np.ndarray) -> None:
        self.noise = noise
        beyond = math.ceil(LEVEL * (len(unit) + 1)) - 1  # with so many as large, p is the level
        limits = [np.sort(pages_l(unit * spreads(one).astype(np.float32)))[[-beyond, beyond - 1]] for one in noise]
        self.high, self.low = np.array(limits).T

    def rise(self, places: np.ndarray, slope: float) -> float:
        """The share of studies that find a rise if the true slope is `slope`."""
        rising = (np.float32(slope) * (places - places.mean())).astype(np.float32)
        return float((pages_l(self.noise + rising) > self.high).mean())

    def fall(self) -> float:
        """The share of studies that find a fall."""
        return float((pages_l(self.noise) < self.low).mean())

    def found(self, places: np.ndarray) -> float:
        """The slope that 80 % find; nan if there is none."""
        return detectable(functools.partial(self.rise, places), 1e-3, 1e6)
